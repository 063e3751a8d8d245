use std::string::String;
use std::vec;
use std::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::info::{InterruptInfo, ProcessInfo, SystemInfo, state};
use xinim_abi::services::block::{block, op};
use xinim_abi::services::fs::mounted;
use xinim_abi::services::rs::query;
use xinim_abi::services::vfs::{mode, report};
use xinim_fs_kit::conformance::list;
use xinim_fs_kit::{DirBuffer, FileSystem, entries};

use crate::{DiskReport, ProcFs, System};

const ROOT: u64 = 1;

struct Fake {
    pids: Vec<u32>,
    uptime: u64,
}

impl System for Fake {
    fn system(&mut self) -> Result<SystemInfo> {
        self.uptime += 1_000_000_000;
        Ok(SystemInfo {
            frames_total: 1000,
            frames_free: 250,
            uptime_ns: self.uptime,
            idle_ns: 10_000_000,
            system_calls: 77,
            ..SystemInfo::default()
        })
    }
    fn process(&mut self, pid: u64) -> Result<ProcessInfo> {
        let pid = *self.pids.iter().find(|&&p| u64::from(p) >= pid).ok_or(Error::NoEnt)?;
        let mut name = [0; 32];
        name[..5].copy_from_slice(b"shell");
        Ok(ProcessInfo {
            pid,
            parent: 1,
            frames: 3,
            state: state::SLEEPING,
            name,
            ..ProcessInfo::default()
        })
    }
    fn interrupt(&mut self, vector: u64) -> Result<InterruptInfo> {
        match vector {
            0..=33 => Ok(InterruptInfo { vector: 33, gsi: 4, pid: 7, count: 12, reserved: 0 }),
            34..=48 => {
                Ok(InterruptInfo { vector: 48, gsi: u32::MAX, pid: 9999, count: 5, reserved: 0 })
            }
            _ => Err(Error::NoEnt),
        }
    }
    fn query(&mut self, kind: u32) -> Result<String> {
        match kind {
            query::LIST => {
                Ok("vfs\trunning\t5\t0\tvfs\t-\nahci\trunning\t6\t1\tahci\t00:1f.2\n".into())
            }
            query::STATISTICS => {
                Ok("vfs\trunning\t5\t1\t1\t900\t900\t20\t7\t64\t3\t0\tfault 1\n".into())
            }
            query::CLASSES => Ok("net\te1000\nblock\tahci\n".into()),
            _ => Err(Error::NoEnt),
        }
    }
    fn cmdline(&mut self) -> String {
        "mode=exec".into()
    }
    fn disks(&mut self) -> Vec<DiskReport> {
        let statistics = |what: u32| block::StatisticsReply {
            requests: u64::from(what) + 10,
            bytes: 4096 * (u64::from(what) + 10),
            errors: 0,
            time_ns: 7_000_000,
            in_flight: 2,
            busy_ns: 30_000_000,
        };
        vec![DiskReport {
            name: "sdb".into(),
            number: (8, 16),
            info: block::InfoReply {
                sectors: 4096,
                block_size: 512,
                flags: 2,
                max_bytes: 65536,
                depth: 32,
                instance: 1,
            },
            limits: block::LimitsReply {
                physical_block: 4096,
                discard_granule: 512,
                max_discard: 1 << 20,
                max_zeroes: 0,
                rotation: 1,
            },
            model: "A disk".into(),
            serial: "S1".into(),
            statistics: (0..op::COUNT).map(statistics).collect(),
        }]
    }
    fn now(&mut self) -> u64 {
        5
    }
}

fn procfs() -> ProcFs<Fake> {
    let mut fs = ProcFs::new(Fake { pids: vec![1, 7, 300], uptime: 0 });
    let info = fs.mount("procfs", 0).unwrap();
    assert_eq!((info.root, info.flags), (ROOT, mounted::VOLATILE | mounted::REPORTS));
    fs
}

fn read(fs: &mut ProcFs<Fake>, path: &str) -> Result<String> {
    let ino = path
        .split('/')
        .try_fold(ROOT, |dir, name| fs.lookup(dir, name.as_bytes()).map(|stat| stat.ino))?;
    let mut text = Vec::new();
    let mut piece = [0; 10];
    loop {
        match fs.read(ino, text.len() as u64, &mut piece)? {
            0 => return Ok(String::from_utf8(text).unwrap()),
            count => text.extend(&piece[..count]),
        }
    }
}

#[test]
fn texts() {
    let mut fs = procfs();
    let meminfo = read(&mut fs, "meminfo").unwrap();
    assert!(meminfo.contains("MemTotal:            4000 kB\n"), "{meminfo}");
    assert!(meminfo.contains("MemFree:             1000 kB\n"), "{meminfo}");
    assert_eq!(read(&mut fs, "cmdline").unwrap(), "mode=exec\n");
    assert!(read(&mut fs, "stat").unwrap().contains("system_calls 77\n"));
    assert!(read(&mut fs, "services").unwrap().starts_with("vfs\trunning\t5\t1\t1\t900\t"));
    assert_eq!(read(&mut fs, "pci"), Err(Error::NoEnt), "RS's error is passed on");
    let interrupts = read(&mut fs, "interrupts").unwrap();
    let lines: Vec<Vec<&str>> =
        interrupts.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["33", "gsi", "4", "12", "shell"]);
    assert_eq!(lines[2], ["48", "msi", "5", "-"]);
}

#[test]
fn processes() {
    let mut fs = procfs();
    assert_eq!(read(&mut fs, "7/name").unwrap(), "shell\n");
    let status = read(&mut fs, "300/status").unwrap();
    for line in ["Name:\tshell", "Pid:\t300", "PPid:\t1", "State:\tS (sleeping)", "VmRSS:\t12 kB"] {
        assert!(status.lines().any(|l| l == line), "{line} in {status}");
    }
    for wrong in ["8", "07", "+7", "7x", "99999999999", "7/nothing"] {
        assert_eq!(read(&mut fs, wrong), Err(Error::NoEnt), "{wrong}");
    }
    let seven = fs.lookup(ROOT, b"7").unwrap().ino;
    fs = ProcFs::new(Fake { pids: vec![1], uptime: 0 });
    assert_eq!(fs.attributes(seven).err(), Some(Error::NoEnt), "the process is gone");
    assert_eq!(fs.lookup(seven, b"name").err(), Some(Error::NoEnt));
}

#[test]
fn one_read_is_of_one_moment() {
    let mut fs = procfs();
    // Each look at the system moves its clock; in pieces of ten bytes there is one look.
    assert_eq!(read(&mut fs, "uptime").unwrap(), "1.00 0.01\n");
    assert_eq!(read(&mut fs, "uptime").unwrap(), "2.00 0.01\n");
}

#[test]
fn directories() {
    let mut fs = procfs();
    for piece in [300, 4096] {
        let names = list(&mut fs, ROOT, piece).unwrap();
        assert_eq!(names.len(), 15 + 3);
        let dirs: Vec<&[u8]> = names
            .iter()
            .filter(|entry| entry.2 == mode::DIRECTORY)
            .map(|entry| entry.0.as_slice())
            .collect();
        assert_eq!(dirs, [&b"1"[..], b"300", b"7"]);
    }
    let seven = fs.lookup(ROOT, b"7").unwrap().ino;
    let names = list(&mut fs, seven, 4096).unwrap();
    assert_eq!(names.len(), 2);
    for (name, ino, _) in names {
        assert_eq!(fs.lookup(seven, &name).map(|s| s.ino), Ok(ino));
    }
    let mut buffer = DirBuffer::new(4096);
    fs.read_dir(ROOT, u64::MAX, &mut buffer).unwrap();
    assert_eq!(entries(buffer.bytes()).count(), 0);
}

#[test]
fn nothing_can_be_changed() {
    let mut fs = procfs();
    let uptime = fs.lookup(ROOT, b"uptime").unwrap().ino;
    assert_eq!(fs.write(uptime, 0, b"1"), Err(Error::Perm));
    assert_eq!(
        fs.create(ROOT, b"x", &xinim_fs_kit::NewFile::new(mode::REGULAR)).err(),
        Some(Error::Perm)
    );
    assert_eq!(fs.unlink(ROOT, b"uptime", false), Err(Error::Perm));
    assert_eq!(fs.read_dir(uptime, 0, &mut DirBuffer::new(100)), Err(Error::NotDir));
    for ino in [0, 200, u64::MAX, 1 << 40 | 7 << 8 | 9] {
        assert!(fs.attributes(ino).is_err(), "{ino:#x}");
        assert!(fs.read(ino, 0, &mut [0; 4]).is_err(), "{ino:#x}");
    }
}

#[test]
fn drivers_and_what_vfs_tells() {
    let mut fs = procfs();
    let read = |fs: &mut ProcFs<Fake>, name: &[u8]| {
        let ino = fs.lookup(ROOT, name).unwrap().ino;
        let mut text = vec![0; 4096];
        let count = fs.read(ino, 0, &mut text).unwrap();
        String::from_utf8(text[..count].to_vec()).unwrap()
    };
    assert_eq!(read(&mut fs, b"drivers"), "00:1f.2 ahci running 6 1\n");
    assert_eq!(read(&mut fs, b"locks"), "");
    fs.tell(report::LOCKS, b"a lock\n").unwrap();
    fs.tell(report::MOUNTS, b"a mount\n").unwrap();
    assert_eq!(
        (read(&mut fs, b"locks"), read(&mut fs, b"mounts")),
        ("a lock\n".into(), "a mount\n".into())
    );
}

#[test]
fn disks_as_linux_lists_them() {
    let mut fs = procfs();
    // 3 columns of names, 11 of reads, writes and time, 4 of discards, 2 of flushes.
    let expected = "   8      16 sdb 10 0 80 7 11 0 88 7 2 30 35 13 0 104 7 12 7\n";
    assert_eq!(read(&mut fs, "diskstats").as_deref(), Ok(expected));
    let text = read(&mut fs, "disks").unwrap();
    assert!(text.starts_with("sdb: sectors=4096 block=512 physical=4096 ro=0 cache=1 "), "{text}");
    assert!(text.ends_with(" rpm=1 model=A\\x20disk serial=S1\n"), "{text}");
}
