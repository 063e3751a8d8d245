//! Client side of the block interface.
#![no_std]
