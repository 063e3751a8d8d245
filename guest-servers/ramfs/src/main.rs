//! The ramfs service. RS gives every instance the system bundle; only the mount of the root asks
//! for its contents. What is written lies in memory that RS keeps, so that the next instance goes on
//! with it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

use xinim_abi::object::Protection;
use xinim_abi::start::role;
use xinim_ramfs::{Account, Bundle, CHUNK, Chunks, RamFs, Settings};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::keep::{self, KeptArea};
use xinim_rt::memory::{Mapping, Memory};
use xinim_rt::{Error, Result, kip, log, start};

xinim_rt::program!(main);

/// Kept memory: the journal, and the chunks from this key on.
const JOURNAL: u64 = 1;
const FIRST_CHUNK: u64 = 2;
/// Most chunks: RS keeps 256 objects of a service.
const CHUNKS: u32 = 240;
/// The journal takes one of this many parts of the machine's memory, within bounds. Half of it is for
/// records: of some thousand files in the smallest.
const JOURNAL_PART: u64 = 64;
const JOURNAL_LEN: (u64, u64) = (1 << 20, 16 << 20);

fn main() -> i32 {
    // Half of the memory: programs need the other half.
    let memory_limit = (kip::memory_total() / 2).min(u64::from(CHUNKS) * CHUNK as u64);
    let settings = Settings { memory_limit, clock: kip::wall_clock_ns };
    let bundle = bundle().inspect_err(|error| log!("no bundle: {error}")).ok();
    let fs = match account() {
        Ok(account) => {
            let (fs, restored) =
                RamFs::kept(bundle, settings, account, Box::<KeptChunks>::default());
            if let Err(error) = restored {
                log!("the kept files make no sense ({error}) and are not taken up");
            }
            fs
        }
        Err(error) => {
            log!("nothing is kept: {error}");
            match bundle {
                Some(bundle) => RamFs::with_bundle(bundle, settings),
                None => RamFs::new(settings),
            }
        }
    };
    xinim_fs_server::run(fs)
}

fn account() -> Result<Account> {
    let (least, most) = JOURNAL_LEN;
    let len = (kip::memory_total() / JOURNAL_PART).clamp(least, most).next_multiple_of(4096);
    let (account, sound) = Account::open(Box::new(KeptArea::open(JOURNAL, len)?))?;
    if !sound {
        log!("the account of the kept files is damaged and not taken up");
    }
    Ok(account)
}

fn bundle() -> Result<Bundle<'static>> {
    let handle = start::handle(role::BUNDLE).ok_or(Error::NoEnt)?;
    let memory = Memory::from_handle(OwnedHandle::from_raw(handle))?;
    let bytes = memory.map_static()?;
    let handle = memory.raw();
    // Handed out by `map` for as long as the service lives.
    core::mem::forget(memory);
    Ok(Bundle { bytes, memory: handle })
}

/// Chunks that RS keeps.
#[derive(Debug, Default)]
struct KeptChunks(BTreeMap<u32, Mapping>);

impl KeptChunks {
    fn chunk(&self, number: u32) -> Result<&Mapping> {
        self.0.get(&number).ok_or(Error::Fault)
    }
}

impl Chunks for KeptChunks {
    fn open(&mut self, number: u32) -> Result<()> {
        if let Entry::Vacant(free) = self.0.entry(number) {
            let memory = keep::memory(FIRST_CHUNK + u64::from(number), CHUNK as u64)?;
            if memory.len() != CHUNK as u64 {
                return Err(Error::BadMessage);
            }
            free.insert(memory.map(Protection::READ | Protection::WRITE)?);
        }
        Ok(())
    }
    fn close(&mut self, number: u32) {
        self.0.remove(&number);
        let _ = keep::forget(FIRST_CHUNK + u64::from(number));
    }
    fn most(&self) -> u32 {
        CHUNKS
    }
    fn read(&self, number: u32, at: usize, out: &mut [u8]) -> Result<()> {
        self.chunk(number)?.copy_out(at, out)
    }
    fn write(&mut self, number: u32, at: usize, bytes: &[u8]) -> Result<()> {
        self.chunk(number)?.copy_in(at, bytes)
    }
}
