//! What nodes say to each other, over every transport that ships: real sockets on loopback, and in memory.

mod conformance;
mod disks;
mod frames;
mod handshakes;
mod links;
mod pages;
mod snapshots;
mod support;
mod unlisted;
mod world;
