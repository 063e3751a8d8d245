//! The kernel information page and the entry gate.
//!
//! The gate begins as `syscall; ret`. The first thread starts on it before its real entry: if
//! that `syscall` does not raise ring 3 to ring 0, the page-fault handler notices and the gate
//! becomes `int3; ret`.

use core::cell::Cell;

use xinim_abi::kip::{ABI_VERSION, GATE_ADDRESS, KIP_MAGIC, KernelInfoPage, entry, features};
use xinim_abi::trace::SWITCH_EVENTS;

use crate::arch::cpu::set_syscall_entry;
use crate::arch::entry::syscall_entry;
use crate::boot_info::BootInfo;
use crate::global::Global;
use crate::physical;
use crate::space;
use crate::time;

/// One page of words: the information page, or the gate.
#[repr(C, align(4096))]
struct Page([Cell<u64>; 512]);

static KIP: Global<Page> = Global::new(Page([const { Cell::new(0) }; 512]));
static GATE: Global<Page> = Global::new(Page([const { Cell::new(0) }; 512]));
static NATIVE: Global<Cell<bool>> = Global::new(Cell::new(true));

/// `syscall; ret` and `int3; ret`, little-endian.
const GATE_SYSCALL: u64 = 0x00C3_050F;
const GATE_TRAP: u64 = 0xC3CC;
/// Where the trap gate's `int3` leaves the instruction pointer.
pub const GATE_RETURN: u64 = GATE_ADDRESS + 1;

pub fn start(boot: &BootInfo, boot_time: u64) {
    let (tsc_base, tsc_mult, tsc_shift) = time::parameters();
    let mut cmdline = [0; 512];
    let len = boot.cmdline.len().min(cmdline.len() - 1);
    cmdline[..len].copy_from_slice(&boot.cmdline[..len]);
    let page = KernelInfoPage {
        magic: KIP_MAGIC,
        abi_version: ABI_VERSION,
        cpus: 1,
        tsc_base,
        tsc_mult,
        tsc_shift,
        entry_kind: entry::SYSCALL,
        boot_time,
        memory_total: physical::counts().0 * 4096,
        features: features::NATIVE_SYSCALL,
        cmdline,
        trace: 0,
    };
    let words: [u64; size_of::<KernelInfoPage>() / 8] = zerocopy::transmute!(page);
    KIP.0.iter().zip(words).for_each(|(cell, word)| cell.set(word));
    GATE.0[0].set(GATE_SYSCALL);
    space::start(physical::of_image(&*KIP), physical::of_image(&*GATE));
}

/// So many CPUs run threads.
pub fn set_cpus(count: u32) {
    // The upper half of its word.
    let at = core::mem::offset_of!(KernelInfoPage, abi_version) / 8;
    KIP.0[at].set(KIP.0[at].get() & 0xFFFF_FFFF | u64::from(count) << 32);
}

/// The probe is over.
pub fn set_entry(native: bool) {
    NATIVE.set(native);
    set_syscall_entry(syscall_entry as *const () as u64);
    if !native {
        GATE.0[0].set(GATE_TRAP);
        // entry_kind is the upper half of its word.
        let at = core::mem::offset_of!(KernelInfoPage, tsc_shift) / 8;
        KIP.0[at].set(KIP.0[at].get() & 0xFFFF_FFFF | u64::from(entry::TRAP) << 32);
        KIP.0[core::mem::offset_of!(KernelInfoPage, features) / 8].set(0);
    }
}

/// Place of the trace's switch in the page, in words.
const TRACE_SWITCH: usize = core::mem::offset_of!(KernelInfoPage, trace) / 8;

/// Whether somebody outside wants events.
#[inline(always)]
pub fn traced() -> bool {
    trace_switches() & SWITCH_EVENTS != 0
}

/// What somebody outside wants: [`SWITCH_EVENTS`] and `SWITCH_GRANTS`.
#[inline(always)]
pub fn trace_switches() -> u64 {
    KIP.0[TRACE_SWITCH].get()
}

/// Physical address of the trace's switch.
pub fn trace_switch() -> u64 {
    physical::of_image(&*KIP) + TRACE_SWITCH as u64 * 8
}

/// Whether `syscall` enters ring 0.
#[inline(always)]
pub fn native() -> bool {
    NATIVE.get()
}
