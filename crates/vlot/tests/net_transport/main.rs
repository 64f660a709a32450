//! The peers' transport over real sockets on loopback.

mod frames;
mod handshakes;
mod links;
mod support;
