//! Interrupts, ports, devices.

use xinim_abi::error::Error;
use xinim_abi::info::{InterruptInfo, Kind, SystemInfo};
use xinim_abi::object::{MemoryFlags, Protection, Rights};
use xinim_abi::syscall::{self as nr, IRQ_ACTIVE_LOW, IRQ_LEVEL, IRQ_MSI, limit};
use zerocopy::FromZeros;

use crate::check::Checks;
use crate::death;
use crate::spawn::{self, Arguments, Give};
use crate::sys::{self, call, call2, close, endpoint, receive};

/// The PIT's interrupt is a gsi nobody else uses: 2 by the usual override, on QEMU and here.
const GSI: u64 = 9;

pub fn interrupts_and_ports(c: &mut Checks) {
    let r = spawn::resource();
    let (msi, message) = call2(nr::IRQ_CREATE, &[r, IRQ_MSI, 0]).unwrap_or((0, 0));
    c.that(message >> 32 & 0xFFF0_0000 == 0xFEE0_0000, "message address");
    c.that((32..255).contains(&(message & 0xFFFF_FFFF)), "message data");
    c.equal(call(nr::IRQ_CREATE, &[r, IRQ_MSI, IRQ_LEVEL]), Err(Error::Inval), "level message");
    let (irq, message) =
        call2(nr::IRQ_CREATE, &[r, GSI, IRQ_LEVEL | IRQ_ACTIVE_LOW]).unwrap_or((0, 1));
    c.equal(message, 0, "a pin has no message");
    c.equal(call(nr::IRQ_CREATE, &[r, GSI, 0]), Err(Error::Busy), "an edge is not shared");
    c.equal(call(nr::IRQ_CREATE, &[r, GSI, IRQ_LEVEL]), Err(Error::Busy), "other polarity");
    let sharer = call(nr::IRQ_CREATE, &[r, GSI, IRQ_LEVEL | IRQ_ACTIVE_LOW]).unwrap_or(0);
    c.equal(call(nr::IRQ_ACK, &[sharer]), Ok(0), "nothing to acknowledge");
    c.equal(call(nr::IRQ_CREATE, &[r, 1000, 0]), Err(Error::NxIo), "no such pin");
    c.equal(call(nr::IRQ_CREATE, &[r, 5, 4]), Err(Error::Inval), "unknown flag");
    c.equal(call(nr::IRQ_CREATE, &[r, 1 << 40, 0]), Err(Error::Inval), "no gsi");
    let e = endpoint();
    c.equal(call(nr::IRQ_BIND, &[irq, e, 64]), Err(Error::Inval), "no such bit");
    c.equal(call(nr::IRQ_BIND, &[irq, e, 3]), Ok(0), "bind");
    c.equal(call(nr::IRQ_ACK, &[irq]), Ok(0), "acknowledge");
    c.equal(call(nr::IRQ_BIND, &[msi, e, 4]), Ok(0), "bind a message");
    let mut info = InterruptInfo::new_zeroed();
    let at = core::ptr::from_mut(&mut info) as u64;
    let size = size_of::<InterruptInfo>() as u64;
    c.equal(call(nr::INFO, &[Kind::Interrupt as u64, 0, at, size]), Ok(size), "information");
    c.that(info.pid == 1 && (info.gsi == u32::MAX || u64::from(info.gsi) == GSI), "ours");
    c.equal(close(e), Ok(0), "close the endpoint");
    let e = endpoint();
    c.equal(call(nr::IRQ_BIND, &[irq, e, 3]), Ok(0), "bind again");
    c.equal(close(irq), Ok(0), "close");
    c.equal(call(nr::IRQ_CREATE, &[r, GSI, 0]), Err(Error::Busy), "the sharer has it");
    c.equal(close(sharer), Ok(0), "close the sharer");
    c.equal(call(nr::IRQ_CREATE, &[r, GSI, 0]).and_then(close), Ok(0), "free again");
    c.equal(close(msi), Ok(0), "close");

    let ports = call(nr::PORTS_CREATE, &[r, 0x60, 4]).unwrap_or(0);
    c.that(call(nr::PORTS_READ, &[ports, 1, 1]).is_ok_and(|v| v < 256), "read");
    for (offset, size) in [(4, 1), (3, 2), (1, 4), (0, 3), (0, 8), (0, 0), (u64::MAX, 1)] {
        c.equal(call(nr::PORTS_READ, &[ports, offset, size]), Err(Error::Inval), "outside");
        c.equal(call(nr::PORTS_WRITE, &[ports, offset, size, 0]), Err(Error::Inval), "outside");
    }
    let text = b"x";
    let bytes = [ports, 4, text.as_ptr() as u64, 1];
    c.equal(call(nr::PORTS_WRITE_BYTES, &bytes), Err(Error::Inval), "outside");
    c.equal(call(nr::PORTS_WRITE_BYTES, &[ports, 0, 8, 1]), Err(Error::Fault), "bad pointer");
    c.equal(call(nr::PORTS_WRITE_BYTES, &[ports, 0, 8, 4097]), Err(Error::Inval), "too long");
    for (first, count) in [(0x10000, 1), (0xFFFF, 2), (0, 0), (0, 0x10001), (u64::MAX, 2)] {
        c.equal(call(nr::PORTS_CREATE, &[r, first, count]), Err(Error::Inval), "no such ports");
    }
    c.equal(close(ports), Ok(0), "close");

    // A real interrupt: COM1 says that its transmitter is empty.
    let com1 = call(nr::PORTS_CREATE, &[r, 0x3F8, 8]).unwrap_or(0);
    let irq = call(nr::IRQ_CREATE, &[r, 4, 0]).unwrap_or(0);
    c.equal(call(nr::IRQ_BIND, &[irq, e, 7]), Ok(0), "bind COM1");
    let write = |offset, value| call(nr::PORTS_WRITE, &[com1, offset, 1, value]);
    if call(nr::PORTS_READ, &[com1, 5, 1]) != Ok(0xFF) {
        // OUT2 connects the line; interrupt enable: transmitter empty.
        c.that(write(4, 0x0B).is_ok() && write(1, 2).is_ok(), "set up");
        c.equal(call(nr::TIMER_SET, &[e, sys::now() + 500_000_000]), Ok(0), "patience");
        c.equal(receive(e).words[0], 1 << 7, "interrupt arrives");
        c.that(write(1, 0).is_ok() && write(4, 0).is_ok(), "off");
    }
    for handle in [com1, irq, e] {
        c.equal(close(handle), Ok(0), "close");
    }
}

/// Pins memory for the device and waits to be killed.
extern "C" fn driver(a: &Arguments) -> ! {
    let [device, parent, ..] = a.handles;
    let memory = call(nr::MEMORY_CREATE, &[0x3000, u64::from(MemoryFlags::CONTIGUOUS.bits())]);
    let Ok(memory) = memory else { sys::exit(1) };
    let Ok((address, bytes)) = call2(nr::DEVICE_PIN, &[device, memory, 0x1000]) else {
        sys::exit(2)
    };
    if bytes != 0x2000 || !address.is_multiple_of(4096) {
        sys::exit(3);
    }
    if call2(nr::DEVICE_PIN, &[device, memory, 0]) != Ok((address - 0x1000, 0x3000)) {
        sys::exit(4);
    }
    let wrong = [(device, device, 0), (device, memory, 0x3000), (memory, memory, 0)];
    for (device, memory, offset) in wrong {
        if call(nr::DEVICE_PIN, &[device, memory, offset]).is_ok() {
            sys::exit(5);
        }
    }
    let _ = sys::call_words(parent, 1, address, 0);
    loop {
        sys::sleep_ms(1000);
    }
}

fn quarantined() -> u64 {
    let mut info = SystemInfo::new_zeroed();
    let at = core::ptr::from_mut(&mut info) as u64;
    let _ = call(nr::INFO, &[Kind::System as u64, 0, at, size_of::<SystemInfo>() as u64]);
    info.frames_quarantined
}

pub fn quarantine(c: &mut Checks) {
    let r = spawn::resource();
    // A function that does not exist: configuration accesses go nowhere.
    let device = call(nr::DEVICE_CREATE, &[r, 0xFEF8, 0]).unwrap_or(0);
    c.equal(call(nr::DEVICE_CREATE, &[r, 0x1_0000, 0]), Err(Error::Inval), "no such function");
    c.equal(call(nr::DEVICE_CREATE, &[r, 8, 0x40_0000]), Err(Error::Inval), "config in RAM");
    c.equal(call(nr::DEVICE_CREATE, &[r, 8, 0xB000_0004]), Err(Error::Inval), "unaligned config");
    c.equal(call(nr::DEVICE_CREATE, &[r, 0xFEF8, 0]).and_then(close), Ok(0), "the same again");
    let supervisor = endpoint();
    let e = endpoint();
    let gives = [Give(device, Rights::MANAGE), Give(e, Rights::SEND)];
    let child = spawn::child(supervisor, driver, &[], &gives);
    let call_of_driver = receive(e);
    c.equal(call_of_driver.status(), Ok(0), "the driver is there");
    c.equal(quarantined(), 0, "nothing yet");
    c.equal(child.kill(0), Ok(0), "kill");
    c.that(death::obituary(supervisor).is_some_and(|o| o.cause == 3), "killed");
    child.forget();
    c.equal(quarantined(), 3, "three frames stay");
    // Nobody gets them while the device may still write there: neither as DMA memory of another
    // function nor as any other.
    let other = call(nr::DEVICE_CREATE, &[r, 0xFEF0, 0]).unwrap_or(0);
    // A driver may be bounded in what it pins.
    if let Ok(child) = spawn::prepare(supervisor, 1) {
        c.equal(spawn::set_limit(&child, limit::PINNED, 2), Ok(0), "a limit of two frames");
        let gives = [Give(other, Rights::MANAGE), Give(e, Rights::SEND)];
        let _ = child.start(driver, 8, &[], &gives).and_then(close);
        c.that(death::exit_code(supervisor) == Some(2), "three are refused");
        child.forget();
    }
    let frames = call_of_driver.words[0] - 0x1000..call_of_driver.words[0] + 0x2000;
    let mut taken = [0; 64];
    for memory in &mut taken {
        *memory = call(nr::MEMORY_CREATE, &[0x3000, u64::from(MemoryFlags::CONTIGUOUS.bits())])
            .unwrap_or(0);
        let pinned = call2(nr::DEVICE_PIN, &[other, *memory, 0]);
        c.that(
            pinned.is_ok_and(|(at, bytes)| at >= frames.end || at + bytes <= frames.start),
            "a quarantined frame was given away",
        );
        let _ = call(nr::DEVICE_UNPIN, &[other, *memory]);
    }
    for memory in taken {
        c.equal(close(memory), Ok(0), "close");
    }
    c.equal(close(other), Ok(0), "close the other function");
    let memory = call(nr::MEMORY_CREATE, &[4096, 0]).unwrap_or(0);
    let pin = || call(nr::DEVICE_PIN, &[device, memory, 0]);
    c.equal(pin(), Err(Error::Quarantined), "not before the reset");
    c.equal(call(nr::DEVICE_RESET_DONE, &[device]), Ok(0), "reset");
    c.equal(quarantined(), 0, "free");
    c.that(pin().is_ok(), "pin");
    c.equal(call(nr::DEVICE_UNPIN, &[device, memory]), Ok(0), "unpin");
    c.equal(call(nr::DEVICE_UNPIN, &[device, memory]), Err(Error::Inval), "unpin twice");
    // Device memory is not for DMA.
    let registers = call(nr::MEMORY_DEVICE, &[r, 0xFEC0_0000, 4096, 0]).unwrap_or(0);
    c.equal(call(nr::DEVICE_PIN, &[device, registers, 0]), Err(Error::Inval), "device memory");
    let at = 0x70_0000_0000;
    c.equal(spawn::map(0, registers, at, 0, 4096, Protection::READ), Ok(0), "registers");
    c.equal(call(nr::LOG_WRITE, &[at, 8]), Err(Error::Fault), "the kernel does not read registers");
    c.equal(call(nr::MEMORY_UNMAP, &[0, at, 4096]), Ok(0), "unmap");
    for handle in [device, supervisor, e, memory, registers] {
        c.equal(close(handle), Ok(0), "close");
    }
}

/// Grants of a device as the kernel lists them: how many, and the first.
fn grants(device: u64, room: u64) -> Result<(u64, [u64; 3]), Error> {
    let mut runs = [[0u64; 3]; 4];
    let arguments = [spawn::resource(), device, runs.as_mut_ptr() as u64, room * 24];
    call(nr::DEVICE_GRANTS, &arguments).map(|count| (count, runs[0]))
}

/// A device behind an IOMMU, whose driver this test plays.
pub fn confinement(c: &mut Checks) {
    let r = spawn::resource();
    let device = call(nr::DEVICE_CREATE, &[r, 0xFEF8, 0]).unwrap_or(0);
    let released = || call(nr::DEVICE_RELEASED, &[r, device]);
    c.equal(call(nr::DEVICE_CONFINE, &[device, device]), Err(Error::BadHandle), "no resource");
    c.equal(call(nr::DEVICE_RELEASED, &[device, device]), Err(Error::BadHandle), "no resource");
    let arguments = [device, device, 0, 0];
    c.equal(call(nr::DEVICE_GRANTS, &arguments), Err(Error::BadHandle), "no resource");
    c.equal(call(nr::DEVICE_CONFINE, &[r, r]), Err(Error::BadHandle), "no device");
    c.equal(call(nr::DEVICE_CONFINE, &[r, device]), Ok(0), "confine");
    let memory =
        call(nr::MEMORY_CREATE, &[0x3000, u64::from(MemoryFlags::CONTIGUOUS.bits())]).unwrap_or(0);
    let (address, _) = call2(nr::DEVICE_PIN, &[device, memory, 0]).unwrap_or((0, 0));
    c.that(grants(device, 4) == Ok((1, [address, 0x3000, 1])), "what is pinned, and by whom");
    c.that(grants(device, 0) == Err(Error::Limit), "no room");
    let bad = call(nr::DEVICE_GRANTS, &[r, device, 8, 24]);
    c.equal(bad, Err(Error::Fault), "bad pointer");
    c.equal(released(), Ok(0), "nothing to release");
    c.equal(call(nr::DEVICE_UNPIN, &[device, memory]), Ok(0), "unpin");
    c.equal(close(memory), Ok(0), "close");
    c.equal(quarantined(), 3, "the IOMMU may still map them");
    c.equal(released(), Ok(0), "of what was told before");
    c.equal(quarantined(), 3, "it was told that they are the device's");
    c.that(grants(device, 4) == Ok((0, [0; 3])), "now it knows");
    // Unpinned after that: not known yet.
    let late = call(nr::MEMORY_CREATE, &[4096, 0]).unwrap_or(0);
    c.that(call(nr::DEVICE_PIN, &[device, late, 0]).is_ok(), "pin");
    c.equal(call(nr::DEVICE_UNPIN, &[device, late]), Ok(0), "unpin");
    c.equal(released(), Ok(0), "released");
    c.equal(quarantined(), 1, "the later one");
    c.that(grants(device, 4).is_ok() && released().is_ok(), "again");
    c.equal(quarantined(), 0, "free");

    // A dead driver's memory waits for the reset, and then for the IOMMU.
    let (supervisor, e) = (endpoint(), endpoint());
    let gives = [Give(device, Rights::MANAGE), Give(e, Rights::SEND)];
    let child = spawn::child(supervisor, driver, &[], &gives);
    c.equal(receive(e).status(), Ok(0), "the driver is there");
    c.equal(child.kill(0), Ok(0), "kill");
    c.that(death::obituary(supervisor).is_some_and(|o| o.cause == 3), "killed");
    child.forget();
    c.that(grants(device, 4) == Ok((0, [0; 3])), "the dead have no grants");
    c.equal(released(), Ok(0), "unmapped");
    c.equal(quarantined(), 3, "the device was not reset");
    c.equal(call(nr::DEVICE_RESET_DONE, &[device]), Ok(0), "reset");
    c.equal(quarantined(), 3, "it may be mapped");
    c.that(call(nr::DEVICE_PIN, &[device, late, 0]).is_ok(), "the next may pin");
    c.equal(call(nr::DEVICE_UNPIN, &[device, late]), Ok(0), "unpin");
    c.that(grants(device, 4).is_ok() && released().is_ok(), "told and released");
    c.equal(quarantined(), 0, "free");
    for handle in [device, supervisor, e, late] {
        c.equal(close(handle), Ok(0), "close");
    }
}
