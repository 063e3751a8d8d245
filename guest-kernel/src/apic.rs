//! Interrupt controllers: the local APIC (xAPIC registers or x2APIC, SDM vol. 3, chapter 11), its
//! timer, and the I/O APICs. The legacy PICs are masked.

use core::cell::Cell;

use xinim_abi::platform::{IOAPIC_BASE, LAPIC_BASE};

use crate::arch::cpu::{cpu, first};
use crate::arch::instructions::{cpuid, msr, out8, rdmsr, rdtsc, wrmsr};
use crate::firmware::Firmware;
use crate::global::Global;
use crate::physical::{map_registers, read32, write32};

pub const TIMER_VECTOR: u64 = 239;
/// From another CPU. Of a higher class (its upper four bits) than all others.
pub const ATTENTION_VECTOR: u64 = 241;
pub const SPURIOUS_VECTOR: u64 = 255;

/// Registers by their xAPIC offset; x2APIC numbers are these shifted right by four.
const ID: u32 = 0x20;
const TASK_PRIORITY: u32 = 0x80;
const END_OF_INTERRUPT: u32 = 0xB0;
const SPURIOUS: u32 = 0xF0;
const COMMAND: u32 = 0x300;
const COMMAND_HIGH: u32 = 0x310;
const TIMER: u32 = 0x320;
const TIMER_INITIAL: u32 = 0x380;
const TIMER_CURRENT: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3E0;

/// Interrupt command: delivery modes, level, and (xAPIC only) still being sent (SDM vol. 3, 11.6.1).
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const PENDING: u32 = 1 << 12;
/// Looks at a command that is being sent before it is given up.
const SEND_POLLS: u32 = 100_000;

const TIMER_MASKED: u32 = 1 << 16;
const TIMER_TSC_DEADLINE: u32 = 2 << 17;
/// Divide by 16.
const DIVIDE_16: u32 = 3;

const MAX_IO_APICS: usize = 8;

/// An I/O APIC: where its registers are mapped and the interrupts of its pins.
#[derive(Clone, Copy, Default)]
struct IoApic {
    registers: u64,
    gsi_base: u32,
    pins: u32,
}

/// Mapped xAPIC registers; 0 means x2APIC.
static LOCAL: Global<Cell<u64>> = Global::new(Cell::new(0));
/// Timer ticks for TSC ticks, as a 32.32 fraction; 0 means TSC-deadline mode.
static TIMER_RATIO: Global<Cell<u64>> = Global::new(Cell::new(0));
static IO_APICS: Global<[Cell<IoApic>; MAX_IO_APICS]> =
    Global::new([const { Cell::new(IoApic { registers: 0, gsi_base: 0, pins: 0 }) }; MAX_IO_APICS]);

fn read(register: u32) -> u32 {
    match LOCAL.get() {
        // SAFETY: x2APIC mode was enabled, so its registers exist.
        0 => unsafe { rdmsr(msr::X2APIC + (register >> 4)) as u32 },
        base => read32(base + u64::from(register)),
    }
}

fn write(register: u32, value: u32) {
    match LOCAL.get() {
        // SAFETY: x2APIC mode was enabled; the APIC's registers do not touch memory.
        0 => unsafe { wrmsr(msr::X2APIC + (register >> 4), u64::from(value)) },
        base => write32(base + u64::from(register), value),
    }
}

/// Enables the local APIC of the first CPU, with the timer stopped, and masks the PICs.
pub fn start_local() {
    enable();
    // What they deliver nevertheless goes to vectors nobody uses.
    out8(0x21, 0xFF);
    out8(0xA1, 0xFF);
}

/// Enables the local APIC of another CPU and sets its timer up as the first one's.
pub fn start_other() {
    enable();
    match TIMER_RATIO.get() {
        0 => write(TIMER, TIMER_TSC_DEADLINE | TIMER_VECTOR as u32),
        _ => {
            write(TIMER_DIVIDE, DIVIDE_16);
            write(TIMER, TIMER_VECTOR as u32);
        }
    }
}

fn enable() {
    let features = cpuid(1, 0);
    let x2apic = features[2] & 1 << 21 != 0;
    // SAFETY: every x86_64 CPU has the register; the address stays, enable and mode are set.
    unsafe {
        let base = rdmsr(msr::APIC_BASE);
        wrmsr(msr::APIC_BASE, base | 1 << 11 | if x2apic { 1 << 10 } else { 0 });
        if !x2apic && LOCAL.get() == 0 {
            let address = base & 0x000F_FFFF_FFFF_F000;
            LOCAL.set(map_registers(if address == 0 { LAPIC_BASE } else { address }));
        }
    }
    let id = read(ID);
    cpu().apic_id.set(if x2apic { id } else { id >> 24 });
    write(TASK_PRIORITY, 0);
    write(SPURIOUS, 0x100 | SPURIOUS_VECTOR as u32);
}

/// Sends `command` to the CPU with this APIC identifier.
fn send(apic_id: u32, command: u32) {
    match LOCAL.get() {
        // SAFETY: x2APIC mode was enabled; one register there.
        0 => unsafe {
            wrmsr(msr::X2APIC + (COMMAND >> 4), u64::from(apic_id) << 32 | u64::from(command));
        },
        _ => {
            write(COMMAND_HIGH, apic_id << 24);
            write(COMMAND, command);
            // The next one must not overtake it.
            let _ = (0..SEND_POLLS).any(|_| read(COMMAND) & PENDING == 0);
        }
    }
}

/// Whether all interrupts but those of other CPUs wait.
pub fn admit_attention_only(only: bool) {
    write(TASK_PRIORITY, if only { (ATTENTION_VECTOR as u32 - 0x10) & 0xF0 } else { 0 });
}

/// Interrupts another CPU.
pub fn interrupt(apic_id: u32) {
    send(apic_id, ASSERT | ATTENTION_VECTOR as u32);
}

/// Resets another CPU and starts it in real mode at `page` (below 1 MiB).
pub fn start_processor(apic_id: u32, page: u64) {
    let startup = ASSERT | DELIVER_STARTUP | (page >> 12) as u32;
    for command in [ASSERT | DELIVER_INIT, startup, startup] {
        send(apic_id, command);
    }
}

/// Whether the timer can compare with the TSC itself, so that its own frequency does not matter.
pub fn has_tsc_deadline() -> bool {
    cpuid(1, 0)[2] & 1 << 24 != 0
}

/// Lets the timer count down from the top for calibration.
pub fn timer_count_down() {
    write(TIMER_DIVIDE, DIVIDE_16);
    write(TIMER, TIMER_MASKED | TIMER_VECTOR as u32);
    write(TIMER_INITIAL, u32::MAX);
}

/// Ticks since `timer_count_down`.
pub fn timer_elapsed() -> u32 {
    u32::MAX - read(TIMER_CURRENT)
}

/// Sets the timer up. `frequency`: of its input clock after division, in Hz; 0 in TSC-deadline
/// mode.
pub fn start_timer(frequency: u64, tsc_frequency: u64) {
    if frequency == 0 {
        write(TIMER, TIMER_TSC_DEADLINE | TIMER_VECTOR as u32);
        return;
    }
    TIMER_RATIO.set(((u128::from(frequency) << 32) / u128::from(tsc_frequency)) as u64);
    write(TIMER_DIVIDE, DIVIDE_16);
    write(TIMER, TIMER_VECTOR as u32);
}

/// Asks for the timer interrupt at TSC `deadline`.
pub fn arm(deadline: u64) {
    match TIMER_RATIO.get() {
        // SAFETY: TSC-deadline mode is on; 0 would stop the timer, hence at least 1.
        0 => unsafe { wrmsr(msr::TSC_DEADLINE, deadline.max(1)) },
        ratio => {
            let left = deadline.saturating_sub(rdtsc());
            let ticks = (u128::from(left) * u128::from(ratio)) >> 32;
            // Too far for the counter: it fires early and is armed again.
            write(TIMER_INITIAL, ticks.clamp(1, u128::from(u32::MAX)) as u32);
        }
    }
}

#[inline(always)]
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// The same for an interrupt that is at an end with that.
pub extern "C" fn end_of_attention() {
    end_of_interrupt();
}

/// Finds the I/O APICs and masks all their pins.
pub fn start_io(firmware: &Firmware) {
    let mut count = 0;
    for (apic, slot) in firmware.io_apics().zip(IO_APICS.iter()) {
        add_io_apic(slot, u64::from(apic.address), apic.gsi_base);
        count += 1;
    }
    if count == 0 {
        add_io_apic(&IO_APICS[0], IOAPIC_BASE, 0);
    }
}

fn add_io_apic(slot: &Cell<IoApic>, address: u64, gsi_base: u32) {
    let registers = map_registers(address);
    let version = io_read(registers, 1);
    if version == u32::MAX {
        return;
    }
    let pins = (version >> 16 & 0xFF) + 1;
    // Pins are masked after reset; firmware may have left some open.
    for pin in 0..pins {
        if io_read(registers, 0x10 + pin * 2) & 1 << 16 == 0 {
            io_write(registers, 0x10 + pin * 2, 1 << 16);
        }
    }
    slot.set(IoApic { registers, gsi_base, pins });
}

fn io_read(registers: u64, index: u32) -> u32 {
    write32(registers, index);
    read32(registers + 0x10)
}

fn io_write(registers: u64, index: u32, value: u32) {
    write32(registers, index);
    write32(registers + 0x10, value);
}

fn io_apic_of(gsi: u32) -> Option<IoApic> {
    IO_APICS
        .iter()
        .map(Cell::get)
        .find(|apic| gsi.checked_sub(apic.gsi_base).is_some_and(|pin| pin < apic.pins))
}

/// Whether some I/O APIC has this pin.
pub fn has_gsi(gsi: u32) -> bool {
    io_apic_of(gsi).is_some()
}

/// Sends pin `gsi` to `vector` on the first CPU.
pub fn route(gsi: u32, vector: u32, level: bool, active_low: bool, masked: bool) {
    let Some(apic) = io_apic_of(gsi) else { return };
    let index = 0x10 + (gsi - apic.gsi_base) * 2;
    let low =
        vector | u32::from(active_low) << 13 | u32::from(level) << 15 | u32::from(masked) << 16;
    if !masked {
        io_write(apic.registers, index + 1, first().apic_id.get() << 24);
    }
    io_write(apic.registers, index, low);
}
