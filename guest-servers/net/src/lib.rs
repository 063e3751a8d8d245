//! The network server's logic: interfaces, routes, sockets. No system calls here; time, randomness
//! and frames come from outside, so that a host test can join two stacks by a wire.
//!
//! ```text
//!  service (messages, waiting callers) ── Stack ─┬─ sockets: tcp udp icmp packet unix
//!                                                ├─ routes, resolver, configuration
//!                                                ├─ Netif ── smoltcp ── Port ── Link (rings | loopback)
//!                                                └─ Lasting: records and memory for the next instance
//! ```
//! Every interface has a smoltcp interface and socket set of its own, so that ARP, neighbour discovery
//! and SLAAC are its own too. A socket that is bound to no interface's address has one smoltcp socket in
//! each.
//!
//! This server's own death ends none of its connections: see [`lasting`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod address;
mod common;
pub mod configure;
mod flood;
mod handles;
mod icmp;
pub mod kept;
pub mod lasting;
pub mod link;
mod neighbours;
mod netif;
mod offload;
mod packet;
mod port;
mod ports;
mod query;
mod reassembly;
pub mod resolver;
pub mod retry;
pub mod rings;
pub mod route;
pub mod settle;
pub mod socket;
pub mod stack;
mod tcp;
mod udp;
mod unix;

#[cfg(test)]
mod tests;

pub use stack::Stack;
