//! The peers' transport over real sockets on loopback.

mod disks;
mod frames;
mod guests;
mod handshakes;
mod links;
mod snapshots;
mod support;
