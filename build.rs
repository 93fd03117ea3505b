//! Turns `proto/` into Rust, without a protobuf compiler on the machine.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// The package of the messages that every interface shares.
const CLOUD_EVENTS: &str = "io.cloudevents.v1";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    for file in ["eventsdb.proto", "eventsdb/v1/event_store.proto", "cloud_event_service.proto"] {
        compiler.open_file(file)?;
    }
    // Server reflection answers with these descriptors.
    fs::write(out_dir.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let descriptors = compiler.file_descriptor_set();
    // CloudEvents first, which every interface shares; the others refer to them.
    let cloudevents_dir = out_dir.join("cloudevents");
    fs::create_dir_all(&cloudevents_dir)?;
    let cloudevents = FileDescriptorSet { file: of_package(&descriptors, CLOUD_EVENTS) };
    tonic_prost_build::configure().build_client(false).bytes(".").out_dir(cloudevents_dir).compile_fds(cloudevents)?;
    tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        .extern_path(".io.cloudevents.v1", "crate::adapters::cloudevents::proto")
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        // Their events are encoded already.
        .extern_path(".grpc.EventsFromSubjectReply", "crate::adapters::grpc::reply::EncodedReply")
        .extern_path(".eventsdb.v1.ReadResponse", "crate::adapters::grpc::event_store::messages::ReadResponse")
        .extern_path(
            ".eventsdb.v1.SubscribeResponse",
            "crate::adapters::grpc::event_store::messages::SubscribeResponse",
        )
        .compile_fds(descriptors.clone())?;
    // Only the tests are a client.
    let client_dir = out_dir.join("client");
    fs::create_dir_all(&client_dir)?;
    tonic_prost_build::configure().build_server(false).bytes(".").out_dir(client_dir).compile_fds(descriptors)?;
    Ok(())
}

/// The files of `package`, with what they need from `google.protobuf`.
fn of_package(descriptors: &FileDescriptorSet, package: &str) -> Vec<FileDescriptorProto> {
    let wanted = |file: &&FileDescriptorProto| [package, "google.protobuf"].contains(&file.package());
    descriptors.file.iter().filter(wanted).cloned().collect()
}
