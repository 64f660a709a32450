//! Protobuf's JSON notation: from JSON to a message's bytes and back, by the tables of `vlot_proto::descriptors`.
//!
//! Owns the notation, and the words of its errors, which are those that etcd's gateway sends. No message is built in
//! between: a request is written as protobuf while it is read, a reply is written as JSON as its bytes come. Must not know
//! HTTP, or what any message means.

mod base64;
mod decode;
mod encode;
mod number;
mod quote;
mod scan;
mod token;

pub(crate) use decode::decode;
pub(crate) use encode::{Encoder, NotTheMessage, encode};
pub(crate) use quote::push_string;
pub(crate) use scan::{Found, Scanner};

#[cfg(test)]
mod tests;
