//! Everything two sides of XINIM must agree on.
//!
//! * kernel and user programs: [`syscall`], [`ipc`], [`object`], [`error`], [`kip`], [`start`],
//!   [`event`], [`info`];
//! * service and service: [`interface`] (how an interface is declared) and [`services`];
//! * guest and machine: [`platform`] (memory map, ports, exit device, trace page), [`trace`] (the
//!   guest's own events), [`hostlink`]
//!   (the byte protocol behind `--exec`), [`exit`] (process exit statuses), [`elf_core`] (core files),
//!   [`debug`] (the kernel's threads as seen from outside);
//! * driver and device model: [`hw`].
//!
//! The crate is `no_std`, allocates nothing and contains no policy.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod debug;
pub mod elf_core;
pub mod error;
pub mod event;
pub mod exit;
pub mod hostlink;
pub mod hw;
pub mod info;
pub mod interface;
pub mod ipc;
pub mod kip;
pub mod object;
pub mod platform;
pub mod services;
pub mod start;
pub mod syscall;
pub mod trace;
