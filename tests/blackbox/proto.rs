//! The messages and the client side of everything in `proto`.

#![allow(dead_code, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]

include!(concat!(env!("OUT_DIR"), "/client/grpc.rs"));

pub mod io {
    pub mod cloudevents {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/client/io.cloudevents.v1.rs"));
        }
    }
}

pub mod google {
    pub mod rpc {
        include!(concat!(env!("OUT_DIR"), "/client/google.rpc.rs"));
    }
}

pub mod eventsdb {
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/client/eventsdb.v1.rs"));
    }
}

/// The descriptors of the files.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
