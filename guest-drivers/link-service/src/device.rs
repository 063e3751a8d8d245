//! What a network driver's device logic offers to the service in front of it.
//!
//! ```text
//! send()* give()* kick()  ->  in flight  ->  poll()  ->  sent, received, each once
//!                               |  arm(): interrupt, please; true: poll again first
//!                               |  wake_at()/attend(): time passed, or the interrupt may mean more
//! ```
//! Recovery from a stuck or broken device happens inside `poll`: frames in flight are sent again, and
//! receive buffers given again. What `poll` returns as an error is beyond recovery and ends the
//! process.

use alloc::string::String;
use alloc::vec::Vec;
use xinim_abi::error::Result;
use xinim_abi::services::link::Transmit;
use xinim_driver_kit::Segment;

/// What the device is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkInfo {
    pub mac: [u8; 6],
    /// See `services::link::info`.
    pub flags: u32,
    /// Longest IP packet.
    pub mtu: u32,
    /// Queue pairs in use.
    pub queues: u32,
    /// Mbit/s; 0 unknown.
    pub speed: u32,
}

/// Which frames are received beside those to the own address and to everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub promiscuous: bool,
    pub all_multicast: bool,
    pub multicast: Vec<[u8; 6]>,
}

/// A part of a received frame in one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// As passed to [`LinkDevice::give`].
    pub cookie: u32,
    /// Where in the buffer it begins.
    pub start: u16,
    pub len: u16,
    /// See `services::link::received`.
    pub flags: u16,
}

/// What [`LinkDevice::poll`] found.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// Cookies of frames that went out (or were given up).
    pub sent: Vec<u32>,
    pub received: Vec<Frame>,
    /// Buffers that came back empty: to be given again.
    pub unused: Vec<u32>,
}

impl Events {
    pub fn clear(&mut self) {
        self.sent.clear();
        self.received.clear();
        self.unused.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.received.is_empty() && self.unused.is_empty()
    }
}

/// The server's memory; the cookies of receive buffers are offsets in it.
pub trait Peek {
    /// Copies bytes of a buffer or frame that was checked to lie there. The server can change them at
    /// any time.
    fn peek(&self, offset: u32, out: &mut [u8]);
}

/// No server, so no buffer is with the device.
pub struct Nothing;

impl Peek for Nothing {
    fn peek(&self, _offset: u32, out: &mut [u8]) {
        out.fill(0);
    }
}

pub trait LinkDevice {
    /// Why it is beyond recovery.
    type Error: core::fmt::Display + core::fmt::Debug;

    fn info(&self) -> LinkInfo;

    /// Adds a frame to be sent, in pieces; `how` was checked against [`LinkInfo::flags`], and the
    /// frame lies at its `offset` in `memory`. `Again`: no room now, after some are sent.
    fn send(
        &mut self,
        memory: &dyn Peek,
        data: &[Segment],
        how: &Transmit,
        cookie: u32,
    ) -> Result<()>;

    /// Adds an empty buffer for received frames. `Again`: the device has enough.
    fn give(&mut self, buffer: Segment, cookie: u32) -> Result<()>;

    /// Tells the device about everything added.
    fn kick(&mut self);

    /// Moves what is finished to `events`; `memory` shows what the device wrote into the buffers.
    fn poll(
        &mut self,
        memory: &dyn Peek,
        events: &mut Events,
    ) -> core::result::Result<(), Self::Error>;

    /// Asks for an interrupt at the next received frame and, with `sent`, at the next that was
    /// sent. True: poll again first, something is there.
    fn arm(&mut self, sent: bool) -> bool;

    /// Asks for no interrupts while events are being polled for.
    fn disarm(&mut self);

    /// Time passed, or an interrupt came that may mean more than frames.
    fn attend(&mut self);

    /// When [`attend`](Self::attend) is to be called even without an interrupt, in ns.
    fn wake_at(&self) -> Option<u64>;

    /// Stops all DMA and forgets every frame and buffer; then it works again, empty.
    fn forget_all(&mut self) -> core::result::Result<(), Self::Error>;

    fn set_filter(&mut self, filter: &Filter) -> Result<()>;

    /// Stops or starts sender and receiver.
    fn set_up(&mut self, up: bool) -> Result<()>;

    /// Counters, `name value` a line.
    fn statistics(&mut self) -> String;

    /// Stops the device for good.
    fn stop(&mut self) -> core::result::Result<(), Self::Error>;
}
