//! Memory that outlives this service: RS keeps it and gives it to the next instance.

use xinim_abi::error::{Error, Result};
use xinim_abi::object::Protection;
use xinim_abi::services::rs::rs;
use xinim_keep::{Area, Found, Journal};

use crate::handle::OwnedHandle;
use crate::memory::{Mapping, Memory};
use crate::{ipc, log, start};

/// What RS keeps for this service under `key`; made, `len` bytes of zeros, if it is not there.
/// `Limit`: the manifest's `keep` does not allow it.
pub fn memory(key: u64, len: u64) -> Result<Memory> {
    let kept = ipc::call(start::rs(), &rs::Keep { key, len })?;
    Memory::from_handle(OwnedHandle::from_raw(kept.memory))
}

/// As [`memory`], only if an instance made it: `NoEnt` else.
pub fn existing(key: u64) -> Result<Memory> {
    memory(key, 0)
}

/// It is not needed any more.
pub fn forget(key: u64) -> Result<()> {
    ipc::call(start::rs(), &rs::Unkeep { key }).map(drop)
}

/// Kept memory, mapped.
#[derive(Debug)]
pub struct KeptArea(Mapping);

impl KeptArea {
    pub fn open(key: u64, len: u64) -> Result<Self> {
        memory(key, len)?.map(Protection::READ | Protection::WRITE).map(KeptArea)
    }
}

impl Area for KeptArea {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        self.0.copy_out(at, out)
    }
    fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        self.0.copy_in(at, bytes)
    }
}

/// The journal under `key`, empty if there is none or a damaged one, which is logged.
pub fn journal(key: u64, len: u64) -> Result<(Journal<KeptArea>, Found)> {
    open(KeptArea::open(key, len)?)
}

/// The same in memory that is there.
pub fn open<A: Area>(area: A) -> Result<(Journal<A>, Found)> {
    let (journal, found) = Journal::open(area)?;
    if found == Found::Garbage {
        log!("the kept state is damaged and not taken up");
    }
    Ok((journal, found))
}

/// Ends what an instance that cannot go on from kept state would do: begins anew, and says so.
pub fn refused(journal: &mut Journal<KeptArea>, error: Error) -> Result<()> {
    log!("the kept state makes no sense ({error}) and is not taken up");
    journal.clear()
}
