//! The procfs service.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;

use xinim_abi::error::Result;
use xinim_abi::info::{InterruptInfo, Kind, ProcessInfo, SystemInfo};
use xinim_procfs::{ProcFs, System};
use xinim_rt::{kip, sys};

xinim_rt::program!(main);

struct Kernel;

impl System for Kernel {
    fn system(&mut self) -> Result<SystemInfo> {
        sys::info(Kind::System, 0)
    }

    fn process(&mut self, pid: u64) -> Result<ProcessInfo> {
        sys::info(Kind::Process, pid)
    }

    fn interrupt(&mut self, vector: u64) -> Result<InterruptInfo> {
        sys::info(Kind::Interrupt, vector)
    }

    fn query(&mut self, kind: u32) -> Result<String> {
        xinim_rt::rs::query(kind, "")
    }

    fn cmdline(&mut self) -> String {
        String::from(kip::cmdline())
    }

    fn now(&mut self) -> u64 {
        kip::wall_clock_ns()
    }
}

fn main() -> i32 {
    xinim_fs_server::run(ProcFs::new(Kernel))
}
