use super::*;

fn set(state: &mut kvm_lapic_state, at: usize, value: u32) {
    for (index, byte) in value.to_le_bytes().into_iter().enumerate() {
        state.regs[at + index] = byte as _;
    }
}

#[test]
fn vectors_and_timer_are_named() {
    let mut state = kvm_lapic_state::default();
    set(&mut state, SPURIOUS, 0x1FF);
    set(&mut state, LVT_TIMER, 2 << 17 | 0x30);
    set(&mut state, REQUESTED + 16, 1 << 17 | 1 << 31);
    set(&mut state, IN_SERVICE + 7 * 16, 1);
    assert_eq!(
        describe(&state),
        "requested 0x31 0x3f, in service 0xe0, TSC-deadline timer at 0x30"
    );
    set(&mut state, SPURIOUS, 0xFF);
    set(&mut state, LVT_TIMER, MASKED);
    assert!(describe(&state).ends_with("timer masked, APIC off"));
}
