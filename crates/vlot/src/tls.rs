//! What [`Tls`](crate::Tls) is made of: files, which certificates are good, and which names they may have.

pub use crate::net::Speaks;
pub use vlot_tls::{
    Certificate, Client, FileError, KeyPairFiles, NameRule, ProtocolError, Protocols, Roots, ServerCheck, Verify,
    Version, make,
};
