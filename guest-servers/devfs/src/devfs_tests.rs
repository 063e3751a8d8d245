use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::object::Handle;
use xinim_abi::services::vfs::mode;
use xinim_fs_kit::conformance::list;
use xinim_fs_kit::{DirBuffer, FileSystem, SetAttributes};

use crate::raw_tests::MemoryDisk;
use crate::table::ROOT;
use crate::{DevFs, Platform, Random, UnitInfo};

struct Fake {
    units: Vec<UnitInfo>,
    /// Contents of every disk.
    image: Vec<u8>,
    opened: u32,
}

impl Platform for Fake {
    type Disk = MemoryDisk;
    fn units(&mut self) -> Vec<UnitInfo> {
        self.units.clone()
    }
    fn open_disk(&mut self, _: &str, _: u32) -> Result<MemoryDisk> {
        self.opened += 1;
        let disk = MemoryDisk::new(self.image.len() as u64 / 512, 512, 65_536);
        disk.bytes.borrow_mut().copy_from_slice(&self.image);
        Ok(disk)
    }
    fn endpoint(&mut self, label: &str) -> Result<Handle> {
        match label {
            "tty" => Ok(40),
            "virtio-console" => Ok(41),
            _ => Err(Error::NxIo),
        }
    }
    fn now(&mut self) -> u64 {
        1
    }
}

/// 256 sectors with an MBR: partition 1 at sector 8, 16 sectors long; 3 at 32, 64 long.
fn image() -> Vec<u8> {
    let mut image = vec![0; 256 * 512];
    for (slot, start, sectors) in [(0, 8u32, 16u32), (2, 32, 64)] {
        let at = 446 + slot * 16;
        image[at + 4] = 0x0C;
        image[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        image[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    }
    image[510..512].copy_from_slice(&[0x55, 0xAA]);
    image[8 * 512] = 0xA1;
    image
}

fn unit(label: &str, unit: u32) -> UnitInfo {
    UnitInfo {
        label: label.into(),
        pid: 9,
        unit,
        instance: 1,
        sectors: 256,
        optical: false,
        model: "A disk".into(),
        serial: format!("S{unit}"),
    }
}

fn devfs(drivers: &[&'static str]) -> DevFs<Fake> {
    let units = drivers.iter().map(|label| unit(label, 0)).collect();
    let platform = Fake { units, image: image(), opened: 0 };
    let mut fs = DevFs::new(platform, Random::new([3; 8]));
    assert_eq!(fs.mount("devfs", 0).unwrap().root, ROOT);
    fs
}

fn ino(fs: &mut DevFs<Fake>, name: &str) -> u64 {
    fs.lookup(ROOT, name.as_bytes()).unwrap().ino
}

#[test]
fn small_devices() {
    let mut fs = devfs(&[]);
    let mut buffer = [7; 100];
    let null = ino(&mut fs, "null");
    assert_eq!(fs.read(null, 0, &mut buffer), Ok(0));
    assert_eq!(fs.write(null, 0, &buffer), Ok(100));
    let zero = ino(&mut fs, "zero");
    let mut long = vec![7; 10_000];
    assert_eq!(fs.read(zero, 5, &mut long), Ok(10_000));
    assert!(long.iter().all(|&byte| byte == 0));
    let full = ino(&mut fs, "full");
    assert_eq!(fs.write(full, 0, b"x"), Err(Error::NoSpc));
    assert_eq!(fs.read(full, 0, &mut buffer), Ok(100));
    let random = ino(&mut fs, "urandom");
    let mut other = [0; 100];
    assert_eq!(
        (fs.read(random, 0, &mut buffer), fs.read(random, 0, &mut other)),
        (Ok(100), Ok(100))
    );
    assert!(buffer != other);
    assert_eq!(fs.write(random, 0, b"stir"), Ok(4));
    let stat = fs.attributes(null).unwrap();
    assert_eq!((stat.mode, stat.rdev), (mode::CHARACTER | 0o666, 1 << 16 | 3));
}

#[test]
fn devices_of_others() {
    let mut fs = devfs(&[]);
    let tty = ino(&mut fs, "console");
    assert_eq!(fs.redirect(tty), Ok((0, 40)));
    assert_eq!(fs.read(tty, 0, &mut [0; 4]), Err(Error::NxIo));
    let host = ino(&mut fs, "host");
    let stderr = fs.lookup(host, b"stderr").unwrap().ino;
    assert_eq!(fs.redirect(stderr), Ok((2, 41)));
    let log = ino(&mut fs, "log");
    assert_eq!(fs.redirect(log), Err(Error::NxIo), "not running");
    let null = ino(&mut fs, "null");
    assert_eq!(fs.redirect(null), Err(Error::NotSup));
    assert_eq!(fs.redirect(ROOT), Err(Error::IsDir));
}

#[test]
fn disks_and_partitions() {
    let mut fs = devfs(&["virtio-blk", "virtio-blk.1", "not-a-disk"]);
    let names: Vec<String> = list(&mut fs, ROOT, 128)
        .unwrap()
        .into_iter()
        .filter(|entry| entry.2 == mode::BLOCK)
        .map(|entry| String::from_utf8(entry.0).unwrap())
        .collect();
    assert_eq!(names, ["vda", "vda1", "vda3", "vdb", "vdb1", "vdb3"]);
    let (vda, part) = (ino(&mut fs, "vda"), ino(&mut fs, "vda1"));
    assert_eq!(fs.attributes(vda).map(|s| s.size), Ok(256 * 512));
    assert_eq!(
        fs.attributes(part).map(|s| (s.size, s.mode & mode::TYPE_MASK)),
        Ok((8192, mode::BLOCK))
    );
    let mut byte = [0];
    assert_eq!((fs.read(part, 0, &mut byte), byte), (Ok(1), [0xA1]));
    assert_eq!(fs.read(part, 8190, &mut [0; 10]), Ok(2), "a partition has an end");
    assert_eq!(fs.write(part, 8191, b"xyz"), Ok(1));
    assert_eq!(fs.write(part, 8192, b"x"), Err(Error::NoSpc));
    assert_eq!((fs.read(vda, 24 * 512 - 1, &mut byte), byte), (Ok(1), *b"x"));
    assert_eq!(fs.lookup(ROOT, b"vda2").err(), Some(Error::NoEnt));
    assert_eq!(fs.lookup(ROOT, b"vdc").err(), Some(Error::NoEnt));
    // A new table is seen.
    assert_eq!(fs.write(vda, 446, &[0; 64]), Ok(64));
    assert_eq!(fs.lookup(ROOT, b"vda1").err(), Some(Error::NoEnt));
    assert_eq!(fs.read(part, 0, &mut byte), Err(Error::NxIo), "the partition is gone");
    assert_eq!(fs.platform().opened, 2, "each disk is opened once");
    assert_eq!((fs.fsync(vda), fs.sync()), (Ok(()), Ok(())));
}

#[test]
fn numbers_stay_when_drivers_come_and_go() {
    let mut fs = devfs(&["virtio-blk.1"]);
    let vdb = ino(&mut fs, "vdb");
    fs.platform().units = vec![unit("virtio-blk", 0), unit("virtio-blk.1", 0)];
    assert_eq!(fs.lookup(ROOT, b"vda").err(), Some(Error::NoEnt), "nobody said so yet");
    fs.units_changed();
    assert_eq!(ino(&mut fs, "vdb"), vdb);
    // Its driver was started again, and counts from 1 anew.
    fs.platform().units[1].pid = 10;
    fs.units_changed();
    assert_eq!(ino(&mut fs, "vdb"), vdb);
    fs.platform().units.clear();
    fs.units_changed();
    assert_eq!(fs.lookup(ROOT, b"vdb").err(), Some(Error::NoEnt));
    assert!(fs.attributes(vdb).is_ok());
    assert_eq!(fs.attributes(1 << 40).err(), Some(Error::Stale));
}

#[test]
fn nothing_can_be_changed() {
    let mut fs = devfs(&[]);
    assert_eq!(
        fs.create(ROOT, b"x", &xinim_fs_kit::NewFile::new(mode::REGULAR | 0o644)).err(),
        Some(Error::Perm)
    );
    assert_eq!(
        fs.create(ROOT, b"null", &xinim_fs_kit::NewFile::new(mode::REGULAR | 0o644)).err(),
        Some(Error::Exist)
    );
    assert_eq!(fs.unlink(ROOT, b"null", false), Err(Error::Perm));
    assert_eq!(fs.unlink(ROOT, b"nothing", false), Err(Error::NoEnt));
    assert_eq!(fs.rename((ROOT, b"null"), (ROOT, b"x")), Err(Error::Perm));
    let null = ino(&mut fs, "null");
    assert_eq!(fs.lookup(null, b"x").err(), Some(Error::NotDir));
    assert_eq!(fs.read_dir(null, 0, &mut DirBuffer::new(100)), Err(Error::NotDir));
    let set = SetAttributes { mode: Some(0o600), ..SetAttributes::default() };
    assert_eq!(fs.set_attributes(null, &set).map(|s| s.mode), Ok(mode::CHARACTER | 0o600));
}

#[test]
fn another_disk_in_the_same_port_is_another_device() {
    let mut fs = devfs(&[]);
    fs.platform().units = vec![unit("ahci", 2), UnitInfo { optical: true, ..unit("ahci", 1) }];
    let (disk, drive) = (ino(&mut fs, "sdc"), ino(&mut fs, "sr0"));
    assert_eq!(fs.lookup(ROOT, b"sdb").err(), Some(Error::NoEnt), "port 1 is no disk");
    assert_eq!(fs.attributes(disk).unwrap().rdev, 8 << 16 | 32);
    assert_eq!(fs.attributes(drive).unwrap().rdev, 11 << 16);
    assert_eq!(fs.read(disk, 0, &mut [0; 16]), Ok(16));
    fs.platform().units[0].instance = 2;
    fs.units_changed();
    assert!(ino(&mut fs, "sdc") != disk);
    assert_eq!(fs.read(disk, 0, &mut [0; 16]), Err(Error::NxIo));
    assert_eq!(fs.attributes(disk).map(|stat| stat.size), Ok(0));
}

#[test]
fn a_resized_disk_has_its_new_size() {
    let mut fs = devfs(&["virtio-blk"]);
    let vda = ino(&mut fs, "vda");
    assert_eq!(fs.attributes(vda).unwrap().size, 256 * 512);
    fs.platform().image.resize(512 * 512, 0);
    fs.platform().units[0].sectors = 512;
    fs.units_changed();
    assert_eq!(fs.attributes(vda).unwrap().size, 512 * 512);
}

#[test]
fn links_by_what_a_disk_is_and_holds() {
    let mut fs = devfs(&[]);
    fs.platform().units = vec![unit("ahci", 0)];
    fs.platform().image[440..444].copy_from_slice(&0x1234_ABCDu32.to_le_bytes());
    fs.units_changed();
    let disk = ino(&mut fs, "disk");
    let mut links = Vec::new();
    for dir in ["by-id", "by-partuuid", "by-uuid", "by-label"] {
        let dir = fs.lookup(disk, dir.as_bytes()).unwrap();
        assert_eq!(dir.mode & mode::TYPE_MASK, mode::DIRECTORY);
        let entries = list(&mut fs, dir.ino, 128).unwrap();
        for (name, link, kind) in entries.into_iter().filter(|entry| entry.2 == mode::SYMLINK) {
            assert_eq!(fs.lookup(dir.ino, &name).unwrap().ino, link);
            let target = String::from_utf8(fs.read_link(link).unwrap()).unwrap();
            assert_eq!(fs.attributes(link).unwrap().size, target.len() as u64);
            links.push(format!("{} {target} {kind:o}", String::from_utf8(name).unwrap()));
        }
    }
    assert_eq!(
        links,
        [
            "ata-A_disk_S0 ../../sda 120000",
            "ata-A_disk_S0-part1 ../../sda1 120000",
            "ata-A_disk_S0-part3 ../../sda3 120000",
            "1234abcd-01 ../../sda1 120000",
            "1234abcd-03 ../../sda3 120000",
        ]
    );
    assert_eq!(fs.lookup(disk, b"nothing").err(), Some(Error::NoEnt));
    assert_eq!(fs.lookup(disk, b"vda").err(), Some(Error::NoEnt));
}
