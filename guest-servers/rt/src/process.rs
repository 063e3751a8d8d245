//! Programs: start, wait, end.

use alloc::vec::Vec;

use spin::Once;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::pm::{FdMap, SpawnHeader, pm};
use xinim_abi::start::role;
use zerocopy::IntoBytes;

use crate::handle::OwnedHandle;
use crate::ipc::Service;
use crate::{io, start, sys, window};

pub use xinim_abi::services::pm::signal;

/// Writes what is buffered and ends this process.
pub fn exit(status: i32) -> ! {
    let _ = io::flush();
    sys::process_exit(status)
}

pub fn id() -> u32 {
    start::pid()
}

static PM: Once<Service> = Once::new();

fn service() -> &'static Service {
    PM.call_once(|| match start::handle(role::PM) {
        Some(handle) => Service::with_endpoint("pm", OwnedHandle::from_raw(handle)),
        None => Service::new("pm"),
    })
}

/// What to start.
#[derive(Clone, Debug)]
pub struct SpawnRequest<'a> {
    pub path: &'a str,
    pub args: &'a [&'a str],
    /// `NAME=value` each.
    pub env: &'a [&'a str],
    /// (descriptor in the child, descriptor here)
    pub fds: &'a [(u32, u32)],
}

/// Starts a program; its process id. `Wait` tells its end.
pub fn spawn(request: &SpawnRequest<'_>) -> Result<u32> {
    let _ = io::flush();
    let mut bytes = Vec::new();
    let header = SpawnHeader {
        argc: (request.args.len() as u32).into(),
        envc: (request.env.len() as u32).into(),
        fd_count: (request.fds.len() as u32).into(),
        reserved: 0.into(),
    };
    bytes.extend_from_slice(header.as_bytes());
    for text in core::iter::once(&request.path).chain(request.args).chain(request.env) {
        if text.as_bytes().contains(&0) {
            return Err(Error::Inval);
        }
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    for &(child, parent) in request.fds {
        bytes.extend_from_slice(FdMap { child: child.into(), parent: parent.into() }.as_bytes());
    }
    let window = window::lock()?;
    if bytes.len() > window.mapping().len() {
        return Err(Error::TooBig);
    }
    let spawn = pm::Spawn { len: bytes.len() as u32 };
    window.mapping().copy_in(0, &bytes)?;
    match service().call(&spawn) {
        // The manager does not know our window yet.
        Err(Error::Fault) => {
            connect(&window)?;
            Ok(service().call(&spawn)?.pid)
        }
        other => Ok(other?.pid),
    }
}

/// Waits for child `pid` (0: any): its process id and status (see `services::pm`).
pub fn wait(pid: u32) -> Result<(u32, u32)> {
    let reply = service().call(&pm::Wait { pid, poll: false })?;
    Ok((reply.pid, reply.status))
}

/// As [`wait`], but `Ok(None)` while it runs.
pub fn try_wait(pid: u32) -> Result<Option<(u32, u32)>> {
    match service().call(&pm::Wait { pid, poll: true }) {
        Ok(reply) => Ok(Some((reply.pid, reply.status))),
        Err(Error::Again) => Ok(None),
        Err(error) => Err(error),
    }
}

pub fn kill(pid: u32, signal: u32) -> Result<()> {
    service().call(&pm::Kill { pid, signal }).map(drop)
}

/// Shares the window with the manager, if it is not yet.
fn connect(window: &window::Window) -> Result<()> {
    let shared = window.share()?;
    let len = window.mapping().len() as u64;
    service().call(&pm::Connect { len, window: shared.raw() }).map(drop)
}

/// Real, effective and saved ids of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    pub real: u32,
    pub effective: u32,
    pub saved: u32,
}

/// User ids of program `pid` (0: this one).
pub fn user_ids(pid: u32) -> Result<Ids> {
    let pm::Ids { real, effective, saved, .. } =
        service().call(&pm::GetIds { pid, group: false })?;
    Ok(Ids { real, effective, saved })
}

/// Group ids of program `pid` (0: this one), and its supplementary groups.
pub fn group_ids(pid: u32) -> Result<(Ids, Vec<u32>)> {
    let window = window::lock()?;
    connect(&window)?;
    let reply = service().call(&pm::GetIds { pid, group: true })?;
    let bytes = window.mapping().to_vec(0, reply.groups as usize * 4)?;
    let groups = bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
    let pm::Ids { real, effective, saved, .. } = reply;
    Ok((Ids { real, effective, saved }, groups))
}

/// `vfs::KEEP_ID` leaves an id.
pub fn set_user_ids(ids: Ids) -> Result<()> {
    let Ids { real, effective, saved } = ids;
    service().call(&pm::SetIds { group: false, real, effective, saved }).map(drop)
}

pub fn set_group_ids(ids: Ids) -> Result<()> {
    let Ids { real, effective, saved } = ids;
    service().call(&pm::SetIds { group: true, real, effective, saved }).map(drop)
}

/// Supplementary groups. Root only.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    let window = window::lock()?;
    connect(&window)?;
    window.mapping().copy_in(0, groups.as_bytes())?;
    service().call(&pm::SetGroups { count: groups.len() as u32 }).map(drop)
}

/// The child that Ctrl-C ends; 0: none.
pub fn set_foreground(pid: u32) -> Result<()> {
    service().call(&pm::Foreground { pid }).map(drop)
}
