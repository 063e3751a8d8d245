//! The front of `xinim-vmm`: command line and configuration, the host's side of `--exec`, the
//! terminal, the embedded system image, the QEMU engine, `doctor` and `bench`.
//!
//! A run goes: [`cli`] and [`config`] make a [`config::RunConfig`]; [`run`] turns it into an
//! engine and a [`xinim_machine::MachineSpec`], connects the machine's byte streams to the
//! outside and makes an exit status of how it ended. Nothing in here knows how a guest
//! instruction is executed.
#![deny(unsafe_code)]

pub mod cli;
pub mod config;
pub mod console;
pub mod control;
pub mod cpio;
pub mod debug_console;
pub mod error;
pub mod exec;
pub mod image;
pub mod kernel;
pub mod spec;
pub mod stream;
pub mod terminal;
