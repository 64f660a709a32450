//! What nodes say to each other, over every transport that ships, real sockets on loopback and
//! in memory, and with TLS on each.

mod certificates;
mod conformance;
mod disks;
mod frames;
mod handshakes;
mod hostile;
mod links;
mod pages;
mod snapshots;
mod support;
mod tls;
mod unlisted;
mod world;
