//! A driver gone wrong, for tests: it starts its device as the real driver does, and then aims it at
//! memory that was not granted. It takes a driver's place with `service update LABEL /sbin/dma-rogue`:
//! of virtio-blk, ahci or e1000.
//!
//! ```text
//! victim: a page of its own that was pinned and is not any more, whose address it so knows
//! disk   read into the victim, victim written to the disk, then (were both refused) read into the
//!        kernel's text; last a read into granted memory, which must work
//! card   the victim sent as a frame, which a capture would show
//! ```
//! What came of it is in the kernel log: `REACHED` or `unchanged`, and how the request ended. Where
//! nothing confines the device the kernel is left alone.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::hw::e1000::Model;
use xinim_abi::hw::pci::CAP_MSIX;
use xinim_abi::ipc::Message;
use xinim_abi::object::{MemoryFlags, Protection, Rights};
use xinim_abi::services::block::UNITS_MAX;
use xinim_abi::services::link::Transmit;
use xinim_ahci::Hba;
use xinim_block_service::{BlockDevice, Completion, Request};
use xinim_driver_kit::dma::{Constraints, Dma, DmaBuffer, Segment};
use xinim_driver_kit::memory::SharedMemory;
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_rt::{PciDevice, PinnedMemory, RtClock, RtDma};
use xinim_e1000::Nic;
use xinim_link_service::device::{Events, LinkDevice, Nothing};
use xinim_rt::memory::{Mapping, Memory};
use xinim_rt::server::{self, Server};
use xinim_rt::{log, time};
use xinim_virtio_blk::{Disk, Vectors};

xinim_rt::program!(main);

const PAGE: usize = 4096;
/// What the victim holds; the disk's own bytes are others.
const PATTERN: u8 = 0x5A;
/// Where the kernel's text is (docs/kernel-abi.md).
const KERNEL_TEXT: u64 = 2 << 20;
const TIMEOUT_NS: u64 = 20_000_000_000;
const AFTERWARDS_NS: u64 = 20_000_000;
const VIRTIO_BLK: u16 = 0x1042;

struct Idle;

impl Server for Idle {
    fn call(&mut self, _request: server::Request) -> Option<Message> {
        server::answer::<xinim_abi::services::pci::pci::Enabled>(Err(Error::NoSys))
    }
}

fn main() -> i32 {
    // Up before it begins: a drive takes its seconds to come back from an error.
    let Ok(endpoint) = server::own_endpoint().and_then(|e| server::announce().map(|()| e)) else {
        return 1;
    };
    if let Err(error) = attack() {
        log!("dma-rogue: gave up, there was an error: {error}");
    }
    log!("dma-rogue: over");
    server::serve(endpoint, &mut Idle)
}

fn attack() -> Result<()> {
    let device = PciDevice::from_start()?;
    let dma = RtDma::new(&device);
    let id = device.device_id()?;
    let failed = |error: &dyn core::fmt::Display| {
        log!("dma-rogue: {error}");
        Error::Io
    };
    if let Some(model) = Model::from_device_id(id) {
        let msix = device.capability(CAP_MSIX, 0)?.is_some();
        let nic = Nic::start(&device, &dma, RtClock, model, msix, [2, 0, 0, 0, 0, 1]);
        return card(&mut nic.map_err(|error| failed(&error))?, &device);
    }
    if id == VIRTIO_BLK {
        let start = || {
            let vectors = Vectors { queues: None, config: None };
            Disk::start(&device, &dma, RtClock, vectors).map_err(|error| failed(&error))
        };
        return block(&start, &device, &dma);
    }
    let start = || Hba::start(&device, dma.clone(), RtClock).map_err(|error| failed(&error));
    block(&start, &device, &dma)
}

/// A page that was the device's for a moment: where it is, and a view of it.
struct Victim {
    address: u64,
    view: Mapping,
    _memory: Memory,
}

impl Victim {
    fn new(device: &PciDevice) -> Result<Self> {
        let memory = Memory::create(PAGE as u64, MemoryFlags::CONTIGUOUS)?;
        let view = memory.map(Protection::READ | Protection::WRITE)?;
        view.copy_in(0, &[PATTERN; PAGE])?;
        let rights = Rights::READ | Rights::WRITE | Rights::TRANSFER;
        let twin = Memory::from_handle(memory.handle().mint(rights, 0)?)?;
        let pinned = PinnedMemory::new(device.device(), twin)?;
        let address = pinned.device_address(0).address;
        drop(pinned);
        // Long enough for who looks on to be sure that it is not the device's any more.
        time::sleep_ns(AFTERWARDS_NS);
        Ok(Self { address, view, _memory: memory })
    }

    fn is_unchanged(&self) -> bool {
        self.view.to_vec(0, PAGE).is_ok_and(|bytes| bytes.iter().all(|&byte| byte == PATTERN))
    }
}

/// One request to its end, of a device that was just started: after an error of the bus a drive may be
/// away for long.
fn carry_out<D: BlockDevice>(
    start: &impl Fn() -> Result<D>,
    request: &Request,
    data: Segment,
) -> Result<Result<()>> {
    let mut disk = start()?;
    let unit = (0..UNITS_MAX).find(|unit| disk.unit(*unit).is_some()).ok_or(Error::NoDev)?;
    disk.submit(unit, request, &[data], 1)?;
    disk.kick();
    let end = time::now_ns() + TIMEOUT_NS;
    let mut done: Vec<Completion> = Vec::new();
    while time::now_ns() < end {
        if let Err(error) = disk.poll(&mut done) {
            log!("dma-rogue: {error}");
            return Err(Error::Io);
        }
        if let Some(completion) = done.pop() {
            disk.stop().map_err(|_| Error::Io)?;
            return Ok(completion.result);
        }
        if disk.wake_at().is_some_and(|at| at <= disk.now_ns()) {
            disk.attend();
        }
        time::sleep_ns(1_000_000);
    }
    Err(Error::TimedOut)
}

fn block<D: BlockDevice>(
    start: &impl Fn() -> Result<D>,
    device: &PciDevice,
    dma: &RtDma,
) -> Result<()> {
    // Brings the function to where memory may be pinned: a reset, and the promise of it.
    start()?.stop().map_err(|_| Error::Io)?;
    let victim = Victim::new(device)?;
    let aim = |address| Segment { address, len: PAGE as u32 };
    let (read, write) = (Request::read(0, PAGE as u32), Request::write(8, PAGE as u32));
    let ended = carry_out(start, &read, aim(victim.address))?;
    let unchanged = victim.is_unchanged();
    let what = if unchanged { "unchanged" } else { "REACHED" };
    log!("dma-rogue: own memory {what}, the read ended with {}", words(&ended));
    if unchanged {
        // Were the victim reached, this would put it on the disk.
        let ended = carry_out(start, &write, aim(victim.address))?;
        log!("dma-rogue: the write, not read again, ended with {}", words(&ended));
        let ended = carry_out(start, &read, aim(KERNEL_TEXT))?;
        log!("dma-rogue: kernel alive, the read ended with {}", words(&ended));
    }
    let own = dma.allocate(PAGE, Constraints::DATA)?;
    let ended = carry_out(start, &read, own.device_address(0))?;
    let mut first = [0];
    own.read_bytes(0, &mut first);
    log!("dma-rogue: granted memory {:#x}, the read ended with {}", first[0], words(&ended));
    Ok(())
}

fn words(ended: &Result<()>) -> alloc::string::String {
    match ended {
        Ok(()) => "success".into(),
        Err(error) => alloc::format!("an error ({error})"),
    }
}

fn card(nic: &mut impl LinkDevice, device: &PciDevice) -> Result<()> {
    let victim = Victim::new(device)?;
    nic.set_up(true)?;
    let frame = Segment { address: victim.address, len: 256 };
    let end = time::now_ns() + TIMEOUT_NS;
    let mut events = Events::default();
    let how = Transmit::default();
    nic.send(&Nothing, &[frame], &how, 1)?;
    nic.kick();
    while events.sent.is_empty() && time::now_ns() < end {
        nic.attend();
        if let Err(error) = nic.poll(&Nothing, &mut events) {
            log!("dma-rogue: {error}");
            break;
        }
        time::sleep_ns(1_000_000);
    }
    log!("dma-rogue: foreign frame {}", if events.sent.is_empty() { "stuck" } else { "done" });
    nic.stop().map_err(|_| Error::Io)
}
