//! The guest's own events: rings in guest memory that the machine reads while a trace listens.
//!
//! ```text
//! VMM     sets the switch in the kernel information page ------------> kernel and processes see it
//! kernel  writes records into its ring           --+
//! process writes records into its own ring       --+--> VMM polls, converts times, passes them on
//! ```
//! No exits, no waiting: a writer never looks at the reader; what was overwritten before it was
//! read is counted by the reader. The kernel announces [`TraceRings`] in its trace page
//! (`platform::TracePageHeader`). A ring is made when it is first needed, so an untraced guest pays
//! neither memory nor more than one comparison per event.
//!
//! A ring is a header of one cache line and [`Record`]s; record number `n` is at `n % capacity`. The
//! writer takes a number from `head`, fills the record, and stores the low half of the number plus
//! one in `sequence` last. A process can write anything into its ring: readers bound and check.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One event.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Record {
    /// Time stamp counter.
    pub tsc: u64,
    /// Low half of the record's number, plus one; written last.
    pub sequence: u32,
    /// See [`kind`].
    pub kind: u8,
    pub cpu: u8,
    pub name: u16,
    pub a: u64,
    pub b: u64,
}

pub const RECORD_SIZE: usize = 32;
/// Bytes of a ring's header: `head` (u64) and nothing else.
pub const RING_HEADER: usize = 64;
/// Bytes of the kernel's ring and of a process's, header included: whole pages.
pub const KERNEL_RING_LEN: usize = 256 << 10;
pub const PROCESS_RING_LEN: usize = 32 << 10;

/// Records of a ring of this many bytes.
pub const fn capacity(len: usize) -> usize {
    (len - RING_HEADER) / RECORD_SIZE
}

/// Where the rings are, at [`RINGS_OFFSET`] in the trace page: physical addresses, 0 for none yet.
pub const RINGS_OFFSET: usize = 64;
/// Of the switch: a u64 in the kernel information page, [`SWITCH_EVENTS`] and [`SWITCH_GRANTS`]. The
/// machine writes it.
pub const SWITCH_AT: usize = RINGS_OFFSET;
/// All events are wanted.
pub const SWITCH_EVENTS: u64 = 1;
/// Grants and revocations of DMA memory are wanted.
pub const SWITCH_GRANTS: u64 = 2;
/// TSC just before and just after the announcement: the machine's clock stood between them.
pub const TSC_BEFORE: usize = RINGS_OFFSET + 8;
pub const TSC_AFTER: usize = RINGS_OFFSET + 16;
/// The kernel's ring.
pub const KERNEL_RING_AT: usize = RINGS_OFFSET + 24;
/// In the page behind the process table: ring of slot n, a u64 each.
pub const PROCESS_RINGS_OFFSET: usize = 3 * 4096;

/// What happened. `pid` below is the ring's owner: for the kernel's ring see each.
pub mod kind {
    /// `a`: pid that runs now (0: idle), `b`: its thread's number.
    pub const SWITCH: u8 = 1;
    /// A call was delivered. `name`: operation; `a`: the reply token, whose low 12 bits are the
    /// caller's thread; `b`: caller's pid, the server's pid in 20 bits
    /// from bit 32 and its thread in 12 bits from bit 52.
    pub const CALL: u8 = 2;
    /// A reply was delivered. `name`: 0 or 1 for an error; `a`: the token.
    pub const REPLY: u8 = 3;
    /// Bits `a` were raised at an endpoint of pid `b`.
    pub const NOTIFY: u8 = 4;
    /// Interrupt vector `name` was delivered to pid `b` (0: to the kernel).
    pub const INTERRUPT: u8 = 5;
    /// Process `b` took exception `name` at address `a`.
    pub const FAULT: u8 = 6;
    /// Process `b` began; `a`: its parent.
    pub const BIRTH: u8 = 7;
    /// Process `b` ended; `name`: cause (`event::cause`), `a`: exit status or number.
    pub const DEATH: u8 = 8;
    /// Memory at physical `a` was pinned for DMA by a process: pid in the low 32 bits of `b`, pages
    /// in the high ones. `name`: the function, bus << 8 | device << 3 | function.
    pub const DMA_GRANT: u8 = 9;
    /// The function `name` must not reach memory at physical `a` any more, pages in the high half of `b`.
    pub const DMA_REVOKE: u8 = 10;
    /// A client of a block driver submitted its request `b`; `name`: operation; `a`: first sector.
    pub const BLOCK_SUBMIT: u8 = 16;
    /// The client saw the completion of its request `b`; `name`: 0 or the error.
    pub const BLOCK_DONE: u8 = 17;
    /// A driver took request `b` of a client and calls it by a cookie of its own. `a`: client's pid,
    /// cookie from bit 32; `name`: operation.
    pub const DRIVER_TAKE: u8 = 18;
    /// It gave the request with cookie `a` to the device: `b` is a virtqueue's head, or a command
    /// slot, with the queue or port from bit 16.
    pub const DRIVER_ISSUE: u8 = 19;
    /// It answered the request with cookie `a`; `name`: 0 or the error.
    pub const DRIVER_DONE: u8 = 20;
    /// A service's life: `name` is a [`super::life`]; `a`, `b`: up to 16 bytes of its label.
    pub const SERVICE: u8 = 21;
    /// A span of the program's own begins or ends. `a`, `b`: up to 16 bytes of its name.
    pub const BEGIN: u8 = 22;
    pub const END: u8 = 23;
    /// A frame was submitted to the network driver with pid `a`, which knows it as `b` until it is sent.
    /// `name`: 1 on behalf of the call that the submitting process serves at the time, else 0.
    pub const FRAME_SUBMIT: u8 = 24;
    /// A network driver took frame `a` with `b` bytes; what it gave the device for it is a
    /// [`DRIVER_ISSUE`] with cookie `a`.
    pub const FRAME_TAKE: u8 = 25;
    /// Its device has done with frame `a`.
    pub const FRAME_SENT: u8 = 26;
    /// A network driver hands up a received frame with `b` bytes.
    pub const FRAME_UP: u8 = 27;
    /// It was taken in, `b` bytes from the driver with pid `a`.
    pub const FRAME_ARRIVED: u8 = 28;
}

/// What a service comes to ([`kind::SERVICE`]).
pub mod life {
    pub const STARTING: u16 = 0;
    pub const UP: u16 = 1;
    pub const DIED: u16 = 2;
    pub const RESTARTING: u16 = 3;
    pub const STOPPED: u16 = 4;
    pub const FAILED: u16 = 5;
    pub const NAMES: [&str; 6] = ["starting", "up", "died", "restarting", "stopped", "failed"];
}

/// The name of a kind, for people.
pub const fn kind_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        kind::SWITCH => "switch",
        kind::CALL => "call",
        kind::REPLY => "reply",
        kind::NOTIFY => "notify",
        kind::INTERRUPT => "interrupt",
        kind::FAULT => "fault",
        kind::BIRTH => "birth",
        kind::DEATH => "death",
        kind::DMA_GRANT => "dma-grant",
        kind::DMA_REVOKE => "dma-revoke",
        kind::BLOCK_SUBMIT => "block-submit",
        kind::BLOCK_DONE => "block-done",
        kind::DRIVER_TAKE => "driver-take",
        kind::DRIVER_ISSUE => "driver-issue",
        kind::DRIVER_DONE => "driver-done",
        kind::SERVICE => "service",
        kind::BEGIN => "begin",
        kind::END => "end",
        kind::FRAME_SUBMIT => "frame-submit",
        kind::FRAME_TAKE => "frame-take",
        kind::FRAME_SENT => "frame-sent",
        kind::FRAME_UP => "frame-up",
        kind::FRAME_ARRIVED => "frame-arrived",
        _ => return None,
    })
}

/// Sixteen bytes of text in two words.
pub fn text_words(text: &str) -> (u64, u64) {
    let mut bytes = [0; 16];
    let mut len = text.len().min(16);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
    let [a, b] = zerocopy::transmute!(bytes);
    (a, b)
}

/// The inverse; `buffer` holds the text.
pub fn words_text(a: u64, b: u64, buffer: &mut [u8; 16]) -> &str {
    buffer[..8].copy_from_slice(&a.to_le_bytes());
    buffer[8..].copy_from_slice(&b.to_le_bytes());
    let len = buffer.iter().position(|&byte| byte == 0).unwrap_or(16);
    core::str::from_utf8(&buffer[..len]).unwrap_or("?")
}

const _: () = assert!(size_of::<Record>() == RECORD_SIZE);
const _: () = assert!(capacity(KERNEL_RING_LEN) > 8000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_travel_in_two_words() {
        for text in ["", "fs-fat", "sixteen-bytes-ok"] {
            let (a, b) = text_words(text);
            assert_eq!(words_text(a, b, &mut [0; 16]), text);
        }
        let (a, b) = text_words("seventeen-bytes-é");
        assert_eq!(words_text(a, b, &mut [0; 16]), "seventeen-bytes-");
    }
}
