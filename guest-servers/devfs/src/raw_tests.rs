use std::cell::RefCell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::block::{Completion, Submission, op};
use xinim_block_client::{Info, Limits, Transport};

use crate::RawDisk;

/// What discarded blocks read as.
const DISCARDED: u8 = 0xDD;

/// A disk in memory that answers in reverse order.
pub struct MemoryDisk {
    pub bytes: Rc<RefCell<Vec<u8>>>,
    data: RefCell<Vec<u8>>,
    pub info: Info,
    pub limits: Limits,
    pending: Vec<Submission>,
    pub bad_sector: Option<u64>,
}

impl MemoryDisk {
    pub fn new(sectors: u64, block_size: u32, data_len: usize) -> Self {
        Self {
            bytes: Rc::new(RefCell::new(vec![0; sectors as usize * 512])),
            data: RefCell::new(vec![0xDD; data_len]),
            info: Info { sectors, block_size, read_only: false, max_bytes: 10_000, depth: 3 },
            limits: Limits::default(),
            pending: Vec::new(),
            bad_sector: None,
        }
    }
}

impl Transport for MemoryDisk {
    fn info(&self) -> Info {
        self.info
    }
    fn limits(&self) -> Limits {
        self.limits
    }
    fn data_len(&self) -> usize {
        self.data.borrow().len()
    }
    fn read_data(&self, at: usize, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(self.data.borrow().get(at..at + out.len()).ok_or(Error::Fault)?);
        Ok(())
    }
    fn write_data(&self, at: usize, data: &[u8]) -> Result<()> {
        let mut all = self.data.borrow_mut();
        all.get_mut(at..at + data.len()).ok_or(Error::Fault)?.copy_from_slice(data);
        Ok(())
    }
    fn submit(&mut self, requests: &[Submission]) -> Result<()> {
        self.pending.extend(requests);
        assert!(self.pending.len() <= self.info.depth as usize, "more than the driver takes");
        Ok(())
    }
    fn wait(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        let request = self.pending.pop().ok_or(Error::Inval)?;
        let longest = match request.op {
            op::DISCARD => self.limits.max_discard,
            op::WRITE_ZEROES => self.limits.max_zeroes,
            _ => self.info.max_bytes,
        };
        assert!(request.len <= longest && request.len.is_multiple_of(self.info.block_size));
        assert_eq!(request.sector * 512 % u64::from(self.info.block_size), 0);
        let (start, at, len) =
            (request.sector as usize * 512, request.offset as usize, request.len as usize);
        let covers = |bad| (request.sector..request.sector + len as u64 / 512).contains(&bad);
        let failed = self.bad_sector.is_some_and(covers);
        let (mut disk, mut data) = (self.bytes.borrow_mut(), self.data.borrow_mut());
        match request.op {
            _ if failed => {}
            op::READ => data[at..at + len].copy_from_slice(&disk[start..start + len]),
            op::WRITE => disk[start..start + len].copy_from_slice(&data[at..at + len]),
            op::DISCARD => disk[start..start + len].fill(DISCARDED),
            op::WRITE_ZEROES => disk[start..start + len].fill(0),
            _ => {}
        }
        let status = if failed { Error::Io as u32 } else { 0 };
        completions.push(Completion { id: request.id, status, reserved: 0 });
        Ok(())
    }
}

proptest! {
    #[test]
    fn reads_and_writes_as_memory_does(
        big_blocks: bool,
        steps in prop::collection::vec((any::<bool>(), 0u64..40_000, 0usize..30_000, any::<u8>()), 1..30),
    ) {
        let block = if big_blocks { 4096 } else { 512 };
        let disk = MemoryDisk::new(80, block, 20_000);
        let bytes = disk.bytes.clone();
        let mut raw = RawDisk::new(disk);
        let mut model = vec![0; 80 * 512];
        for (write, offset, len, value) in steps {
            let inside = offset + len as u64 <= model.len() as u64;
            let range = offset as usize..offset as usize + len;
            if write {
                let data = vec![value; len];
                let result = raw.write(offset, len, &mut &data[..]);
                prop_assert_eq!(result, if inside { Ok(()) } else { Err(Error::Inval) });
                if inside {
                    model[range].copy_from_slice(&data);
                }
            } else {
                let mut out = vec![0xEE; len];
                let result = raw.read(offset, len, &mut &mut out[..]);
                prop_assert_eq!(result, if inside { Ok(()) } else { Err(Error::Inval) });
                if inside {
                    prop_assert!(out == model[range], "read at {offset}, {len} bytes");
                }
            }
            prop_assert!(*bytes.borrow() == model);
        }
    }
}

#[test]
fn errors_and_read_only() {
    let mut disk = MemoryDisk::new(64, 512, 16_384);
    disk.bad_sector = Some(10);
    disk.info.read_only = true;
    let mut raw = RawDisk::new(disk);
    let mut out = [0; 512];
    assert_eq!(raw.read(9 * 512, 512, &mut &mut out[..]), Ok(()));
    assert_eq!(raw.read(9 * 512, 512, &mut &mut out[..]), Ok(()));
    let mut long = vec![0; 20_000];
    assert_eq!(raw.read(0, 20_000, &mut &mut long[..]), Err(Error::Io));
    assert_eq!(raw.write(0, 512, &mut &out[..]), Err(Error::RoFs));
    assert_eq!(raw.read(u64::MAX, 512, &mut &mut out[..]), Err(Error::Inval));
    assert_eq!(raw.flush(), Ok(()));
}

#[test]
fn blocks_are_given_back_or_made_zeros() {
    for (discards, zeroes) in [(true, true), (false, false)] {
        let mut disk = MemoryDisk::new(80, 512, 20_000);
        disk.limits.max_discard = if discards { 5 * 512 + 100 } else { 0 };
        disk.limits.max_zeroes = if zeroes { 3 * 512 } else { 0 };
        let bytes = disk.bytes.clone();
        bytes.borrow_mut().fill(7);
        let mut raw = RawDisk::new(disk);
        let expected = if discards { Ok(()) } else { Err(Error::NotSup) };
        assert_eq!(raw.discard(512, 33 * 512, false), expected);
        let gone = |n: usize| discards && (512..34 * 512).contains(&n);
        let all = bytes.borrow().clone();
        assert!((0..all.len()).all(|n| all[n] == if gone(n) { DISCARDED } else { 7 }));
        assert_eq!(raw.discard(2 * 512, 70 * 512, true), Ok(()));
        let all = bytes.borrow().clone();
        assert!(all[2 * 512..72 * 512].iter().all(|&byte| byte == 0));
        assert!(all[72 * 512..].iter().all(|&byte| byte == 7));
        for (offset, len) in [(100, 512), (0, 100), (79 * 512, 1024), (u64::MAX - 511, 512)] {
            assert_eq!(raw.discard(offset, len, false), Err(Error::Inval), "{offset} {len}");
            assert_eq!(raw.discard(offset, len, true), Err(Error::Inval), "{offset} {len}");
        }
    }
    let mut disk = MemoryDisk::new(80, 512, 20_000);
    disk.info.read_only = true;
    disk.limits.max_discard = 512;
    assert_eq!(RawDisk::new(disk).discard(0, 512, false), Err(Error::RoFs));
}
