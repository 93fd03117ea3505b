//! Ctrl-C and its relatives: noted here, obeyed at the next wait, so that every guard still cleans up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

static RECEIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Notes SIGINT, SIGTERM and SIGHUP instead of dying of them; a second one of a kind ends the process at once.
pub(crate) fn listen() -> Result<()> {
    let received = RECEIVED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let number = usize::try_from(signal).context("signal numbers are positive")?;
        let repeated = Arc::new(AtomicBool::new(false));
        // The order matters: the first signal finds `repeated` unset and sets it, the second one finds it set.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&repeated))?;
        flag::register(signal, repeated)?;
        flag::register_usize(signal, Arc::clone(received), number)?;
    }
    Ok(())
}

/// Whether a signal asked this process to end.
pub(crate) fn requested() -> bool {
    signal() != 0
}

/// Fails if a signal asked this process to end.
pub(crate) fn check() -> Result<()> {
    if requested() {
        bail!("interrupted");
    }
    Ok(())
}

/// The exit code that names the signal, if there was one.
pub(crate) fn exit_code() -> Option<u8> {
    u8::try_from(signal()).ok().filter(|signal| *signal != 0).map(|signal| signal.saturating_add(128))
}

fn signal() -> usize {
    RECEIVED.get().map_or(0, |received| received.load(Ordering::SeqCst))
}
