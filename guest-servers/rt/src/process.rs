//! Programs: start, wait, end.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Request;
use xinim_abi::services::pm::{FdMap, SpawnHeader, pm};
use xinim_abi::start::role;
use zerocopy::IntoBytes;

use crate::handle::OwnedHandle;
use crate::ipc::{self, Numbers, Service};
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
    Ok(ask(&window, &bytes, &pm::Spawn { len: bytes.len() as u32 })?.pid)
}

static NUMBERS: Numbers = Numbers::new();
/// The manager knows our window.
static CONNECTED: AtomicBool = AtomicBool::new(false);

/// A request about what is in the window: the manager goes on where it was when it dies, see
/// `call_through`.
fn ask<R: Request>(window: &window::Window, bytes: &[u8], request: &R) -> Result<R::Reply> {
    service().call_through(&NUMBERS, request, |endpoint, again| {
        if again || !CONNECTED.load(Ordering::Relaxed) {
            let shared = window.share()?;
            let len = window.mapping().len() as u64;
            ipc::call(endpoint, &pm::Connect { len, window: shared.raw() })?;
            CONNECTED.store(true, Ordering::Relaxed);
        }
        window.mapping().copy_in(0, bytes)
    })
}

/// A request that needs no window.
fn tell<R: Request>(request: &R) -> Result<R::Reply> {
    let mut died = false;
    let result = service().call_through(&NUMBERS, request, |_, again| {
        died |= again;
        Ok(())
    });
    if died {
        CONNECTED.store(false, Ordering::Relaxed);
    }
    result
}

/// Waits for child `pid` (0: any): its process id and status (see `services::pm`).
pub fn wait(pid: u32) -> Result<(u32, u32)> {
    let reply = tell(&pm::Wait { pid, poll: false })?;
    Ok((reply.pid, reply.status))
}

/// As [`wait`], but `Ok(None)` while it runs.
pub fn try_wait(pid: u32) -> Result<Option<(u32, u32)>> {
    match tell(&pm::Wait { pid, poll: true }) {
        Ok(reply) => Ok(Some((reply.pid, reply.status))),
        Err(Error::Again) => Ok(None),
        Err(error) => Err(error),
    }
}

pub fn kill(pid: u32, signal: u32) -> Result<()> {
    tell(&pm::Kill { pid, signal }).map(drop)
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
    let pm::Ids { real, effective, saved, .. } = tell(&pm::GetIds { pid, group: false })?;
    Ok(Ids { real, effective, saved })
}

/// Group ids of program `pid` (0: this one), and its supplementary groups.
pub fn group_ids(pid: u32) -> Result<(Ids, Vec<u32>)> {
    let window = window::lock()?;
    let reply = ask(&window, &[], &pm::GetIds { pid, group: true })?;
    let bytes = window.mapping().to_vec(0, reply.groups as usize * 4)?;
    let groups = bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
    let pm::Ids { real, effective, saved, .. } = reply;
    Ok((Ids { real, effective, saved }, groups))
}

/// `vfs::KEEP_ID` leaves an id.
pub fn set_user_ids(ids: Ids) -> Result<()> {
    let Ids { real, effective, saved } = ids;
    tell(&pm::SetIds { group: false, real, effective, saved }).map(drop)
}

pub fn set_group_ids(ids: Ids) -> Result<()> {
    let Ids { real, effective, saved } = ids;
    tell(&pm::SetIds { group: true, real, effective, saved }).map(drop)
}

/// Supplementary groups. Root only.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    let window = window::lock()?;
    ask(&window, groups.as_bytes(), &pm::SetGroups { count: groups.len() as u32 }).map(drop)
}

/// The child that Ctrl-C ends; 0: none.
pub fn set_foreground(pid: u32) -> Result<()> {
    tell(&pm::Foreground { pid }).map(drop)
}
