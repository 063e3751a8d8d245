//! The procfs service.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::Result;
use xinim_abi::info::{InterruptInfo, Kind, ProcessInfo, SystemInfo};
use xinim_abi::interface::Name;
use xinim_abi::services::block::block;
use xinim_procfs::{ProcFs, System};
use xinim_rt::ipc::Service;
use xinim_rt::{kip, sys};

xinim_rt::program!(main);

#[derive(Default)]
struct Kernel {
    /// Block drivers asked so far.
    drivers: Vec<Service>,
}

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

    fn disk(&mut self, label: &str, unit: u32, what: u32) -> Option<block::StatisticsReply> {
        let name = Name::new(label).ok()?;
        let driver = match self.drivers.iter().find(|driver| driver.label() == name) {
            Some(driver) => driver,
            None => {
                self.drivers.push(Service::with_name(name));
                self.drivers.last()?
            }
        };
        let present = driver.call(&block::Units {}).ok()?.present;
        if unit >= u32::BITS || present & 1 << unit == 0 {
            return None;
        }
        driver.call(&block::Statistics { unit, what }).ok()
    }

    fn cmdline(&mut self) -> String {
        String::from(kip::cmdline())
    }

    fn now(&mut self) -> u64 {
        kip::wall_clock_ns()
    }
}

fn main() -> i32 {
    xinim_fs_server::run(ProcFs::new(Kernel::default()))
}
