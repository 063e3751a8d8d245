//! The virtio-blk driver's server: `services::block` on one side, the device on the other.
//!
//! ```text
//! bit 0        the device's interrupt
//! bit 1 + n    doorbell of the client at place n
//! TIMER        a request's deadline may have passed
//! OBITUARY     a client died
//! ```
//! After a restart the new instance resets the device before anything else; then DEVICE_RESET_DONE
//! frees what the dead one had pinned, and only then is memory pinned anew. A device beyond recovery
//! ends the process; RS decides what then.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::BTreeMap;
use xinim_abi::error::{Error, Result};
use xinim_abi::ipc::{Message, bits};
use xinim_abi::object::Handle;
use xinim_abi::services::block::{COMPLETION_BIT, Text, block};
use xinim_driver_rt::{PciDevice, PinnedMemory, Registers, RtClock, RtDma};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::memory::Memory;
use xinim_rt::server::{Request, Server, answer};
use xinim_rt::{log, process, server, sys, time};
use xinim_virtio::StartError;
use xinim_virtio_blk::disk::{Disk, TIMEOUT_NS};
use xinim_virtio_blk::service::{CLIENT_MEMORY_MAX, CLIENTS_MAX, Notify, Pumped, Service};

xinim_rt::program!(main);

const INTERRUPT_BIT: u32 = 0;
const DOORBELL_BIT: u32 = 1;
const DOORBELL_BITS: u64 = ((1 << CLIENTS_MAX) - 1) << DOORBELL_BIT;
/// Raised by ourselves: the last pump left work.
const AGAIN_BIT: u32 = 40;
/// The one message this driver uses.
const VECTOR: u16 = 0;
/// How long to look for completions before waiting for the interrupt.
const SPIN_NS: u64 = 50_000;

/// The endpoint a client wants to be told on.
struct Client(OwnedHandle);

impl Notify for Client {
    fn notify(&self) {
        // Fails where the client died; its obituary is on the way.
        let _ = sys::notify(self.0.raw(), 1 << COMPLETION_BIT);
    }
}

struct BlockServer {
    service: Service<Registers, RtDma, RtClock, PinnedMemory, Client>,
    device: PciDevice,
    endpoint: Handle,
    /// Clients whose death we are told of, by process id.
    watched: BTreeMap<u32, ()>,
    /// A timer is set for the deadline of what is in flight.
    timer: bool,
}

fn main() -> i32 {
    match start() {
        Ok(mut server) => server::run(&mut server),
        Err(error) => {
            log!("virtio-blk: {error}");
            1
        }
    }
}

fn start() -> core::result::Result<BlockServer, StartError> {
    let device = PciDevice::from_start()?;
    let endpoint = server::own_endpoint()?;
    device.bind_interrupt(VECTOR.into(), INTERRUPT_BIT)?;
    let dma = RtDma::new(&device);
    let disk = Disk::start(&device, &dma, RtClock, Some(VECTOR))?;
    let service = Service::new(disk, SPIN_NS);
    Ok(BlockServer { service, device, endpoint, watched: BTreeMap::new(), timer: false })
}

impl Server for BlockServer {
    fn call(&mut self, request: Request) -> Option<Message> {
        match block::Call::decode(&request.message) {
            Err(error) => answer::<block::Attached>(Err(error)),
            Ok(block::Call::Units(_)) => answer(Ok(self.service.units())),
            // The one unit neither comes nor goes: nobody has to be told.
            Ok(block::Call::Subscribe(_)) => {
                answer(Ok(block::Subscribed { generation: self.service.units().generation }))
            }
            Ok(block::Call::Info(info)) => {
                answer(self.service.check_unit(info.unit).map(|()| self.service.info()))
            }
            Ok(block::Call::Limits(limits)) => {
                answer(self.service.check_unit(limits.unit).map(|()| self.service.limits()))
            }
            Ok(block::Call::Identity(identity)) => {
                let text = Text::default();
                let unit = self.service.check_unit(identity.unit);
                answer(unit.map(|()| block::IdentityReply { text }))
            }
            Ok(block::Call::Statistics(asked)) => {
                let unit = self.service.check_unit(asked.unit);
                answer(unit.and_then(|()| self.service.statistics(asked.what)))
            }
            Ok(block::Call::Attach(attach)) => answer(self.attach(&request, attach)),
            Ok(block::Call::Detach(detach)) => {
                answer(self.service.check_unit(detach.unit).map(|()| {
                    self.service.forget(request.sender);
                    block::Detached {}
                }))
            }
        }
    }

    fn notified(&mut self, raised: u64) {
        if raised & bits::OBITUARY != 0 {
            self.bury();
        }
        if raised & bits::TIMER != 0 {
            self.timer = false;
            self.check_health();
        }
        let interrupt = 1 << INTERRUPT_BIT;
        if raised & (interrupt | DOORBELL_BITS | 1 << AGAIN_BIT) != 0 {
            let before = self.service.completed();
            self.pump();
            // An interrupt that brought nothing: look whether the device says why.
            let idle = self.service.completed() == before;
            if raised == interrupt && idle && self.service.disk().in_flight() > 0 {
                self.check_health();
            }
        }
        self.set_timer();
    }

    fn terminate(&mut self) -> i32 {
        i32::from(self.service.disk_mut().stop().is_err())
    }
}

impl BlockServer {
    fn attach(&mut self, request: &Request, attach: block::Attach) -> Result<block::Attached> {
        self.service.check_unit(attach.unit)?;
        let memory = Memory::from_handle(request.handle(attach.ring))?;
        let notify = request.handle(attach.notify);
        if attach.len > memory.len() || memory.len() > CLIENT_MEMORY_MAX {
            return Err(Error::Inval);
        }
        let pinned = PinnedMemory::new(self.device.device(), memory)?;
        let client = request.sender;
        if self.watched.insert(client, ()).is_none()
            && let Err(error) = sys::watch(client, self.endpoint, client.into())
        {
            self.watched.remove(&client);
            return Err(error);
        }
        let place = self.service.attach(client, pinned, Client(notify))?;
        Ok(block::Attached { bit: DOORBELL_BIT + place })
    }

    /// Forgets the clients that died.
    fn bury(&mut self) {
        while let Ok(Some(obituary)) = sys::event_next(self.endpoint) {
            let client = obituary.cookie as u32;
            self.watched.remove(&client);
            self.service.forget(client);
        }
    }

    fn pump(&mut self) {
        match self.service.pump() {
            Ok(Pumped::Idle) => {}
            Ok(Pumped::Again) => {
                let _ = sys::notify(self.endpoint, 1 << AGAIN_BIT);
            }
            Err(error) => give_up(&error),
        }
    }

    fn check_health(&mut self) {
        if let Err(error) = self.service.check_health() {
            give_up(&error);
        }
    }

    /// One timer for the deadline of whatever is in flight; set anew only when it has run out, as it
    /// costs a system call.
    fn set_timer(&mut self) {
        if self.timer || self.service.disk().in_flight() == 0 {
            return;
        }
        let deadline = self.service.disk().deadline().unwrap_or(time::now_ns() + TIMEOUT_NS);
        self.timer = sys::timer_set(self.endpoint, deadline).is_ok();
    }
}

/// The device cannot be brought back. What is in flight may still be written to: the kernel stops
/// the function's DMA when this process ends.
fn give_up(error: &StartError) -> ! {
    log!("virtio-blk: {error}");
    process::exit(1)
}
