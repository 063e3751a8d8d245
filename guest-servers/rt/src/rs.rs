//! RS from a program's side: queries and control of services.

use alloc::string::String;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::object::{MemoryFlags, Protection, Rights};
use xinim_abi::services::rs::rs;

use crate::memory::Memory;
use crate::{ipc, start};

/// Room for an answer's text.
const ANSWER_LEN: u64 = 64 * 1024;

/// The text of a query; see `services::rs::query`. `name` may be empty.
pub fn query(kind: u32, name: &str) -> Result<String> {
    let memory = Memory::create(ANSWER_LEN, MemoryFlags::empty())?;
    let mapping = memory.map(Protection::READ)?;
    let shared = memory.handle().mint(Rights::READ | Rights::WRITE | Rights::TRANSFER, 0)?;
    let request = rs::Query { kind, name: Name::new(name)?, memory: shared.raw() };
    let len = ipc::call(start::rs(), &request)?.len as usize;
    let bytes = mapping.to_vec(0, len.min(mapping.len()))?;
    String::from_utf8(bytes).map_err(|_| Error::BadReply)
}

/// See `services::rs::control`. Answers the new instance's process id where there is one.
pub fn control(operation: u32, name: &str) -> Result<u32> {
    let request = rs::Control { operation, name: Name::new(name)? };
    Ok(ipc::call(start::rs(), &request)?.pid)
}

/// Stops everything and powers off or reboots; returns only on failure.
pub fn shutdown(reboot: bool) -> Result<()> {
    ipc::call(start::rs(), &rs::Shutdown { reboot }).map(drop)
}
