//! The local APIC's interrupt state, for people: an interrupt that was lost, never acknowledged or
//! never let in is the commonest reason why a guest waits for ever.

use kvm_bindings::kvm_lapic_state;

/// Registers of 256 bits in eight words, 16 bytes apart (SDM volume 3, 11.8.4).
const IN_SERVICE: usize = 0x100;
const REQUESTED: usize = 0x200;
const SPURIOUS: usize = 0xF0;
const SOFTWARE_ENABLED: u32 = 1 << 8;
const LVT_TIMER: usize = 0x320;
const MASKED: u32 = 1 << 16;

/// One line: vectors requested and in service, and the timer.
pub fn describe(state: &kvm_lapic_state) -> String {
    let mut text = format!(
        "requested {}, in service {}",
        vectors(state, REQUESTED),
        vectors(state, IN_SERVICE)
    );
    let timer = word(state, LVT_TIMER);
    let mode = match timer >> 17 & 3 {
        0 => "one-shot",
        1 => "periodic",
        _ => "TSC-deadline",
    };
    if timer & MASKED == 0 {
        text.push_str(&format!(", {mode} timer at {:#x}", timer & 0xFF));
    } else {
        text.push_str(", timer masked");
    }
    if word(state, SPURIOUS) & SOFTWARE_ENABLED == 0 {
        text.push_str(", APIC off");
    }
    text
}

fn word(state: &kvm_lapic_state, at: usize) -> u32 {
    u32::from_le_bytes([0, 1, 2, 3].map(|byte| state.regs[at + byte] as u8))
}

fn vectors(state: &kvm_lapic_state, at: usize) -> String {
    let set = |vector: &usize| word(state, at + vector / 32 * 16) >> (vector % 32) & 1 != 0;
    let names: Vec<String> = (0..256).filter(set).map(|vector| format!("{vector:#x}")).collect();
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

#[cfg(test)]
#[path = "lapic_tests.rs"]
mod tests;
