//! The peers' transport over real sockets on loopback.

mod disks;
mod frames;
mod handshakes;
mod links;
mod pages;
mod snapshots;
mod support;
mod unlisted;
