//! Block devices: `/proc/diskstats` in the columns of Linux (admin-guide/iostats) and `/proc/disks`,
//! what each is.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use xinim_abi::services::block::block::{InfoReply, LimitsReply, StatisticsReply};
use xinim_abi::services::block::{info, op};

/// A unit of a block driver.
#[derive(Clone, Debug)]
pub struct DiskReport {
    /// In /dev.
    pub name: String,
    /// Major and minor.
    pub number: (u32, u32),
    pub info: InfoReply,
    pub limits: LimitsReply,
    pub model: String,
    pub serial: String,
    /// By operation of `block::op`.
    pub statistics: Vec<StatisticsReply>,
}

pub(crate) fn diskstats(disks: &[DiskReport]) -> String {
    let mut text = String::new();
    let ms = |ns: u64| ns / 1_000_000;
    for disk in disks {
        let (major, minor) = disk.number;
        let _ = write!(text, "{major:4} {minor:7} {}", disk.name);
        let of = |what: u32| disk.statistics.get(what as usize).copied();
        let columns = |what: u32| {
            let counts = of(what);
            // Merging happens in the clients; drivers see the merged requests.
            let merged = 0;
            counts.map_or([0; 4], |counts| {
                [counts.requests, merged, counts.bytes / 512, ms(counts.time_ns)]
            })
        };
        let time: u64 = disk.statistics.iter().map(|counts| ms(counts.time_ns)).sum();
        let (in_flight, busy) = of(op::READ).map_or((0, 0), |c| (c.in_flight, ms(c.busy_ns)));
        let flush = of(op::FLUSH).map_or([0; 2], |c| [c.requests, ms(c.time_ns)]);
        let all = columns(op::READ).into_iter().chain(columns(op::WRITE));
        let all = all.chain([in_flight.into(), busy, time]);
        for value in all.chain(columns(op::DISCARD)).chain(flush) {
            let _ = write!(text, " {value}");
        }
        text.push('\n');
    }
    text
}

pub(crate) fn disks(disks: &[DiskReport]) -> String {
    let mut text = String::new();
    let word = |text: &str| text.replace(' ', "\\x20");
    for disk in disks {
        let (info, limits) = (&disk.info, &disk.limits);
        let flag = |bit: u32| u32::from(info.flags & bit != 0);
        let _ = write!(text, "{}: sectors={} block={}", disk.name, info.sectors, info.block_size);
        for (name, value) in [
            ("physical", limits.physical_block),
            ("ro", flag(info::READ_ONLY)),
            ("cache", flag(info::WRITE_CACHE)),
            ("fua", flag(info::FUA)),
            ("rotational", flag(info::ROTATIONAL)),
            ("removable", flag(info::REMOVABLE)),
            ("optical", flag(info::CD_ROM)),
            ("depth", info.depth),
            ("max", info.max_bytes),
            ("discard", limits.max_discard),
            ("zeroes", limits.max_zeroes),
            ("rpm", limits.rotation),
        ] {
            let _ = write!(text, " {name}={value}");
        }
        text.push_str(&format!(" model={} serial={}\n", word(&disk.model), word(&disk.serial)));
    }
    text
}
