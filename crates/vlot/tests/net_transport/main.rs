//! The peers' transport over real sockets on loopback.

mod frames;
mod guests;
mod handshakes;
mod links;
mod support;
