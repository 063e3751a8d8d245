use super::*;

fn ram_with(words: &[(u64, u64)]) -> GuestRam {
    let ram = GuestRam::new(2 << 20).unwrap();
    for (address, word) in words {
        ram.map().write_obj(*word, GuestAddress(*address)).unwrap();
    }
    ram
}

/// Without paging a linear address is a physical one.
fn stack(rip: u64, rbp: u64) -> Stack {
    Stack { rip, rbp, paging: Paging { cr0: 0, cr3: 0, cr4: 0, efer: 0 } }
}

#[test]
fn frames_follow_the_chain() {
    let ram = ram_with(&[(0x1000, 0x1100), (0x1008, 0x402000), (0x1100, 0), (0x1108, 0x403000)]);
    assert_eq!(frames(&ram, &stack(0x401000, 0x1000)), [0x401000, 0x402000, 0x403000]);
    assert_eq!(frames(&ram, &stack(0x401000, 0)), [0x401000]);
}

#[test]
fn a_hostile_chain_ends() {
    // A loop, a frame below the last, one outside memory, one that is not aligned.
    let ram = ram_with(&[(0x1000, 0x1000), (0x1008, 7), (0x2000, 0x1000), (0x2008, 8)]);
    assert_eq!(frames(&ram, &stack(1, 0x1000)), [1, 7]);
    assert_eq!(frames(&ram, &stack(1, 0x2000)), [1, 8]);
    assert_eq!(frames(&ram, &stack(1, 0x7FFF_F000)), [1]);
    assert_eq!(frames(&ram, &stack(1, u64::MAX)), [1]);
    let chain: Vec<_> =
        (0..100).flat_map(|i| [(0x3000 + 16 * i, 0x3010 + 16 * i), (0x3008 + 16 * i, 9)]).collect();
    assert_eq!(frames(&ram_with(&chain), &stack(1, 0x3000)).len(), FRAMES_MAX);
}
