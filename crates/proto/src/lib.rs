//! etcd's v3 messages, and a few of Vlot's own (`vlotpb`), as Rust types, generated from the `.proto` files in `proto/`.
//!
//! The generated files are committed, so that building Vlot needs no generator. After a change to a `.proto` file,
//! `VLOT_REGENERATE=1 cargo test -p vlot-proto` writes them anew; without the variable the same test fails when they
//! are out of date.
#![allow(missing_docs, reason = "generated from the .proto files, which carry the comments")]

pub mod descriptors;
pub mod txn;

pub mod authpb {
    include!("generated/authpb.rs");
}
pub mod etcdserverpb {
    include!("generated/etcdserverpb.rs");
}
pub mod health {
    include!("generated/grpc.health.v1.rs");
}
pub mod mvccpb {
    include!("generated/mvccpb.rs");
}
pub mod v3electionpb {
    include!("generated/v3electionpb.rs");
}
pub mod v3lockpb {
    include!("generated/v3lockpb.rs");
}
pub mod vlotpb {
    include!("generated/vlotpb.rs");
}
