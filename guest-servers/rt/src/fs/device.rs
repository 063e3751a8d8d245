//! Character devices: the direct way to their servers, per descriptor.

use alloc::collections::BTreeMap;

use spin::Mutex;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Request, decode_reply};
use xinim_abi::object::Handle;
use xinim_abi::services::chardev::{chardev, control as op};
use xinim_abi::services::socket::{option, socket};
use xinim_abi::services::vfs::vfs;

use crate::handle::OwnedHandle;
use crate::ipc::Numbers;
use crate::window::{self, Window};
use crate::{fs, ipc, sys, time};

struct Device {
    cookie: u64,
    endpoint: OwnedHandle,
    /// Position, for devices that have one.
    position: u64,
}

static DEVICES: Mutex<BTreeMap<u32, Device>> = Mutex::new(BTreeMap::new());

/// The descriptor was closed or means something else now.
pub(super) fn forget(fd: u32) {
    let old = DEVICES.lock().remove(&fd);
    drop(old);
}

/// Remembers what VFS said and shares the window with the device's server.
pub(super) fn learn(fd: u32, window: &Window, found: vfs::Redirected) -> Result<()> {
    let endpoint = OwnedHandle::from_raw(found.endpoint);
    let shared = window.share()?;
    let len = window.mapping().len() as u64;
    ipc::call(endpoint.raw(), &chardev::Attach { len, window: shared.raw() })?;
    let device = Device { cookie: found.cookie, endpoint, position: 0 };
    DEVICES.lock().insert(fd, device);
    Ok(())
}

fn lookup(fd: u32) -> Option<(Handle, u64, u64)> {
    let devices = DEVICES.lock();
    let device = devices.get(&fd)?;
    Some((device.endpoint.raw(), device.cookie, device.position))
}

/// Finds the next instance of the device's server; the position stays.
fn find_again(fd: u32, window: &Window) -> Result<()> {
    let (_, _, position) = lookup(fd).ok_or(Error::BadF)?;
    for _ in 0..MAX_REPEATS {
        let found = fs::ask(window, &vfs::Redirect { fd })?;
        match learn(fd, window, found) {
            Ok(()) => {
                if let Some(device) = DEVICES.lock().get_mut(&fd) {
                    device.position = position;
                }
                return Ok(());
            }
            // This one died as it was told of us.
            Err(Error::ServerDied) => time::sleep_ms(1),
            Err(error) => return Err(error),
        }
    }
    Err(Error::ServerDied)
}

static NUMBERS: Numbers = Numbers::new();
/// Instances of a server that one request is tried on.
const MAX_REPEATS: u32 = 64;

/// A numbered request to the device behind `fd`: when its server dies, the same one goes to the next
/// instance, which VFS names. `None`: not known as a device.
fn through<R: Request>(
    fd: u32,
    window: &Window,
    make: impl Fn(u64, u64) -> R,
    value: impl Fn(R::Reply) -> u64,
    moves: bool,
) -> Option<Result<u64>> {
    let number = NUMBERS.next();
    let mut again = false;
    lookup(fd)?;
    for _ in 0..MAX_REPEATS {
        let (endpoint, cookie, position) = lookup(fd)?;
        let mut message = make(cookie, position).encode();
        message.tag = message.tag.numbered(number, again);
        let reply = sys::ipc_call(endpoint, &message).and_then(|reply| decode_reply(&reply));
        match reply {
            Err(Error::ServerDied) => {
                again = true;
                if let Err(error) = find_again(fd, window) {
                    return Some(Err(error));
                }
            }
            result => {
                let result = result.map(&value);
                if let (true, Ok(count)) = (moves, &result)
                    && let Some(device) = DEVICES.lock().get_mut(&fd)
                {
                    device.position = device.position.saturating_add(*count);
                }
                return Some(result);
            }
        }
    }
    Some(Err(Error::ServerDied))
}

/// `None`: not known as a device.
pub(super) fn read(fd: u32, window: &Window, len: u32) -> Option<Result<u64>> {
    let make = |cookie, position| chardev::Read { cookie, position, at: 0, len };
    through(fd, window, make, |reply| reply.count, true)
}

pub(super) fn write(fd: u32, window: &Window, len: u32) -> Option<Result<u64>> {
    let make = |cookie, position| chardev::Write { cookie, position, at: 0, len };
    through(fd, window, make, |reply| reply.count, true)
}

/// Makes sure the way to the device behind `fd` is known. `NotTy` if it is no character device.
pub fn attach_device(fd: u32) -> Result<()> {
    if lookup(fd).is_some() {
        return Ok(());
    }
    let window = window::lock()?;
    let found = fs::ask(&window, &vfs::Redirect { fd }).map_err(|error| match error {
        Error::NotSup | Error::Inval => Error::NotTy,
        other => other,
    })?;
    learn(fd, &window, found)
}

/// Events at the device or object behind `fd`; `bit` of `notify` is raised when that may change.
pub(super) fn poll(fd: u32, events: u16, bit: u32, notify: OwnedHandle) -> Result<u16> {
    attach_device(fd)?;
    let (endpoint, cookie, _) = lookup(fd).ok_or(Error::NotTy)?;
    let request = chardev::Poll { cookie, events: events.into(), bit, notify: notify.raw() };
    let result = ipc::call(endpoint, &request).map(|reply| reply.ready as u16);
    if result == Err(Error::ServerDied) {
        forget(fd);
    }
    result
}

/// `services::chardev::control` on the device behind `fd`.
pub fn control(fd: u32, operation: u32, argument: u64) -> Result<u64> {
    attach_device(fd)?;
    let window = window::lock()?;
    let make = |cookie, _| chardev::Control { cookie, operation, argument };
    through(fd, &window, make, |reply| reply.value, false).unwrap_or(Err(Error::NotTy))
}

/// Tells the server of a socket whether its operations may wait. Devices have no such thing.
pub(super) fn set_nonblocking(fd: u32, on: bool) {
    if attach_device(fd).is_ok()
        && let Some((endpoint, cookie, _)) = lookup(fd)
    {
        let option = option::NON_BLOCKING;
        let _ = ipc::call(endpoint, &socket::SetOption { cookie, option, value: on.into() });
    }
}

/// Is `fd` a terminal?
pub fn is_terminal(fd: u32) -> bool {
    control(fd, op::IS_TERMINAL, 0) == Ok(1)
}
