//! Doorbells without exits: writes to a virtqueue's notification address are caught by KVM
//! (ioeventfd) and arrive at the I/O thread as an eventfd.
//!
//! The bus says where doorbells are and when they move ([`DoorbellSink`]). Where KVM cannot catch
//! one, the write stays an ordinary access and the device works on the vCPU's thread. So it is, too,
//! while they are let through ([`Doorbells::set_caught`]), for a trace that shows who rang.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kvm_bindings::KVM_CAP_IOEVENTFD_ANY_LENGTH;
use kvm_ioctls::{Cap, IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use xinim_abi::hw::pci::Bdf;
use xinim_devices::bus::lock;
use xinim_devices::pci::DoorbellSink;

use std::os::fd::AsRawFd;

/// Epoll tokens from this one on are doorbells.
pub const FIRST_TOKEN: u64 = 0x1000;

/// A doorbell and the queue it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    pub function: Bdf,
    pub queue: u16,
}

/// All doorbells of a machine.
pub struct Doorbells {
    vm: Arc<VmFd>,
    epoll: Arc<Epoll>,
    bells: Mutex<Bells>,
}

#[derive(Default)]
struct Bells {
    /// Not registered with KVM for now.
    let_through: bool,
    list: Vec<Bell>,
    index: BTreeMap<(u16, u16), usize>,
}

struct Bell {
    rung: Rung,
    event: EventFd,
    /// Where it is decoded now.
    place: Option<u64>,
}

impl Doorbells {
    /// `None` where KVM cannot catch a write of any length.
    pub fn new(vm: Arc<VmFd>, epoll: Arc<Epoll>) -> Option<Self> {
        let any_length = vm.check_extension_raw(KVM_CAP_IOEVENTFD_ANY_LENGTH.into()) > 0;
        (vm.check_extension(Cap::Ioeventfd) && any_length).then(|| Self {
            vm,
            epoll,
            bells: Mutex::default(),
        })
    }

    /// Which doorbell a token stands for; takes its event.
    pub fn take(&self, token: u64) -> Option<Rung> {
        let index = usize::try_from(token.checked_sub(FIRST_TOKEN)?).ok()?;
        let bells = lock(&self.bells);
        let bell = bells.list.get(index)?;
        bell.event.read().ok()?;
        Some(bell.rung)
    }

    /// Whether writes are caught or become ordinary accesses. Can be changed at any time: a write
    /// comes either way, and one caught before is still to be [taken](Self::take).
    pub fn set_caught(&self, caught: bool) {
        let mut bells = lock(&self.bells);
        if bells.let_through != caught {
            return;
        }
        bells.let_through = !caught;
        for bell in &bells.list {
            match bell.place {
                Some(address) if caught => self.catch(bell, address),
                Some(address) => self.release(bell, address),
                None => {}
            }
        }
    }

    /// A failure leaves the doorbell an ordinary access.
    fn catch(&self, bell: &Bell, address: u64) {
        let place = IoEventAddress::Mmio(address);
        let _ = self.vm.register_ioevent(&bell.event, &place, NoDatamatch);
    }

    fn release(&self, bell: &Bell, address: u64) {
        let place = IoEventAddress::Mmio(address);
        let _ = self.vm.unregister_ioevent(&bell.event, &place, NoDatamatch);
    }

    /// Index of the doorbell, made on first use.
    fn find(&self, bells: &mut Bells, rung: Rung) -> Option<usize> {
        let key = (rung.function.bits(), rung.queue);
        if let Some(index) = bells.index.get(&key) {
            return Some(*index);
        }
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).ok()?;
        let index = bells.list.len();
        let token = FIRST_TOKEN + index as u64;
        self.epoll
            .ctl(ControlOperation::Add, event.as_raw_fd(), EpollEvent::new(EventSet::IN, token))
            .ok()?;
        bells.list.push(Bell { rung, event, place: None });
        bells.index.insert(key, index);
        Some(index)
    }
}

impl DoorbellSink for Doorbells {
    fn moved(&self, function: Bdf, queue: u16, from: Option<u64>, to: Option<u64>) {
        let mut bells = lock(&self.bells);
        let Some(index) = self.find(&mut bells, Rung { function, queue }) else { return };
        bells.list[index].place = to;
        if bells.let_through {
            return;
        }
        let bell = &bells.list[index];
        if let Some(address) = from {
            self.release(bell, address);
        }
        if let Some(address) = to {
            self.catch(bell, address);
        }
    }
}
