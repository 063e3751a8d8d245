use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use lamfat::{FatType, FormatVolumeOptions};
use proptest::prelude::*;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::block::{Completion, Submission, op};
use xinim_block_client::{Cache, Info, Transport};
use xinim_fs_kit::conformance::{self, Abilities};
use xinim_fs_kit::{FileSystem, Ino};

use crate::Fat;
use crate::device::Device;

/// A disk in memory.
struct Ram {
    disk: Vec<u8>,
    data: core::cell::RefCell<Vec<u8>>,
    done: Vec<Completion>,
}

impl Ram {
    fn new(disk: Vec<u8>) -> Self {
        Self { disk, data: vec![0; 16 * 32 * 1024].into(), done: Vec::new() }
    }
}

impl Transport for Ram {
    fn info(&self) -> Info {
        let sectors = (self.disk.len() / 512) as u64;
        Info { sectors, block_size: 512, read_only: false, max_bytes: 1 << 20, depth: 64 }
    }
    fn data_len(&self) -> usize {
        self.data.borrow().len()
    }
    fn read_data(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(&self.data.borrow()[offset..offset + out.len()]);
        Ok(())
    }
    fn write_data(&self, offset: usize, data: &[u8]) -> Result<()> {
        self.data.borrow_mut()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
    fn submit(&mut self, requests: &[Submission]) -> Result<()> {
        for request in requests {
            let (at, start, len) =
                (request.offset as usize, request.sector as usize * 512, request.len as usize);
            match request.op {
                op::READ => self.data.borrow_mut()[at..at + len]
                    .copy_from_slice(&self.disk[start..start + len]),
                op::WRITE => {
                    self.disk[start..start + len]
                        .copy_from_slice(&self.data.borrow()[at..at + len]);
                }
                _ => {}
            }
            self.done.push(Completion { id: request.id, status: 0, reserved: 0 });
        }
        Ok(())
    }
    fn wait(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        completions.append(&mut self.done);
        Ok(())
    }
}

fn now() -> u64 {
    1_750_000_000_000_000_000
}

fn formatted(kind: FatType, len: usize) -> Vec<u8> {
    use std::cell::RefCell;
    use std::rc::Rc;
    let ram: Box<dyn Transport> = Box::new(Ram::new(vec![0; len]));
    let cache = Rc::new(RefCell::new(Cache::new(ram, 0, (len / 512) as u64).unwrap()));
    let mut device = Device::new(Rc::clone(&cache));
    lamfat::format_volume(&mut device, FormatVolumeOptions::new().fat_type(kind)).unwrap();
    let mut image = vec![0; len];
    cache.borrow_mut().read(0, &mut image).unwrap();
    image
}

fn mounted(image: Vec<u8>) -> (Fat, Ino) {
    let mut image = Some(image);
    let open = move |_: &str| -> Result<Cache<Box<dyn Transport>>> {
        let image = image.take().ok_or(Error::NoDev)?;
        let sectors = (image.len() / 512) as u64;
        let ram: Box<dyn Transport> = Box::new(Ram::new(image));
        Cache::new(ram, 0, sectors)
    };
    let mut fat = Fat::new(Box::new(open), now);
    let root = fat.mount("vda", 0).expect("mount").root;
    (fat, root)
}

fn abilities() -> Abilities {
    Abilities {
        symbolic_links: false,
        hard_links: false,
        modes: false,
        owners: false,
        access_times: false,
        special_files: false,
        case_sensitive: false,
        time_step: 2_000_000_000,
        max_size: u32::MAX.into(),
        sparse: false,
        ..Abilities::default()
    }
}

#[test]
fn conforms_on_every_width() {
    let sizes = [(FatType::Fat12, 4 << 20), (FatType::Fat16, 32 << 20), (FatType::Fat32, 64 << 20)];
    for (kind, len) in sizes {
        let image = formatted(kind, len);
        conformance::check_all(&abilities(), &mut || mounted(image.clone()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn as_the_model(seed: u64) {
        let (mut fat, root) = mounted(formatted(FatType::Fat16, 16 << 20));
        conformance::model::exercise(&mut fat, root, &abilities(), seed, 400);
    }

    /// A volume with random damage: any answer will do, but an answer.
    #[test]
    fn damaged_volumes_end_in_errors(
        damage in proptest::collection::vec((0..40_000usize, any::<u8>()), 1..40),
    ) {
        let mut image = formatted(FatType::Fat12, 4 << 20);
        for (at, value) in damage {
            image[at] = value;
        }
        let mut image = Some(image);
        let open = move |_: &str| -> Result<Cache<Box<dyn Transport>>> {
            let image = image.take().ok_or(Error::NoDev)?;
            let sectors = (image.len() / 512) as u64;
            let ram: Box<dyn Transport> = Box::new(Ram::new(image));
            Cache::new(ram, 0, sectors)
        };
        let mut fat = Fat::new(Box::new(open), now);
        if let Ok(info) = fat.mount("vda", 0) {
            let _ = conformance::list(&mut fat, info.root, 4096);
            let _ = fat.create(info.root, b"file", &xinim_fs_kit::NewFile::new(0o100644));
            if let Ok(stat) = fat.lookup(info.root, b"file") {
                let _ = fat.write(stat.ino, 0, &[1; 5000]);
            }
            let _ = fat.statfs();
            let _ = fat.unmount();
        }
    }
}

#[test]
fn other_contents_are_not_ours() {
    let open = |_: &str| -> Result<Cache<Box<dyn Transport>>> {
        let ram: Box<dyn Transport> = Box::new(Ram::new(vec![0; 1 << 20]));
        Cache::new(ram, 0, 2048)
    };
    let mut fat = Fat::new(Box::new(open), now);
    assert_eq!(fat.mount("vda", 0).err(), Some(Error::Inval));
}

#[test]
fn names_beyond_ascii() {
    let (mut fat, root) = mounted(formatted(FatType::Fat16, 16 << 20));
    for name in ["a ümläut.txt", "1日本語のファイル名.tar.gz", "xÅÄÖ", "naïve café.md"]
    {
        let made = fat
            .create(root, name.as_bytes(), &xinim_fs_kit::NewFile::new(0o100644))
            .expect(name)
            .ino;
        assert_eq!(fat.write(made, 0, name.as_bytes()), Ok(name.len()));
        let found = fat.lookup(root, name.as_bytes()).expect(name);
        assert_eq!((found.ino, found.size), (made, name.len() as u64), "{name}");
        let names = conformance::list(&mut fat, root, 4096).expect("list");
        assert!(names.iter().any(|entry| entry.0 == name.as_bytes()), "{name}");
    }
    let upper = "A ÜMLÄUT.TXT".as_bytes();
    assert_eq!(
        fat.create(root, upper, &xinim_fs_kit::NewFile::new(0o100644)).err(),
        Some(Error::Exist)
    );
    // What the crate underneath cannot make is refused, not left to its panic.
    for name in ["ümläut.txt", "日本"] {
        let name = name.as_bytes();
        assert_eq!(
            fat.create(root, name, &xinim_fs_kit::NewFile::new(0o100644)).err(),
            Some(Error::Inval)
        );
        assert_eq!(
            fat.create(root, name, &xinim_fs_kit::NewFile::new(0o040755)).err(),
            Some(Error::Inval)
        );
        assert_eq!(fat.rename((root, "xÅÄÖ".as_bytes()), (root, name)), Err(Error::Inval));
    }
}

#[test]
fn as_the_exerciser_wants() {
    use xinim_fs_exerciser::{Can, FsTarget, run};
    let sizes = [(FatType::Fat12, 3 << 20), (FatType::Fat16, 12 << 20), (FatType::Fat32, 40 << 20)];
    for (seed, (kind, len)) in (0u64..).zip(sizes) {
        let (fat, root) = mounted(formatted(kind, len));
        let mut target = FsTarget::new(fat, root);
        let can = Can { unicode: false, ..Can::from(&abilities()) };
        let summary = run(&mut target, &can, seed, 2500);
        summary.unwrap_or_else(|failure| panic!("{failure}"));
        target.into_inner().unmount().expect("unmount");
    }
}

/// Whatever an image holds: answers, no panic, no endless loop, bounded memory.
#[test]
fn hostile_volumes_end_in_errors() {
    use xinim_fs_testing::{Random, campaign, hostile};
    for (kind, len) in [(FatType::Fat12, 2 << 20), (FatType::Fat16, 6 << 20)] {
        let (mut fat, root) = mounted(formatted(kind, len));
        conformance::model::exercise(&mut fat, root, &abilities(), 3, 100);
        let good = formatted(kind, len);
        for seed in campaign(100) {
            let hot = [0..90, 512..4096, 4096..60_000];
            let damaged = hostile::damage(&good, &hot, &mut Random::new(seed));
            let mut image = Some(damaged);
            let open = move |_: &str| -> Result<Cache<Box<dyn Transport>>> {
                let image = image.take().ok_or(Error::NoDev)?;
                let sectors = (image.len() / 512) as u64;
                let ram: Box<dyn Transport> = Box::new(Ram::new(image));
                Cache::new(ram, 0, sectors)
            };
            let mut fat = Fat::new(Box::new(open), now);
            hostile::assault(&mut fat, &mut Random::new(seed));
        }
    }
}
