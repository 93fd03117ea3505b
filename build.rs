//! Turns `proto/` into Rust, without a protobuf compiler on the machine.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    for file in ["eventsdb.proto", "io/cloudevents/v1/cloudevents.proto"] {
        compiler.open_file(file)?;
    }
    // Server reflection answers with these descriptors.
    fs::write(out_dir.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let descriptors = compiler.file_descriptor_set();
    tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        // Its events are encoded already.
        .extern_path(".grpc.EventsFromSubjectReply", "crate::adapters::grpc::reply::EncodedReply")
        .compile_fds(descriptors.clone())?;
    // Only the tests are a client.
    let client_dir = out_dir.join("client");
    fs::create_dir_all(&client_dir)?;
    tonic_prost_build::configure().build_server(false).bytes(".").out_dir(client_dir).compile_fds(descriptors)?;
    Ok(())
}
