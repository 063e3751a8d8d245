//! Several CPUs: how the others start, what they ask of each other, and who they are.
//!
//! # Start
//! ```text
//! first CPU                         another
//! INIT, SIPI to all ------------->  trampoline (below 1 MiB), 32 bit, 64 bit: `other_main`
//! loads the first process           own tables, local APIC           phase ARRIVED
//! compares clocks <-------------->  compares clocks
//! COUNT, phase JOINED ----------->  takes the lock, idles
//! ```
//! Who does not come, or whose clock differs, is left out, which the log says.
//!
//! # Requests
//! Only the holder of the kernel lock asks, and it waits until the request is done. The other may be
//! in ring 3, where an interrupt fetches it; or it waits for the lock, and looks for requests
//! meanwhile (where it halts, the interrupt wakes it). So a request is served while the CPU holds nothing, and nobody waits in a circle.
//! * FLUSH: forget translations, and leave the address space if its thread was taken away.
//! * STOP: halt for ever (a panic, the end of the machine). Nobody waits for that.
//!
//! Limits: [`MAX_CPUS`], with initial APIC identifiers below 255.

use core::cell::Cell;
use core::hint::spin_loop;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use xinim_kernel_logic::refs::Ref;

use crate::apic;
use crate::arch::cpu::{self, AREA, Cpu, cpu};
use crate::arch::instructions::{halt_forever, rdtsc, read_cr4, write_cr3, write_cr4};
use crate::boot_info::BootInfo;
use crate::firmware::Firmware;
use crate::global::Global;
use crate::lock;
use crate::log;
use crate::physical;
use crate::process::Process;
use crate::scheduler;
use crate::space;
use crate::trace;

pub const MAX_CPUS: usize = 8;

const FLUSH: u32 = 1;
const STOP: u32 = 2;

/// `Cpu::phase`
const ARRIVED: u32 = 1;
const JOINED: u32 = 2;
const REFUSED: u32 = 3;

/// Looks at something another CPU does before it is given up: minutes of emulated code, tens of
/// seconds of native code. A host that runs many machines lets a CPU wait for long.
const PATIENCE: u32 = 1 << 28;
/// The same for a CPU that has not come up yet: a second or so where ring 0 is emulated.
const START_PATIENCE: u32 = 1 << 20;
/// Looks at the lock before a panic's report goes on without it.
const PANIC_PATIENCE: u32 = 1 << 14;
/// Exchanges in a comparison of clocks.
const EXCHANGES: u64 = 8;
/// By number, also those that were left out.
static ALL: Global<[Cell<Option<&'static Cpu>>; MAX_CPUS]> =
    Global::new([const { Cell::new(None) }; MAX_CPUS]);
/// CPUs that run threads.
static COUNT: Global<Cell<u32>> = Global::new(Cell::new(1));
/// Top of each CPU's stack, by initial APIC identifier; 0: not one of ours. Read by the start code.
pub static STACKS: Global<[Cell<u64>; 256]> = Global::new([const { Cell::new(0) }; 256]);
/// The clock of who is to move in a comparison.
static CLOCK: AtomicU64 = AtomicU64::new(0);
/// Moves in it so far: even, the first CPU's turn.
static TURN: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    static trampoline: [u8; 0];
    static trampoline_end: [u8; 0];
}

/// Whether there is more than one.
#[inline(always)]
pub fn several() -> bool {
    COUNT.get() > 1
}

/// CPUs that run threads.
pub fn count() -> u32 {
    COUNT.get()
}

/// All CPUs that run threads.
pub fn all() -> impl Iterator<Item = &'static Cpu> {
    let joined = ALL.iter().filter_map(Cell::get);
    joined.filter(|cpu| cpu.phase.load(Ordering::Relaxed) == JOINED)
}

/// All but this one.
pub fn others(me: &Cpu) -> impl Iterator<Item = &'static Cpu> {
    let index = me.index.get();
    all().filter(move |cpu| cpu.index.get() != index)
}

/// Where the trampoline can be for the moment: a page of RAM below the BIOS's data.
fn low_page(boot: &BootInfo) -> Option<u64> {
    const PAGE: u64 = 4096;
    const PREFERRED: u64 = 0x8000;
    let fits = |page: u64| {
        page >= PAGE && boot.ram().any(|r| r.start <= page && page + PAGE <= r.end.min(0x9_F000))
    };
    let first = boot.ram().map(|r| r.start.next_multiple_of(PAGE).max(PAGE));
    core::iter::once(PREFERRED).chain(first).find(|&page| fits(page))
}

/// Starts the other CPUs of the machine; they come up meanwhile. `join` takes them in.
pub fn start(boot: &BootInfo, firmware: &Firmware) {
    let me = cpu();
    me.phase.store(JOINED, Ordering::Relaxed);
    ALL[0].set(Some(me));
    let own = me.apic_id.get();
    let mut found = firmware.processors().filter(|&id| id != own && id < 255).peekable();
    if found.peek().is_none() {
        return;
    }
    let Some(page) = low_page(boot) else {
        log::kernel("one CPU only: no RAM below 1 MiB to start others from");
        return;
    };
    for (index, id) in (1..).zip(found) {
        let Some(slot) = ALL.get(index) else {
            log::kernel("more CPUs than the kernel uses");
            break;
        };
        let order = AREA.div_ceil(4096).next_power_of_two().trailing_zeros();
        let area = physical::allocate(order, u64::MAX);
        let Some(area) = area.and_then(|area| NonNull::new(physical::direct(area) as *mut u8))
        else {
            break;
        };
        // SAFETY: the frames were just allocated and are never given back.
        let other = unsafe { cpu::prepare(area, index as u32, id) };
        STACKS[id as usize].set(other.kernel_stack.get());
        slot.set(Some(other));
    }
    swap_low_page(page);
    for other in ALL.iter().skip(1).filter_map(Cell::get) {
        apic::start_processor(other.apic_id.get(), page);
    }
    LOW_PAGE.set(page);
}

/// Where the trampoline is; 0: nowhere.
static LOW_PAGE: Global<Cell<u64>> = Global::new(Cell::new(0));
/// What is not in the low page at the moment: the trampoline, or what it took the place of.
static ASIDE: Global<[Cell<u8>; 64]> = Global::new([const { Cell::new(0) }; 64]);

/// Exchanges the trampoline and what was in its place.
fn swap_low_page(page: u64) {
    // SAFETY: only the addresses of the linker's symbols are taken; the code between them is
    // constant.
    let code = unsafe {
        let (start, end) = (trampoline.as_ptr(), trampoline_end.as_ptr());
        core::slice::from_raw_parts(start, end as usize - start as usize)
    };
    assert!(code.len() <= ASIDE.len(), "the trampoline has grown");
    let first = LOW_PAGE.get() == 0;
    for (index, (aside, code)) in ASIDE.iter().zip(code).enumerate() {
        let place = (physical::direct(page) + index as u64) as *mut u8;
        // SAFETY: RAM below 1 MiB, mapped and given to nobody.
        unsafe {
            if first {
                aside.set(place.read_volatile());
            }
            place.write_volatile(if first { *code } else { aside.get() });
        }
    }
}

/// First Rust code of another CPU, on its own stack.
pub extern "C" fn other_main(apic_id: u32) -> ! {
    let me = ALL.iter().filter_map(Cell::get).find(|cpu| cpu.apic_id.get() == apic_id);
    let Some(me) = me.filter(|cpu| cpu.index.get() != 0) else { halt_forever() };
    cpu::start_other(me);
    me.pml4.set(space::kernel_pml4());
    // SAFETY: the kernel's own table, for the one that maps low memory; global pages from here on,
    // as on the first CPU.
    unsafe {
        write_cr3(me.pml4.get());
        write_cr4(read_cr4() | space::CR4_GLOBAL_PAGES);
    }
    apic::start_other();
    me.phase.store(ARRIVED, Ordering::Release);
    let mut turn = first_turn(me) + 1;
    loop {
        match me.phase.load(Ordering::Acquire) {
            ARRIVED if TURN.load(Ordering::Acquire) == turn => {
                // Nothing before the first one's clock may be seen here.
                let behind = rdtsc() < CLOCK.load(Ordering::Relaxed);
                CLOCK.store(if behind { u64::MAX } else { rdtsc() }, Ordering::Relaxed);
                TURN.store(turn + 1, Ordering::Release);
                turn += 2;
            }
            ARRIVED => spin_loop(),
            JOINED => break,
            _ => halt_forever(),
        }
    }
    lock::acquire();
    me.since.set(rdtsc());
    cpu::resume_at(scheduler::leave())
}

/// The turns of a comparison with `other`. A gap to the next one's: who has made its last move may
/// look once more.
fn first_turn(other: &Cpu) -> u64 {
    2 * (EXCHANGES + 1) * u64::from(other.index.get())
}

/// Whether the clock of `other`, which waits for this, never shows less than this one has shown, and
/// the other way round. Differences below the time of an exchange cannot be told, nor be seen.
fn clocks_agree(other: &Cpu) -> bool {
    let mut turn = first_turn(other);
    (0..EXCHANGES).all(|_| {
        CLOCK.store(rdtsc(), Ordering::Relaxed);
        TURN.store(turn + 1, Ordering::Release);
        turn += 2;
        let moved = (0..PATIENCE).any(|_| {
            spin_loop();
            TURN.load(Ordering::Acquire) == turn
        });
        moved && rdtsc() >= CLOCK.load(Ordering::Relaxed)
    })
}

/// Takes in the CPUs that have come up; gives how many there are. The lock is held.
pub fn join() -> u32 {
    for other in ALL.iter().skip(1).filter_map(Cell::get) {
        let here = (0..START_PATIENCE).any(|_| {
            spin_loop();
            other.phase.load(Ordering::Acquire) == ARRIVED
        });
        let phase = match here {
            true if clocks_agree(other) => JOINED,
            true => {
                log::kernel("a CPU is not used: its clock differs from the first one's");
                REFUSED
            }
            false => {
                log::kernel("a CPU is not used: it did not start");
                STACKS[other.apic_id.get() as usize].set(0);
                REFUSED
            }
        };
        if phase == JOINED {
            COUNT.set(COUNT.get() + 1);
        }
        other.phase.store(phase, Ordering::Release);
    }
    if LOW_PAGE.get() != 0 {
        swap_low_page(LOW_PAGE.get());
    }
    COUNT.get()
}

/// Makes another CPU look for work.
pub fn kick(other: &Cpu) {
    other.kicked.set(true);
    other.reschedule.set(true);
    apic::interrupt(other.apic_id.get());
}

/// Has `other` do what `request` says, in its own time.
fn ask(other: &Cpu, request: u32) {
    other.request.fetch_or(request, Ordering::SeqCst);
    apic::interrupt(other.apic_id.get());
}

/// Waits until all have forgotten what they were to forget.
fn wait_for_all(me: &Cpu) {
    for other in others(me) {
        let done = (0..PATIENCE).any(|_| {
            let done = other.request.load(Ordering::Acquire) & FLUSH == 0;
            if !done {
                spin_loop();
            }
            done
        });
        assert!(done, "CPU {} does not answer", other.index.get());
    }
}

/// Page-table entries below `pml4` were cleared: when this returns, no other CPU uses them any
/// more.
pub fn flush(pml4: u64) {
    if !several() {
        return;
    }
    let me = cpu();
    others(me).filter(|other| other.pml4.get() == pml4).for_each(|other| ask(other, FLUSH));
    wait_for_all(me);
}

/// Takes the threads of a process that ends from the other CPUs: when this returns, none of them
/// runs one, or has its address space loaded.
pub fn evict(process: Ref<Process>) {
    if !several() {
        return;
    }
    let me = cpu();
    let now = rdtsc();
    for other in others(me) {
        let Some(thread) = other.current.get().filter(|thread| thread.process == process) else {
            continue;
        };
        thread.ticks.set(thread.ticks.get() + now.wrapping_sub(other.since.replace(now)));
        other.current.set(None);
        other.fpu_owner.set(None);
        other.reschedule.set(true);
        trace::running(other.index.get(), xinim_abi::platform::TRACE_NOBODY);
        ask(other, FLUSH);
    }
    wait_for_all(me);
}

/// Whether something is asked of this CPU.
pub fn is_asked(me: &Cpu) -> bool {
    me.request.load(Ordering::SeqCst) != 0
}

/// Does what was asked of this CPU, which holds nothing.
pub fn serve(me: &Cpu) {
    let request = me.request.load(Ordering::Acquire);
    if request == 0 {
        return;
    }
    if request & STOP != 0 {
        halt_forever();
    }
    if me.current.get().is_none() {
        me.pml4.set(space::kernel_pml4());
    }
    // SAFETY: the table that is loaded, or the kernel's own.
    unsafe { write_cr3(me.pml4.get()) }
    me.request.fetch_and(!FLUSH, Ordering::Release);
}

/// The interrupt from another CPU.
pub fn attention() {
    let me = cpu();
    serve(me);
    me.reschedule.set(true);
}

/// The end: the others halt as soon as they can be reached.
pub fn stop_others() {
    if !several() {
        return;
    }
    let me = cpu();
    others(me).for_each(|other| ask(other, STOP));
}

/// As `stop_others`, from anywhere in the kernel; afterwards nobody else changes its state.
pub fn seize() {
    if several() {
        lock::try_for(PANIC_PATIENCE);
        stop_others();
    }
}
