//! The log's memory: the last [`RING_LEN`] bytes of text, by position.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod ring;

pub use ring::{RING_LEN, Readers, Ring};
