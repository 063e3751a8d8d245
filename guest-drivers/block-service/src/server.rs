//! The server of a block driver: `services::block` on one side, the device's logic on the other.
//!
//! ```text
//! INTERRUPT    completions
//! ATTENTION    a change of configuration or status, where the device has a message of its own for it
//! DOORBELL     some client submitted
//! AGAIN        raised by ourselves: the last pump left work
//! TIMER        the device wants to be looked at (a deadline, a state that ends by itself)
//! OBITUARY     a client died
//! ```
//! All clients share one doorbell bit: every pump looks at every ring, which costs a load each. A
//! device beyond recovery ends the process: the kernel stops the function's DMA then, and RS decides
//! whether to try again.

use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use xinim_abi::error::{Error, Result};
use xinim_abi::ipc::{Message, bits};
use xinim_abi::object::Handle;
use xinim_abi::services::block::{COMPLETION_BIT, UNITS_BIT, block};
use xinim_driver_rt::{Interrupt, PciDevice, PinnedMemory};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::memory::Memory;
use xinim_rt::server::{Request, Server, answer};
use xinim_rt::time::Alarm;
use xinim_rt::{log, process, server, sys, time};

use crate::device::BlockDevice;
use crate::service::{CLIENT_MEMORY_MAX, Notify, Pumped, Service};

/// Bits of the driver's endpoint that its interrupts are bound to.
pub const INTERRUPT_BIT: u32 = 0;
pub const ATTENTION_BIT: u32 = 1;
const DOORBELL_BIT: u32 = 2;
const AGAIN_BIT: u32 = 3;
/// How long to look for completions before waiting for the interrupt.
const SPIN_NS: u64 = 50_000;

/// The client told last, who hears of it when the driver waits: one entry into the kernel less.
/// The driver runs before its clients anyway.
type Parting = Rc<RefCell<Option<Rc<OwnedHandle>>>>;

/// The endpoint a client wants to be told on.
struct Client(Rc<OwnedHandle>, Parting);

impl Notify for Client {
    // Both fail where the client died; its obituary is on the way.
    fn completed(&self) {
        match self.1.replace(Some(self.0.clone())) {
            Some(earlier) if !Rc::ptr_eq(&earlier, &self.0) => {
                let _ = sys::notify(earlier.raw(), 1 << COMPLETION_BIT);
            }
            _ => {}
        }
    }
    fn units_changed(&self) {
        let _ = sys::notify(self.0.raw(), 1 << UNITS_BIT);
    }
}

struct BlockServer<B> {
    service: Service<B, PinnedMemory, Client>,
    device: PciDevice,
    interrupts: Vec<Interrupt>,
    endpoint: Handle,
    parting: Parting,
    /// Who was told at the last wait: keeps the handle.
    told: Option<Rc<OwnedHandle>>,
    /// Clients whose death we are told of, by process id.
    watched: BTreeSet<u32>,
    timer: Alarm,
    /// INTERRUPT may mean what ATTENTION would.
    shared: bool,
}

/// Announces the service and serves for ever. `interrupts` are what is bound to [`INTERRUPT_BIT`] and
/// [`ATTENTION_BIT`]. `shared`: the device has one message for everything, and `poll` alone does not
/// find out what it meant.
pub fn run<B: BlockDevice>(
    device: PciDevice,
    interrupts: &[Interrupt],
    block: B,
    shared: bool,
) -> ! {
    let endpoint = match server::own_endpoint() {
        Ok(endpoint) => endpoint,
        Err(_) => process::exit(1),
    };
    xinim_driver_kit::trace::connect(xinim_rt::trace::event);
    let service = Service::new(block, SPIN_NS);
    let mut server = BlockServer {
        service,
        device,
        interrupts: interrupts.to_vec(),
        endpoint,
        watched: BTreeSet::new(),
        timer: Alarm::default(),
        shared,
        parting: Parting::default(),
        told: None,
    };
    server.set_timer();
    server::run(&mut server)
}

impl<B: BlockDevice> Server for BlockServer<B> {
    fn call(&mut self, request: Request) -> Option<Message> {
        match block::Call::decode(&request.message) {
            Err(error) => answer::<block::Attached>(Err(error)),
            Ok(block::Call::Info(call)) => answer(self.service.info(call.unit)),
            Ok(block::Call::Limits(call)) => answer(self.service.limits(call.unit)),
            Ok(block::Call::Identity(call)) => answer(self.service.identity(call.unit, call.what)),
            Ok(block::Call::Statistics(call)) => {
                answer(self.service.statistics(call.unit, call.what))
            }
            Ok(block::Call::Units(_)) => answer(Ok(self.service.units())),
            Ok(block::Call::Attach(attach)) => answer(self.attach(&request, attach)),
            Ok(block::Call::Subscribe(call)) => answer(self.subscribe(&request, call)),
            Ok(block::Call::Claim(call)) => {
                answer(self.service.claim(request.sender, &call).map(|()| block::Claimed {}))
            }
            Ok(block::Call::Detach(call)) => {
                self.service.detach(request.sender, call.unit);
                answer(Ok(block::Detached {}))
            }
        }
    }

    fn notified(&mut self, raised: u64) {
        if raised & bits::OBITUARY != 0 {
            self.bury();
        }
        if raised & bits::TIMER != 0 {
            self.timer.rang();
        }
        let due = self.service.device().wake_at().is_some_and(|at| at <= time::now_ns());
        if due || raised & 1 << ATTENTION_BIT != 0 {
            self.service.device_mut().attend();
        }
        let interrupt = 1 << INTERRUPT_BIT;
        let work = interrupt | 1 << ATTENTION_BIT | 1 << DOORBELL_BIT | 1 << AGAIN_BIT;
        if due || raised & work != 0 {
            let before = self.service.completed();
            self.pump();
            // An interrupt that brought nothing: look whether the device says why.
            let idle = self.service.completed() == before;
            if self.shared && raised == interrupt && idle {
                self.service.device_mut().attend();
                self.pump();
            }
        }
        if raised & (interrupt | 1 << ATTENTION_BIT) != 0 {
            for interrupt in &self.interrupts {
                // Fails for nothing that this process holds.
                let _ = interrupt.acknowledge();
            }
        }
        self.set_timer();
    }

    fn parting(&mut self) -> Option<(Handle, u64)> {
        self.told = self.parting.take();
        self.told.as_ref().map(|client| (client.raw(), 1 << COMPLETION_BIT))
    }

    fn terminate(&mut self) -> i32 {
        i32::from(self.service.device_mut().stop().is_err())
    }
}

impl<B: BlockDevice> BlockServer<B> {
    /// Learns of the caller's death.
    fn watch(&mut self, client: u32) -> Result<()> {
        if self.watched.insert(client)
            && let Err(error) = sys::watch(client, self.endpoint, client.into())
        {
            self.watched.remove(&client);
            return Err(error);
        }
        Ok(())
    }

    fn attach(&mut self, request: &Request, attach: block::Attach) -> Result<block::Attached> {
        let memory = Memory::from_handle(request.handle(attach.ring))?;
        let notify = request.handle(attach.notify);
        if attach.len > memory.len() || memory.len() > CLIENT_MEMORY_MAX {
            return Err(Error::Inval);
        }
        let pinned = PinnedMemory::new(self.device.device(), memory)?;
        self.watch(request.sender)?;
        self.service.attach(
            request.sender,
            attach.unit,
            pinned,
            Client(notify.into(), self.parting.clone()),
        )?;
        Ok(block::Attached { bit: DOORBELL_BIT })
    }

    fn subscribe(
        &mut self,
        request: &Request,
        subscribe: block::Subscribe,
    ) -> Result<block::Subscribed> {
        let notify = Client(request.handle(subscribe.notify).into(), self.parting.clone());
        self.watch(request.sender)?;
        let generation = self.service.subscribe(request.sender, notify)?;
        Ok(block::Subscribed { generation })
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
            // What is in flight may still be written to: only the end of this process stops that.
            Err(error) => {
                log!("{error}");
                process::exit(1)
            }
        }
    }

    /// Has a timer run out when the device wants to be looked at.
    fn set_timer(&mut self) {
        if let Some(at) = self.service.device().wake_at() {
            self.timer.set(self.endpoint, at);
        }
    }
}
