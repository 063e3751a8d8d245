//! The procfs service.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::info::{InterruptInfo, Kind, ProcessInfo, SystemInfo};
use xinim_abi::interface::Name;
use xinim_abi::services::block::{UNITS_MAX, block, identity, info, op};
use xinim_block_client::disk::block_drivers;
use xinim_block_client::names;
use xinim_procfs::{DiskReport, ProcFs, System};
use xinim_rt::ipc::Service;
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

    fn disks(&mut self) -> Vec<DiskReport> {
        let (mut reports, mut optical) = (Vec::new(), 0);
        for label in block_drivers().unwrap_or_default() {
            let Ok(name) = Name::new(&label) else { continue };
            let service = Service::with_name(name);
            let present = service.call(&block::Units {}).map_or(0, |units| units.present);
            for unit in (0..UNITS_MAX).filter(|unit| present & 1 << unit != 0) {
                // One that is torn away just now is left out.
                if let Ok(report) = report(&service, &label, unit, &mut optical) {
                    reports.push(report);
                }
            }
        }
        reports
    }

    fn now(&mut self) -> u64 {
        kip::wall_clock_ns()
    }
}

fn report(service: &Service, label: &str, unit: u32, optical: &mut u32) -> Result<DiskReport> {
    let about = service.call(&block::Info { unit })?;
    let name = match about.flags & info::CD_ROM {
        0 => names::disk_name(label, unit).ok_or(Error::NoEnt)?,
        _ => {
            *optical += 1;
            names::optical_name(*optical - 1)
        }
    };
    let text = |what| {
        let reply = service.call(&block::Identity { unit, what })?;
        Ok(String::from(reply.text.as_str()))
    };
    let statistics = (0..op::COUNT).map(|what| service.call(&block::Statistics { unit, what }));
    Ok(DiskReport {
        number: names::number(&name)?,
        name,
        info: about,
        limits: service.call(&block::Limits { unit })?,
        model: text(identity::MODEL)?,
        serial: text(identity::SERIAL)?,
        statistics: statistics.collect::<Result<_>>()?,
    })
}

fn main() -> i32 {
    xinim_fs_server::run(ProcFs::new(Kernel))
}
