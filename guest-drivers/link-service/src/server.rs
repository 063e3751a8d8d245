//! The server of a network driver: `services::link` on one side, the device's logic on the other.
//!
//! ```text
//! INTERRUPT    frames
//! ATTENTION    link state, where the device has a message of its own for it
//! DOORBELL     the network server put something into its rings
//! AGAIN        raised by ourselves: the last pump left work
//! TIMER        the device wants to be looked at
//! OBITUARY     the network server died
//! ```

use xinim_abi::error::{Error, Result};
use xinim_abi::ipc::{Message, bits};
use xinim_abi::object::{Handle, Protection};
use xinim_abi::services::link::link;
use xinim_driver_rt::{Interrupt, PciDevice, PinnedMemory};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::memory::Memory;
use xinim_rt::server::{Request, Server, answer};
use xinim_rt::time::Alarm;
use xinim_rt::{log, process, server, sys, time};

use crate::device::LinkDevice;
use crate::service::{MEMORY_MAX, Notify, Pumped, Service};

/// Bits of the driver's endpoint that its interrupts are bound to.
pub const INTERRUPT_BIT: u32 = 0;
pub const ATTENTION_BIT: u32 = 1;
const DOORBELL_BIT: u32 = 2;
const AGAIN_BIT: u32 = 3;

/// The network server's endpoint.
struct Client {
    notify: OwnedHandle,
    bit: u32,
}

impl Notify for Client {
    // Both fail where the server died; its obituary is on the way.
    fn work(&self) {
        let _ = sys::notify(self.notify.raw(), 1 << self.bit);
    }
    fn state_changed(&self) {
        let _ = sys::notify(self.notify.raw(), 2 << self.bit);
    }
}

struct LinkServer<L> {
    name: &'static str,
    service: Service<L, PinnedMemory, Client>,
    device: PciDevice,
    endpoint: Handle,
    interrupt: Interrupt,
    /// The process whose death we are told of.
    watched: u32,
    timer: Alarm,
    /// INTERRUPT may mean what ATTENTION would.
    shared: bool,
}

/// Announces the service and serves for ever. `shared`: the device has one interrupt for everything.
pub fn run<L: LinkDevice>(
    name: &'static str,
    device: PciDevice,
    logic: L,
    interrupt: Interrupt,
    shared: bool,
) -> ! {
    let Ok(endpoint) = server::own_endpoint() else { process::exit(1) };
    xinim_driver_kit::trace::connect(xinim_rt::trace::event);
    let service = Service::new(logic);
    let (watched, timer) = (0, Alarm::default());
    let mut server =
        LinkServer { name, service, device, endpoint, interrupt, watched, timer, shared };
    server.set_timer();
    server::run(&mut server)
}

impl<L: LinkDevice> Server for LinkServer<L> {
    fn call(&mut self, request: Request) -> Option<Message> {
        match link::Call::decode(&request.message) {
            Err(error) => answer::<link::Attached>(Err(error)),
            Ok(link::Call::Info(_)) => answer(Ok(self.service.info())),
            Ok(link::Call::Attach(attach)) => answer(self.attach(&request, attach)),
            Ok(link::Call::Detach(_)) => {
                let gone = self.service.forget(request.sender);
                let _ = self.survive(gone);
                answer(Ok(link::Detached {}))
            }
            Ok(link::Call::SetFilter(call)) => {
                answer(self.service.set_filter(call.flags).map(|()| link::FilterSet {}))
            }
            Ok(link::Call::Multicast(call)) => {
                let done = self.service.multicast(call.mac, call.join);
                answer(done.map(|()| link::MulticastSet {}))
            }
            Ok(link::Call::Statistics(call)) => {
                let memory = Memory::from_handle(request.handle(call.memory));
                answer(memory.and_then(|memory| self.statistics(&memory)))
            }
            Ok(link::Call::SetUp(call)) => {
                let done = self.service.device_mut().set_up(call.up);
                self.pump();
                answer(done.map(|()| link::UpSet {}))
            }
        }
    }

    fn notified(&mut self, raised: u64) {
        if raised & bits::OBITUARY != 0 {
            while let Ok(Some(obituary)) = sys::event_next(self.endpoint) {
                let gone = self.service.forget(obituary.pid);
                let _ = self.survive(gone);
                if obituary.pid == self.watched {
                    self.watched = 0;
                }
            }
        }
        if raised & bits::TIMER != 0 {
            self.timer.rang();
        }
        let due = self.service.device().wake_at().is_some_and(|at| at <= time::now_ns());
        let interrupt = raised & 1 << INTERRUPT_BIT != 0;
        if due || raised & 1 << ATTENTION_BIT != 0 || (interrupt && self.shared) {
            self.service.device_mut().attend();
        }
        self.pump();
        if interrupt {
            let _ = self.interrupt.acknowledge();
        }
        self.set_timer();
    }

    fn terminate(&mut self) -> i32 {
        i32::from(self.service.device_mut().stop().is_err())
    }
}

impl<L: LinkDevice> LinkServer<L> {
    fn attach(&mut self, request: &Request, attach: link::Attach) -> Result<link::Attached> {
        let memory = Memory::from_handle(request.handle(attach.memory))?;
        let notify = request.handle(attach.notify);
        if attach.len > memory.len() || memory.len() > MEMORY_MAX || attach.bit >= 47 {
            return Err(Error::Inval);
        }
        let pinned = PinnedMemory::new(self.device.device(), memory)?;
        let client = request.sender;
        if self.watched != client {
            sys::watch(client, self.endpoint, client.into())?;
            self.watched = client;
        }
        let attached = self.service.attach(client, pinned, Client { notify, bit: attach.bit });
        self.survive(attached)??;
        self.pump();
        Ok(link::Attached { bit: DOORBELL_BIT })
    }

    fn statistics(&mut self, memory: &Memory) -> Result<link::StatisticsReply> {
        let counters = self.service.counters();
        let mut text = self.service.device_mut().statistics();
        text.push_str(&alloc::format!(
            "driver_frames_sent {}\ndriver_frames_received {}\ndriver_refused {}\n",
            counters.frames_sent,
            counters.frames_received,
            counters.refused
        ));
        let mapping = memory.map(Protection::READ | Protection::WRITE)?;
        let len = text.len().min(mapping.len());
        mapping.copy_in(0, &text.as_bytes()[..len])?;
        Ok(link::StatisticsReply { len: len as u64 })
    }

    fn pump(&mut self) {
        let pumped = self.service.pump();
        if self.survive(pumped) == Ok(Pumped::Again) {
            let _ = sys::notify(self.endpoint, 1 << AGAIN_BIT);
        }
    }

    /// A device beyond recovery may still write to memory: only the end of this process stops that.
    fn survive<T>(&self, result: core::result::Result<T, L::Error>) -> Result<T> {
        match result {
            Ok(value) => Ok(value),
            Err(error) => {
                log!("{}: {error}", self.name);
                process::exit(1)
            }
        }
    }

    fn set_timer(&mut self) {
        if let Some(at) = self.service.device().wake_at() {
            self.timer.set(self.endpoint, at);
        }
    }
}
