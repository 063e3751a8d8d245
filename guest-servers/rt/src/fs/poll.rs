//! Waiting for events on several descriptors, whoever serves them.
//!
//! Every server is asked and promises to raise a bit at this process's own endpoint when something
//! may have changed; then all are asked again. A timer of that endpoint ends the waiting.

use alloc::vec::Vec;

use spin::Mutex;
use xinim_abi::error::{Error, Result};
use xinim_abi::object::Rights;
use xinim_abi::services::vfs::{POLL_MAX, poll, vfs};
use zerocopy::{FromBytes, IntoBytes};

use super::{ask, device};
use crate::handle::OwnedHandle;
use crate::ipc::Endpoint;
use crate::{sys, window};

pub use xinim_abi::services::vfs::PollFd;

/// The bit servers raise.
const BIT: u32 = 0;

/// A server that dies forgets whom it meant to tell: all are asked anew after this long, ns.
const ASK_AGAIN: u64 = 1_000_000_000;

static ENDPOINT: Mutex<Option<Endpoint>> = Mutex::new(None);

/// Waits until one of `fds` has an event, or (`Some`) `deadline` in ns since boot. Fills in `ready`;
/// answers how many have something. One thread of a process polls at a time.
pub fn poll(fds: &mut [PollFd], deadline: Option<u64>) -> Result<u32> {
    if fds.len() > POLL_MAX as usize {
        return Err(Error::Inval);
    }
    let mut endpoint = ENDPOINT.lock();
    let endpoint = match &mut *endpoint {
        Some(endpoint) => endpoint,
        none => none.insert(Endpoint::create()?),
    };
    loop {
        let ready = ask_all(fds, endpoint)?;
        let now = crate::time::now_ns();
        if ready > 0 || deadline.is_some_and(|deadline| deadline <= now) {
            return Ok(ready);
        }
        let ask_again = now.saturating_add(ASK_AGAIN);
        sys::timer_set(endpoint.raw(), deadline.unwrap_or(u64::MAX).min(ask_again))?;
        endpoint.receive()?;
        sys::timer_set(endpoint.raw(), u64::MAX)?;
    }
}

fn notify_handle(endpoint: &Endpoint) -> Result<OwnedHandle> {
    endpoint.mint(Rights::NOTIFY | Rights::TRANSFER, 0)
}

fn ask_all(fds: &mut [PollFd], endpoint: &Endpoint) -> Result<u32> {
    {
        let window = window::lock()?;
        window.mapping().copy_in(0, fds.as_bytes())?;
        let notify = notify_handle(endpoint)?;
        let count = fds.len() as u32;
        ask(&window, &vfs::Poll { count, bit: BIT, notify: notify.raw() })?;
        let bytes = window.mapping().to_vec(0, size_of_val(fds))?;
        let answered: Vec<PollFd> = bytes
            .chunks_exact(size_of::<PollFd>())
            .filter_map(|chunk| PollFd::read_from_bytes(chunk).ok())
            .collect();
        for (entry, answer) in fds.iter_mut().zip(answered) {
            entry.ready = answer.ready;
        }
    }
    for entry in fds.iter_mut().filter(|entry| entry.ready & poll::ELSEWHERE != 0) {
        let wanted = entry.events | poll::ERROR | poll::HANG_UP;
        entry.ready = match device::poll(entry.fd, wanted, BIT, notify_handle(endpoint)?) {
            Ok(events) => events & wanted,
            // It cannot tell: reading or writing will.
            Err(Error::NoSys | Error::BadMessage) => entry.events & (poll::IN | poll::OUT),
            Err(Error::ServerDied | Error::NxIo) => poll::HANG_UP | poll::ERROR,
            Err(error) => return Err(error),
        };
    }
    Ok(fds.iter().filter(|entry| entry.ready != 0).count() as u32)
}
