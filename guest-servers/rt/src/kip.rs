//! The kernel information page: time, command line, machine.

use xinim_abi::kip::{KIP_ADDRESS, KernelInfoPage};
use xinim_abi::trace::SWITCH_EVENTS;

fn page() -> &'static KernelInfoPage {
    // SAFETY: the kernel maps this page, read-only and for good, in every process. After boot nobody
    // changes it but for `trace`, which is only read as `traced` does.
    unsafe { &*(KIP_ADDRESS as *const KernelInfoPage) }
}

/// Whether somebody outside the machine wants events ([`crate::trace`]).
#[inline]
pub fn traced() -> bool {
    let field = (KIP_ADDRESS as usize + core::mem::offset_of!(KernelInfoPage, trace)) as *const u64;
    // SAFETY: a word of the page, aligned; the machine writes it at any time, hence volatile.
    unsafe { field.read_volatile() & SWITCH_EVENTS != 0 }
}

pub fn tsc() -> u64 {
    // SAFETY: rdtsc has no effect on memory; the kernel leaves CR4.TSD clear.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds since boot. No system call.
pub fn now_ns() -> u64 {
    let page = page();
    let ticks = tsc().wrapping_sub(page.tsc_base);
    ((u128::from(ticks) * u128::from(page.tsc_mult)) >> page.tsc_shift) as u64
}

/// Nanoseconds since 1970, as far as the machine's clock was right at boot.
pub fn wall_clock_ns() -> u64 {
    page().boot_time.saturating_mul(1_000_000_000).saturating_add(now_ns())
}

pub fn memory_total() -> u64 {
    page().memory_total
}

pub fn cpus() -> u32 {
    page().cpus
}

/// See [`xinim_abi::kip::entry`].
pub fn entry_kind() -> u32 {
    page().entry_kind
}

pub fn cmdline() -> &'static str {
    let bytes = &page().cmdline;
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..len]).unwrap_or("")
}

/// Is `word` on the kernel command line, as a word of its own?
pub fn cmdline_has(word: &str) -> bool {
    cmdline().split_ascii_whitespace().any(|w| w == word)
}

/// A number from the processor's random number generator, if it has one (CPUID.1:ECX bit 30).
pub fn random_u64() -> Option<u64> {
    if core::arch::x86_64::__cpuid(1).ecx & 1 << 30 == 0 {
        return None;
    }
    // The generator may be drained for a moment; Intel's guide says to try ten times.
    (0..10).find_map(|_| {
        let mut value = 0;
        // SAFETY: the processor has RDRAND (checked above).
        let ok = unsafe { rdrand(&mut value) };
        (ok == 1).then_some(value)
    })
}

#[target_feature(enable = "rdrand")]
fn rdrand(value: &mut u64) -> i32 {
    // SAFETY: writes through a valid reference; the feature is enabled for this function.
    core::arch::x86_64::_rdrand64_step(value)
}
