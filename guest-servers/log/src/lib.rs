//! The log's memory: the last [`RING_LEN`] bytes of text, by position; and how it outlives the server.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod kept;
mod ring;

pub use kept::{keep_rest, keep_text, restore};
pub use ring::{RING_LEN, Readers, Ring};
