//! Self-test of DMA memory as drivers get it: constraints, coalescing, pools, release. With
//! `first=sbin/dma-test` on the kernel command line it is the first process instead of RS; it writes a
//! line for each test to the kernel log (`klog=debugcon` shows it) and powers off. The last line says
//! `all passed` or how many failed. `pool:` tells what a block of a pool costs.
//!
//! The domain is that of a PCI function that does not exist: nothing does DMA here.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::info::{Kind, SystemInfo};
use xinim_abi::object::Handle;
use xinim_abi::start::role;
use xinim_abi::syscall::control;
use xinim_driver_kit::dma::{Constraints, Dma, DmaBuffer, Segment};
use xinim_driver_kit::pool::Pool;
use xinim_driver_kit::{SgList, SharedMemory};
use xinim_driver_rt::RtDma;
use xinim_rt::{log, start, sys, time};

xinim_rt::program!(main);

/// Bus 254, device 31, function 0.
const NO_FUNCTION: u16 = 0xFEF8;
const PAGE: u64 = 4096;
/// Blocks taken and given back in one measured batch, and batches, of which the best counts: the
/// others were interrupted.
const BATCH: u64 = 10_000;
const BATCHES: usize = 20;

fn main() -> i32 {
    let Some(resource) = start::handle(role::RESOURCE) else { return 1 };
    let Ok(device) = sys::device_create(resource, NO_FUNCTION, 0) else { return 1 };
    type Test = fn(Handle) -> Result<bool>;
    let tests: [(&str, Test); 6] = [
        ("constraints", constraints),
        ("below 4 GiB and 16 MiB", low_addresses),
        ("coalescing", coalescing),
        ("contents", contents),
        ("release", release),
        ("pool", pool),
    ];
    let mut failed = 0;
    for (name, test) in tests {
        match test(device) {
            Ok(true) => log!("ok      {name}"),
            Ok(false) => {
                failed += 1;
                log!("FAILED  {name}");
            }
            Err(error) => {
                failed += 1;
                log!("FAILED  {name}: {error}");
            }
        }
    }
    match failed {
        0 => log!("all passed"),
        _ => log!("{failed} failed"),
    }
    let _ = sys::system_control(resource, control::POWER_OFF);
    1
}

/// All runs of a buffer as it tells them.
fn runs(buffer: &impl DmaBuffer) -> Vec<Segment> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < buffer.len() {
        let run = buffer.device_address(at);
        runs.push(run);
        at += run.len as usize;
    }
    runs
}

fn constraints(device: Handle) -> Result<bool> {
    let dma = RtDma::in_domain(device);
    let mut held = Vec::new();
    let mut good = true;
    for round in 0..4usize {
        for len in [1, 5000, 12_288, 65_536, 200_000] {
            for wanted in [
                Constraints::DATA,
                Constraints::RING,
                Constraints::RING.below_4g(),
                Constraints::DATA.below_4g(),
                Constraints::DATA.within(65_536),
                Constraints::RING.within(65_536),
                Constraints::RING.within(1 << 21).below_4g(),
            ] {
                let wanted = Constraints { align: 1 << (4 * round), ..wanted };
                let buffer = match dma.allocate(len, wanted) {
                    Err(Error::Inval) => {
                        good &= wanted.contiguous && len as u64 > wanted.boundary;
                        continue;
                    }
                    other => other?,
                };
                let runs = runs(&buffer);
                good &= buffer.len() == len;
                good &= !wanted.contiguous || runs.len() == 1;
                good &= runs.iter().all(|run| {
                    let (address, len) = (run.address, u64::from(run.len));
                    address.is_multiple_of(wanted.align as u64)
                        && address + len - 1 <= wanted.max_address
                        && wanted.up_to_boundary(address, len) == len
                });
                // Some stay, so that the next do not find the same memory.
                if (held.len() + round) % 3 == 0 && len < 1 << 20 {
                    held.push(buffer);
                }
            }
        }
    }
    Ok(good)
}

/// Low memory is there when it is asked for. (That limits hold in memory above 4 GiB is tested in the
/// kernel's own `frames_tests`: filling so much would take minutes here.)
fn low_addresses(device: Handle) -> Result<bool> {
    let dma = RtDma::in_domain(device);
    let end = |wanted: Constraints| -> Result<u64> {
        let buffer = dma.allocate(64 << 10, wanted)?;
        let ends = runs(&buffer).into_iter().map(|run| run.address + u64::from(run.len));
        Ok(ends.max().unwrap_or(u64::MAX))
    };
    let mut good = true;
    for wanted in [Constraints::RING, Constraints::DATA] {
        good &= end(wanted.below_4g())? <= 4 << 30;
        good &= end(wanted.below_16m())? <= 16 << 20;
    }
    Ok(good)
}

/// Neighbouring frames are one entry of a list.
fn coalescing(device: Handle) -> Result<bool> {
    let dma = RtDma::in_domain(device);
    let len = 1 << 20;
    let mut list = SgList::new();
    let whole = dma.allocate(len, Constraints::RING)?;
    // Page by page, as a client's request for each page would come.
    for at in (0..len).step_by(PAGE as usize) {
        list.push_buffer(&whole, at, PAGE as usize);
    }
    let mut good = list.segments().len() == 1 && list.bytes() == len as u64;
    let scattered = dma.allocate(len, Constraints::DATA)?;
    list.clear();
    list.push_buffer(&scattered, 100, len - 100);
    good &= list.bytes() == len as u64 - 100;
    good &= list
        .segments()
        .windows(2)
        .all(|pair| pair[0].address + u64::from(pair[0].len) != pair[1].address);
    log!("1 MiB of any pages: {} runs", list.segments().len());
    Ok(good)
}

/// New memory is zero, and a shifted or cut buffer is still its own bytes in order.
fn contents(device: Handle) -> Result<bool> {
    let dma = RtDma::in_domain(device);
    let mut good = true;
    for wanted in
        [Constraints::DATA, Constraints::RING.within(1 << 16), Constraints::DATA.within(8192)]
    {
        for _ in 0..2 {
            let buffer = dma.allocate(40_000, wanted)?;
            let mut bytes = alloc::vec![1u8; 40_000];
            buffer.read_bytes(0, &mut bytes);
            good &= bytes.iter().all(|&byte| byte == 0);
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = (i % 251) as u8;
            }
            buffer.write_bytes(0, &bytes);
            let mut part = [0; 7];
            buffer.read_bytes(39_993, &mut part);
            good &= part == bytes[39_993..];
            buffer.store_u32(4096, 0x0403_0201);
            buffer.read_bytes(4096, &mut part);
            good &= part[..4] == [1, 2, 3, 4];
        }
    }
    Ok(good)
}

/// What was dropped is free, and nothing of the kernel's stays.
fn release(device: Handle) -> Result<bool> {
    let info = || sys::info::<SystemInfo>(Kind::System, 0);
    let dma = RtDma::in_domain(device);
    drop(dma.allocate(8192, Constraints::RING)?);
    let before = info()?;
    for _ in 0..200 {
        drop(dma.allocate(8192, Constraints::RING)?);
    }
    let after = info()?;
    let now = dma.statistics();
    Ok(now.buffers == 0
        && now.bytes == 0
        && now.allocations == 201
        && (before.frames_free, before.memory_objects, before.frames_quarantined)
            == (after.frames_free, after.memory_objects, after.frames_quarantined))
}

/// A block of a pool in under a microsecond, taking and giving back.
fn pool(device: Handle) -> Result<bool> {
    let dma = RtDma::in_domain(device);
    let pool = Pool::new(&dma, 256, 64, 512)?;
    let mut best = u64::MAX;
    let mut sum = 0;
    for _ in 0..BATCHES {
        let start = time::now_ns();
        for _ in 0..BATCH {
            let block = pool.take().ok_or(Error::NoMem)?;
            sum += block.device_address(0).address;
        }
        best = best.min(time::now_ns() - start);
    }
    core::hint::black_box(sum);
    let each = best / BATCH;
    log!("pool: {each} ns to take a block, find its address and give it back");
    Ok(each < 1000 && pool.available() == pool.capacity())
}
