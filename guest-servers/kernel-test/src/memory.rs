//! Memory objects, mappings, and pointers the kernel must not trust.

use xinim_abi::error::Error;
use xinim_abi::kip::{GATE_ADDRESS, KIP_ADDRESS};
use xinim_abi::object::{DeviceMemoryFlags, MemoryFlags, Protection, Rights, USER_END};
use xinim_abi::syscall as nr;

use crate::check::Checks;
use crate::spawn::{self, map};
use crate::sys::{call, call2, close, endpoint};

const AT: u64 = 0x50_0000_0000;
const BOTH: Protection = Protection::READ.union(Protection::WRITE);

fn load(address: u64) -> u64 {
    // SAFETY: the tests read mapped memory only.
    unsafe { (address as *const u64).read_volatile() }
}

fn store(address: u64, value: u64) {
    // SAFETY: the tests write memory that they mapped for it.
    unsafe { (address as *mut u64).write_volatile(value) }
}

pub fn objects(c: &mut Checks) {
    c.equal(call(nr::MEMORY_CREATE, &[0, 0]), Err(Error::Inval), "empty");
    c.equal(call(nr::MEMORY_CREATE, &[4096, 0x100]), Err(Error::Inval), "unknown flag");
    c.equal(call(nr::MEMORY_CREATE, &[1 << 40, 0]), Err(Error::NoMem), "more than there is");
    c.equal(call(nr::MEMORY_CREATE, &[u64::MAX, 0]), Err(Error::Inval), "overflow");
    let cases = [
        (1, MemoryFlags::empty(), 4096),
        (5000, MemoryFlags::CONTIGUOUS, 8192),
        (5 << 20, MemoryFlags::CONTIGUOUS, 5 << 20),
        (3 << 20, MemoryFlags::LARGE, 4 << 20),
        (70_000, MemoryFlags::CONTIGUOUS.union(MemoryFlags::BELOW_16M), 73_728),
        (1_234_567, MemoryFlags::BELOW_4G, 1_236_992),
    ];
    for (length, flags, wanted) in cases {
        let memory = call(nr::MEMORY_CREATE, &[length, u64::from(flags.bits())]).unwrap_or(0);
        let info = call2(nr::MEMORY_INFO, &[memory]);
        c.that(info == Ok((wanted, u64::from(flags.bits()))), "length and flags");
        c.equal(map(0, memory, AT, 0, wanted, BOTH), Ok(0), "map");
        // Zeroed, whatever was there; and writable to the end.
        for round in 0..2 {
            let dirty = (AT..AT + wanted).step_by(4096).any(|page| load(page) != 0);
            c.that(!dirty || round == 1, "zeroed");
            (AT..AT + wanted).step_by(4096).for_each(|page| store(page, page | 1));
        }
        c.that((AT..AT + wanted).step_by(4096).all(|page| load(page) == page | 1), "holds data");
        c.equal(call(nr::MEMORY_UNMAP, &[0, AT, wanted]), Ok(0), "unmap");
        c.equal(close(memory), Ok(0), "close");
        // The same frames again, dirty now.
        let memory = call(nr::MEMORY_CREATE, &[length, u64::from(flags.bits())]).unwrap_or(0);
        c.equal(map(0, memory, AT, 0, wanted, BOTH), Ok(0), "map again");
        c.that((AT..AT + wanted).step_by(8).all(|word| load(word) == 0), "zeroed again");
        c.equal(close(memory), Ok(0), "close while mapped");
        store(AT, 7);
        c.equal(call(nr::MEMORY_UNMAP, &[0, AT, wanted]), Ok(0), "unmap the last use");
    }
}

pub fn mappings(c: &mut Checks) {
    let memory = call(nr::MEMORY_CREATE, &[0x4000, 0]).unwrap_or(0);
    c.equal(map(0, memory, AT, 0, 0x4000, BOTH), Ok(0), "map");
    let inval = Err(Error::Inval);
    let exist = Err(Error::Exist);
    c.equal(map(0, memory, AT, 0, 0x1000, BOTH), exist, "same place");
    c.equal(map(0, memory, AT + 0x3000, 0, 0x2000, BOTH), exist, "overlap");
    c.equal(map(0, memory, AT + 0x4000, 0x3000, 0x1000, BOTH), Ok(0), "neighbour");
    store(AT + 0x3008, 99);
    c.equal(load(AT + 0x4008), 99, "same frame");
    c.equal(map(0, memory, AT + 0x8001, 0, 0x1000, BOTH), inval, "unaligned address");
    c.equal(map(0, memory, AT + 0x8000, 8, 0x1000, BOTH), inval, "unaligned offset");
    c.equal(map(0, memory, AT + 0x8000, 0, 0x1001, BOTH), inval, "unaligned length");
    c.equal(map(0, memory, AT + 0x8000, 0, 0, BOTH), inval, "nothing");
    c.equal(map(0, memory, AT + 0x8000, 0x2000, 0x3000, BOTH), inval, "behind the end");
    c.equal(map(0, memory, AT + 0x8000, !4095, 0x2000, BOTH), inval, "offset overflow");
    c.equal(map(0, memory, AT + 0x8000, 0, 0x1000, Protection::empty()), inval, "no access");
    let bits = [nr::MEMORY_MAP, 0, memory, AT + 0x8000, 0, 0x1000, 8];
    c.equal(call(bits[0], &bits[1..]), inval, "unknown protection");
    for protection in [BOTH | Protection::EXECUTE, Protection::WRITE | Protection::EXECUTE] {
        let got = map(0, memory, AT + 0x8000, 0, 0x1000, protection);
        c.equal(got, Err(Error::Access), "writable and executable");
    }
    let bad_places = [
        0,
        USER_END,
        USER_END - 0x1000 + 0x1000,
        KIP_ADDRESS,
        GATE_ADDRESS,
        KIP_ADDRESS - 0x1000,
        0x8000_0000_0000,
        0xFFFF_8000_0000_0000,
        0xFFFF_FFFF_8020_0000,
        !0xFFF,
    ];
    for place in bad_places {
        c.equal(map(0, memory, place, 0, 0x2000, BOTH), inval, "not a user address");
    }
    let bad = Err(Error::BadHandle);
    let read = u64::from((Rights::READ | Rights::TRANSFER).bits());
    let read_only = call(nr::HANDLE_MINT, &[memory, read, 0]).unwrap_or(0);
    c.equal(map(0, read_only, AT + 0x8000, 0, 0x1000, BOTH), bad, "write without the right");
    let execute = Protection::READ | Protection::EXECUTE;
    c.equal(map(0, read_only, AT + 0x8000, 0, 0x1000, execute), bad, "execute without it");
    c.equal(map(0, read_only, AT + 0x8000, 0, 0x1000, Protection::READ), Ok(0), "read");
    c.equal(load(AT + 0x8000), 0, "readable");
    c.equal(call(nr::MEMORY_UNMAP, &[0, AT + 0x8000, 0x1000]), Ok(0), "unmap");
    let e = endpoint();
    c.equal(map(0, e, AT + 0x8000, 0, 0x1000, BOTH), bad, "an endpoint is no memory");
    c.equal(map(e, memory, AT + 0x8000, 0, 0x1000, BOTH), bad, "an endpoint is no process");
    c.equal(call(nr::MEMORY_UNMAP, &[0, AT, 0x1000]), inval, "part of a mapping");
    c.equal(call(nr::MEMORY_UNMAP, &[0, AT + 0x1000, 0x3000]), inval, "its tail");
    c.equal(call(nr::MEMORY_UNMAP, &[0, AT, 0x4000]), Ok(0), "whole");
    c.equal(call(nr::MEMORY_UNMAP, &[0, AT, 0x4000]), inval, "twice");
    c.equal(load(AT + 0x4008), 99, "the neighbour stays");
    c.equal(call(nr::MEMORY_UNMAP, &[0, AT + 0x4000, 0x1000]), Ok(0), "neighbour");
    for handle in [memory, read_only, e] {
        c.that(close(handle).is_ok(), "close");
    }
    let cached = u64::from(DeviceMemoryFlags::CACHED.bits());
    let device =
        |start, length, flags| call(nr::MEMORY_DEVICE, &[spawn::resource(), start, length, flags]);
    c.equal(device(0x40_0000, 0x1000, cached), Err(Error::Access), "the kernel's own memory");
    c.equal(device(0xC0_0000, 0x1000, 0), Err(Error::Access), "RAM");
    c.equal(device(0xFEC0_0000, 0x1001, 0), inval, "unaligned");
    c.equal(device(0xFEC0_0000, 0, 0), inval, "empty");
    c.equal(device(!0xFFF, 0x1000, 0), inval, "overflow");
    c.equal(device(0xFEC0_0000, 0x1000, 3), inval, "two kinds of caching");
    let bios = device(0xF_0000, 0x1_0000, cached).unwrap_or(0);
    c.equal(map(0, bios, AT, 0, 0x1_0000, Protection::READ), Ok(0), "firmware");
    // A fault would end the test here.
    load(AT);
    c.equal(map(0, bios, AT + 0x10_0000, 0, 0x1000, execute), bad, "not executable");
    c.equal(call(nr::MEMORY_UNMAP, &[0, AT, 0x1_0000]), Ok(0), "unmap");
    c.equal(close(bios), Ok(0), "close");
    if spawn::acpi() != 0 {
        let length = call(nr::MEMORY_INFO, &[spawn::acpi()]).unwrap_or(0);
        c.equal(map(0, spawn::acpi(), AT, 0, length, Protection::READ), Ok(0), "ACPI tables");
        c.that((load(AT) >> 32) as u32 >= 36, "a table");
        c.equal(call(nr::MEMORY_UNMAP, &[0, AT, length]), Ok(0), "unmap");
    }
}

pub fn pointers(c: &mut Checks) {
    let memory = call(nr::MEMORY_CREATE, &[0x1000, 0]).unwrap_or(0);
    c.equal(map(0, memory, AT, 0, 0x1000, BOTH), Ok(0), "map");
    let fault = Err(Error::Fault);
    let bad = [
        0,
        8,
        AT + 0x1000,
        AT + 0xFF0,
        AT - 1,
        0x7FFF_FFFF_FFFF,
        0x8000_0000_0000,
        0xFFFF_8000_0000_0000,
        0xFFFF_FFFF_8020_0000,
        u64::MAX - 8,
    ];
    for pointer in bad {
        c.equal(call(nr::LOG_WRITE, &[pointer, 32]), fault, "LOG_WRITE");
        c.equal(call(nr::INFO, &[1, 0, pointer, 4096]), fault, "INFO");
        c.equal(call(nr::LOG_READ, &[spawn::resource(), 0, pointer, 64]), fault, "LOG_READ");
        let e = endpoint();
        c.equal(call(nr::PROCESS_CREATE, &[spawn::resource(), e, 0, pointer, 31]), fault, "name");
        c.equal(close(e), Ok(0), "close");
    }
    c.equal(call(nr::INFO, &[1, 0, spawn::init as *const () as u64, 4096]), fault, "into text");
    c.equal(call(nr::INFO, &[1, 0, KIP_ADDRESS, 4096]), fault, "into the kernel's page");
    c.equal(
        call(nr::LOG_READ, &[spawn::resource(), 0, AT, 0x1000]).map(|n| n.min(1)),
        Ok(1),
        "good",
    );
    c.equal(call(nr::LOG_WRITE, &[AT, 0]), Ok(0), "an empty line");
    c.equal(call(nr::LOG_WRITE, &[AT, u64::MAX]), Err(Error::Inval), "endless");
    c.equal(call(nr::MEMORY_UNMAP, &[0, AT, 0x1000]), Ok(0), "unmap");
    c.equal(call(nr::LOG_WRITE, &[AT, 8]), fault, "unmapped");
    c.equal(close(memory), Ok(0), "close");
}
