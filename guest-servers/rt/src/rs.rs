//! RS from a program's side: queries and control of services.

use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::object::{MemoryFlags, Protection, Rights};
use xinim_abi::services::rs::{query, rs};

use crate::handle::OwnedHandle;
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

/// The newest core of a service: an ELF file.
pub fn core(name: &str) -> Result<Vec<u8>> {
    let memory = Memory::create(query::CORE_MAX, MemoryFlags::empty())?;
    let shared = memory.handle().mint(Rights::READ | Rights::WRITE | Rights::TRANSFER, 0)?;
    let request = rs::Query { kind: query::CORE, name: Name::new(name)?, memory: shared.raw() };
    let len = ipc::call(start::rs(), &request)?.len as usize;
    let mapping = memory.map(Protection::READ)?;
    mapping.to_vec(0, len.min(mapping.len()))
}

/// See `services::rs::control`. Answers the new instance's process id where there is one.
pub fn control(operation: u32, name: &str) -> Result<u32> {
    let request = rs::Control { operation, name: Name::new(name)? };
    Ok(ipc::call(start::rs(), &request)?.pid)
}

/// Loads a manifest, and its program unless that is empty. Why it is refused.
pub fn load(name: &str, manifest: &[u8], program: &[u8]) -> Result<Option<String>> {
    let text = filled(manifest)?;
    let program = filled(program)?;
    let (text_handle, program_handle) = (shared(&text)?, shared(&program)?);
    let request = rs::Load {
        name: Name::new(name)?,
        manifest: text_handle.raw(),
        program: program_handle.raw(),
    };
    reason(&text, ipc::call(start::rs(), &request)?.refused)
}

/// Takes a loaded manifest back. Why not.
pub fn unload(name: &str) -> Result<Option<String>> {
    let text = filled(&[])?;
    let handle = shared(&text)?;
    let request = rs::Unload { name: Name::new(name)?, reason: handle.raw() };
    reason(&text, ipc::call(start::rs(), &request)?.refused)
}

/// Replaces the program of a running service. Whether it was rolled back.
pub fn update(name: &str, program: &[u8]) -> Result<bool> {
    let program = filled(program)?;
    let handle = shared(&program)?;
    let request = rs::Update { name: Name::new(name)?, program: handle.raw() };
    Ok(ipc::call(start::rs(), &request)?.rolled_back)
}

/// Memory with these bytes; of one page if there are none.
fn filled(bytes: &[u8]) -> Result<Memory> {
    let memory = Memory::create(bytes.len().max(1) as u64, MemoryFlags::empty())?;
    memory.map(Protection::READ | Protection::WRITE)?.copy_in(0, bytes)?;
    Ok(memory)
}

fn shared(memory: &Memory) -> Result<OwnedHandle> {
    memory.handle().mint(Rights::READ | Rights::WRITE | Rights::TRANSFER, 0)
}

fn reason(text: &Memory, len: u64) -> Result<Option<String>> {
    if len == 0 {
        return Ok(None);
    }
    let bytes = text.map(Protection::READ)?.to_vec(0, len.min(text.len()) as usize)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Tells RS that `label` breaks the protocol between the two; `code` says how to whoever reads the
/// history. For services whose manifest lists it in `complains`.
pub fn complain(label: Name, code: u32) -> Result<()> {
    ipc::call(start::rs(), &rs::Complain { name: label, code }).map(drop)
}

/// Stops everything and powers off or reboots; returns only on failure.
pub fn shutdown(reboot: bool) -> Result<()> {
    ipc::call(start::rs(), &rs::Shutdown { reboot }).map(drop)
}
