//! Where the systems are that this server is compared with.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::{Outcome, machine};

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The address in the variable `name`.
pub(crate) fn address(name: &str) -> Outcome<SocketAddr> {
    let url = url::Url::parse(&machine::variable(name)?)?;
    let addresses = url.socket_addrs(|| None)?;
    Ok(*addresses.first().ok_or("a URL needs a host and a port")?)
}

/// Sends `request` over a connection of its own and reads until the answer `is_whole`.
pub(crate) fn ask(address: SocketAddr, request: &[u8], is_whole: fn(&str) -> bool) -> Outcome<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer);
        if is_whole(&text) {
            return Ok(text.into_owned());
        }
        if count == 0 {
            return Err("the server closed the connection".into());
        }
    }
}
