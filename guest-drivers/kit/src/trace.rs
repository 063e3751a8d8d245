//! Events of driver logic for a trace (`xinim_abi::trace`). Where they go is the process's business: the
//! logic runs in tests as well, where they go nowhere.

use spin::Once;

pub use xinim_abi::trace::kind;

/// Writes an event if somebody wants it: kind, name, `a`, `b`.
pub type Write = fn(u8, u16, u64, u64);

static WRITE: Once<Write> = Once::new();

/// For the driver's process, at its start. The first one counts.
pub fn connect(write: Write) {
    WRITE.call_once(|| write);
}

/// Writes an event, if anybody is connected.
#[inline]
pub fn event(kind: u8, name: u16, a: u64, b: u64) {
    if let Some(write) = WRITE.get() {
        write(kind, name, a, b);
    }
}

/// The device was given the request that the driver calls `cookie`: as `tag` of `queue` (a
/// virtqueue and its head, or a port and its slot).
#[inline]
pub fn issued(cookie: u64, queue: u16, tag: u16) {
    event(kind::DRIVER_ISSUE, 0, cookie, u64::from(queue) << 16 | u64::from(tag));
}
