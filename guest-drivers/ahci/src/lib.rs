//! AHCI driver (Serial ATA AHCI 1.3.1): SATA disks and CD-ROMs at the ports of one HBA.
//!
//! ```text
//! clients' shared rings --> xinim_block_service --> hba::Hba --> port::Port, one for each port
//!   (services::block;        checks, fairness        hand-off,     link, probing, recovery
//!    unit = port)                                    reset,          |  drive::Drive    IDENTIFY judged
//!                                                    interrupts      |  command         requests as commands
//!                                                                    `- memory          lists, tables, FISes
//! ```
//! This library is the driver's logic: no system calls, no `unsafe`, over the traits of
//! `xinim_driver_kit`. `main.rs` starts it and hands it to the block service's server.
//!
//! Not here: port multipliers, enclosure management, link power management (it is kept off), command
//! completion coalescing, security. Memory of clients above 4 GiB is refused where the HBA has no
//! 64-bit addresses: nothing is copied.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod command;
pub mod drive;
mod error;
pub mod hba;
pub mod memory;
pub mod port;

pub use error::HbaError;
pub use hba::Hba;
