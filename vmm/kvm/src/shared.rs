//! What the threads of a running machine share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use xinim_abi::hw::pci::Bdf;
use xinim_abi::platform;
use xinim_devices::backend::Clock;
use xinim_devices::bus::{Bus, lock};
use xinim_devices::device::Action;
use xinim_devices::fault::Faults;
use xinim_devices::trace::Hub;
use xinim_machine::{End, EngineError, Stopper};

use crate::exits::{Kind, Record, Ring};
use crate::halt::Halt;
use crate::inject::Injector;
use crate::memory::GuestRam;
use crate::meter::Meter;
use crate::strict::Strict;
use crate::symbols::Images;
use crate::trace::TracePage;

/// The first end wins; whoever sets it wakes the I/O thread, which stops everyone.
#[derive(Debug)]
pub struct Ending {
    end: Mutex<Option<Result<End, EngineError>>>,
    stopping: AtomicBool,
    wake: EventFd,
}

impl Ending {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            end: Mutex::new(None),
            stopping: AtomicBool::new(false),
            wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
        })
    }

    /// Ends the run, unless it has ended already.
    pub fn finish(&self, end: Result<End, EngineError>) {
        let mut slot = lock(&self.end);
        if slot.is_none() {
            *slot = Some(end);
        }
        self.stopping.store(true, Ordering::SeqCst);
        self.poke();
    }

    /// Makes the I/O thread look around.
    pub fn poke(&self) {
        // Fails only when the counter is full, and then the thread is about to wake.
        let _ = self.wake.write(1);
    }

    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub fn wake(&self) -> &EventFd {
        &self.wake
    }

    /// The end, once there is one.
    pub fn take(&self) -> Option<Result<End, EngineError>> {
        lock(&self.end).take()
    }
}

/// A queue that an access left work on.
pub type Pending = (Bdf, u16);

/// One running machine.
pub struct Shared {
    pub bus: Bus,
    pub ram: Arc<GuestRam>,
    pub clock: MachineClock,
    pub ending: Arc<Ending>,
    pub ring: Mutex<Ring>,
    pub page: TracePage,
    pub meter: Meter,
    /// Stops the vCPUs for a look.
    pub halt: Halt,
    pub images: Images,
    /// Why the machine was stopped, if it was.
    pub stop: Stopper,
    /// Whether breakpoints can be had in ring 3: not where KVM emulates ring 0 and runs ring 3
    /// directly, without debug registers and past its own eyes.
    pub user_breaks: bool,
    /// vCPU threads confine themselves as they start.
    pub sandboxed: bool,
    /// There is a network device.
    pub network: bool,
    /// Where events go; while somebody listens, looking up the process of an access pays.
    pub hub: Arc<Hub>,
    /// Drivers are checked.
    pub strict: Option<Strict>,
    pub faults: Arc<Faults>,
    /// Puts faults into processes of the guest.
    pub injector: Injector,
    /// Work for the I/O thread.
    pub pending: Mutex<Vec<Pending>>,
}

impl Shared {
    /// Keeps an exit in the ring.
    pub fn record(&self, vcpu: Option<u32>, kind: Kind, access: (u64, u8, u64), rip: u64) {
        let (address, size, value) = access;
        let time = self.clock.monotonic();
        lock(&self.ring).push(Record { time, vcpu, kind, address, size, value, rip, count: 1 });
    }

    /// Carries out what a device asks of the machine; an end is for the caller to report, who
    /// may know more about it.
    pub fn act(&self, action: Action) -> Option<Ended> {
        match action {
            Action::PowerOff => Some(Ended::Plain(End::PowerOff)),
            Action::Reset => Some(Ended::Plain(End::Reboot)),
            Action::Exit(platform::EXIT_POWEROFF) => Some(Ended::Plain(End::PowerOff)),
            Action::Exit(platform::EXIT_REBOOT) => Some(Ended::Plain(End::Reboot)),
            Action::Exit(platform::EXIT_PANIC) => Some(Ended::Panic),
            Action::Exit(value) => Some(Ended::Plain(End::ExitDevice(value))),
            Action::TracePage(frame) => {
                self.page.announce(&self.ram, frame, self.clock.monotonic().as_nanos() as u64);
                crate::guest_trace::announced(self);
                None
            }
            Action::NotifyAgain { function, queue } => {
                lock(&self.pending).push((function, queue));
                self.ending.poke();
                None
            }
        }
    }
}

/// How an action ends the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Plain(End),
    /// To be reported with the registers of the vCPU.
    Panic,
}

/// Time since the machine started, and of day.
#[derive(Clone, Copy, Debug)]
pub struct MachineClock {
    pub start: Instant,
}

impl Clock for MachineClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> Duration {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO)
    }
}
