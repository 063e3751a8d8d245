//! A network driver and the link made of it.
//!
//! ```text
//!   waiting ──attach──> attached ──obituary, broken rings──> waiting ──(next instance)──> attached
//! ```
//! The link belongs to the stack, the driver's side to the server; both share [`Inner`].

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, Ordering};

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::object::{Handle, MemoryFlags, Protection, Rights};
use xinim_abi::services::link::{filter, info, link};
use xinim_abi::services::rs::control;
use xinim_net::link::{Capabilities, Link, Offload};
use xinim_net::rings::{LEN_LARGE, LEN_SMALL, Rings, SharedMemory};
use xinim_rt::ipc::Service;
use xinim_rt::memory::{Mapping, Memory};
use xinim_rt::{handle::OwnedHandle, ipc, log, rs, standby, sys, trace};

struct Window(Mapping);

impl SharedMemory for Window {
    fn load_u32(&self, at: usize) -> Result<u32> {
        self.0.load_u32(at)
    }
    fn store_u32(&self, at: usize, value: u32) -> Result<()> {
        self.0.store_u32(at, value)
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        self.0.copy_out(at, out)
    }
    fn write(&self, at: usize, data: &[u8]) -> Result<()> {
        self.0.copy_in(at, data)
    }
}

struct Inner {
    label: String,
    service: Service,
    memory: Memory,
    window: Window,
    rings: Rings,
    capabilities: Capabilities,
    /// The driver's present instance, for the trace.
    pid: u32,
    /// The instance whose death we will be told of.
    watched: u32,
    /// The driver was asked to tell of transmit buffers that come back.
    starved: bool,
    /// RS has been told that this driver breaks the protocol.
    accused: bool,
    /// The driver's doorbell while attached.
    doorbell: Option<u64>,
    link_up: bool,
}

pub struct Driver(Rc<RefCell<Inner>>);

/// Whether a call is being served: what is sent meanwhile is its doing, for the trace.
pub static SERVING: AtomicBool = AtomicBool::new(false);

/// Code of a complaint: the driver's ring indices make no sense.
const RING_BROKEN: u32 = 1;
/// What the stack has of it.
pub struct DriverLink(Rc<RefCell<Inner>>);

fn mac(word: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = word.to_le_bytes();
    [a, b, c, d, e, f]
}

/// Memory for the rings of a link.
pub struct RingMemory(Memory, Window);

impl RingMemory {
    fn new(len: usize) -> Result<Self> {
        let memory = Memory::create(len as u64, MemoryFlags::CONTIGUOUS)
            .or_else(|_| Memory::create(len as u64, MemoryFlags::empty()))?;
        let window = Window(memory.map(Protection::READ | Protection::WRITE)?);
        Ok(Self(memory, window))
    }

    /// Ahead of its use, in a process that stands by: clearing it is most of what a restart takes.
    pub fn ahead() -> Option<Self> {
        standby::may_make_memory().then(|| Self::new(LEN_LARGE).ok()).flatten()
    }
}

impl Driver {
    /// Asks the driver what it can do and makes the memory for it; not attached yet.
    /// `canary`: a random number, see [`Rings`]. `ahead`: memory that may be used for it.
    pub fn new(
        label: &str,
        canary: u64,
        ahead: &mut Option<RingMemory>,
    ) -> Result<(Self, DriverLink)> {
        let service = Service::with_name(Name::new(label)?);
        let found = service.call(&link::Info {})?;
        let has = |flag| found.flags & flag != 0;
        let capabilities = Capabilities {
            mac: mac(found.mac),
            mtu: found.mtu.clamp(576, 9000),
            tx_checksum: has(info::TX_CHECKSUM),
            rx_checksum: has(info::RX_CHECKSUM),
            tso4: has(info::TSO4),
            tso6: has(info::TSO6),
        };
        let large = capabilities.tso4 || capabilities.tso6 || capabilities.mtu > 2000;
        let len = if large { LEN_LARGE } else { LEN_SMALL };
        let ready = ahead.take_if(|RingMemory(memory, _)| memory.len() >= len as u64);
        let RingMemory(memory, window) = ready.map_or_else(|| RingMemory::new(len), Ok)?;
        let rings = Rings::new(&window, large, canary)?;
        if has(info::MAC_MADE_UP) {
            log!("net: {label}: the device has no address of its own; one was made up");
        }
        let inner = Rc::new(RefCell::new(Inner {
            label: label.into(),
            service,
            memory,
            window,
            rings,
            capabilities,
            pid: 0,
            watched: 0,
            starved: false,
            accused: false,
            doorbell: None,
            link_up: has(info::LINK_UP),
        }));
        Ok((Self(inner.clone()), DriverLink(inner)))
    }

    pub fn label(&self) -> String {
        self.0.borrow().label.clone()
    }

    pub fn is_attached(&self) -> bool {
        self.0.borrow().doorbell.is_some()
    }

    /// Gives the memory to the driver's present instance, which raises `bit` and the next on
    /// `endpoint`. Answers its process id; `endpoint` is told of its death.
    pub fn attach(&self, endpoint: Handle, bit: u32) -> Result<u32> {
        self.0.borrow_mut().attach(endpoint, bit)
    }

    pub fn died(&self) {
        let mut inner = self.0.borrow_mut();
        inner.doorbell = None;
        inner.service.disconnect();
    }

    /// The driver says that its link changed.
    pub fn look_at_state(&self) {
        let mut inner = self.0.borrow_mut();
        if let Ok(found) = inner.service.call(&link::Info {}) {
            inner.link_up = found.flags & info::LINK_UP != 0;
        }
    }

    /// A driver that breaks the rules of its rings is replaced.
    pub fn recover_if_broken(&self) {
        let mut inner = self.0.borrow_mut();
        if inner.rings.is_broken() && inner.doorbell.take().is_some() {
            log!("net: {} broke its rings and is replaced", inner.label);
            // Without the right to do so the interface stays down.
            let _ = rs::control(control::KILL, &inner.label);
        }
    }
}

impl Inner {
    fn attach(&mut self, endpoint: Handle, bit: u32) -> Result<u32> {
        self.service.disconnect();
        let pid = self.service.pid()?;
        // Once for an instance, however often it is tried.
        if self.watched != pid {
            sys::watch(pid, endpoint, pid.into())?;
            self.watched = pid;
        }
        let found = ipc::call(self.service.connect(true)?, &link::Info {})?;
        if mac(found.mac) != self.capabilities.mac {
            return Err(Error::NoDev); // another device stands there now
        }
        self.rings.restart(&self.window)?;
        self.starved = false;
        self.accused = false;
        let rights = Rights::READ | Rights::WRITE | Rights::TRANSFER;
        let memory = self.memory.handle().mint(rights, 0)?;
        let rights = (Rights::NOTIFY | Rights::TRANSFER).bits();
        let notify = OwnedHandle::from_raw(sys::handle_mint(endpoint, rights, 0)?);
        let len = self.memory.len();
        let request = link::Attach { len, bit, memory: memory.raw(), notify: notify.raw() };
        let reply = ipc::call(self.service.connect(true)?, &request)?;
        if reply.bit >= 48 {
            return Err(Error::BadReply);
        }
        // Neighbour discovery and router advertisements are multicast.
        let all = link::SetFilter { flags: filter::ALL_MULTICAST };
        ipc::call(self.service.connect(true)?, &all)?;
        self.pid = pid;
        self.doorbell = Some(1 << reply.bit);
        self.link_up = found.flags & info::LINK_UP != 0;
        self.service.notify(1 << reply.bit)?;
        Ok(pid)
    }
}

impl Link for DriverLink {
    fn capabilities(&self) -> Capabilities {
        self.0.borrow().capabilities
    }

    /// A link whose driver is being replaced stays up: connections wait for its successor.
    fn is_up(&self) -> bool {
        self.0.borrow().link_up
    }

    fn receive(&mut self, frame: &mut Vec<u8>) -> Option<bool> {
        let inner = &mut *self.0.borrow_mut();
        match inner.rings.receive(&inner.window, frame) {
            Ok(received) => {
                if received.is_some() {
                    let length = frame.len() as u64;
                    trace::event(trace::kind::FRAME_ARRIVED, 0, inner.pid.into(), length);
                }
                received
            }
            // Indices that make no sense: RS restarts a driver that lies.
            Err(_) => {
                if !core::mem::replace(&mut inner.accused, true) {
                    let _ = rs::complain(inner.service.label(), RING_BROKEN);
                }
                None
            }
        }
    }

    fn has_room(&self) -> bool {
        let inner = &mut *self.0.borrow_mut();
        if inner.rings.has_room() {
            return true;
        }
        let _ = inner.rings.reap(&inner.window);
        let room = inner.rings.has_room();
        if inner.starved == room {
            inner.starved = !room;
            let _ = inner.rings.want_room(&inner.window, !room);
            // A driver that waits for received frames only must hear of the wish.
            if let (false, Some(doorbell)) = (room, inner.doorbell) {
                let _ = inner.service.notify(doorbell);
            }
        }
        room
    }

    fn transmit(&mut self, frame: &[u8], offload: &Offload) {
        let inner = &mut *self.0.borrow_mut();
        // Counted where it is dropped.
        let submitted = inner.rings.transmit(&inner.window, frame, offload);
        if let (Ok(()), Some(id)) = (submitted, inner.rings.newest()) {
            let serving = u16::from(SERVING.load(Ordering::Relaxed));
            trace::event(trace::kind::FRAME_SUBMIT, serving, inner.pid.into(), id.into());
        }
    }

    fn flush(&mut self) {
        let inner = &mut *self.0.borrow_mut();
        if let (Ok(true), Some(doorbell)) =
            (inner.rings.publish_and_ask(&inner.window), inner.doorbell)
        {
            // A driver that died is found by its obituary.
            let _ = inner.service.notify(doorbell);
        }
    }

    fn dropped(&self) -> (u64, u64) {
        let inner = self.0.borrow();
        (inner.rings.rx_dropped, inner.rings.tx_dropped)
    }

    fn driver(&self) -> String {
        self.0.borrow().label.clone()
    }
}
