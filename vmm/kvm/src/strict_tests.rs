use super::*;
use crate::testing::{cpio_entry, elf_image};
use vm_memory::{Bytes, GuestAddress};

const CODE: u64 = 0x10_0000;

/// Without paging a linear address is a physical one.
fn stack(rip: u64, rsp: u64) -> Stack {
    Stack { rip, rsp, paging: Paging { cr0: 0, cr3: 0, cr4: 0, efer: 0 } }
}

#[test]
fn callers_are_the_return_addresses_on_the_stack() {
    let mut bundle = Vec::new();
    cpio_entry(&mut bundle, "sbin/driver", 0o100_755, &elf_image(CODE, &[0x90; 64], None));
    let images = Images::new(Vec::new().into(), Some(bundle.into()));
    let ram = GuestRam::new(4 << 20).unwrap();
    // A call instruction, and on the stack a word behind it and two that are no return addresses.
    ram.map().write_obj(0xE8u8, GuestAddress(CODE + 3)).unwrap();
    for (at, word) in [(0x1000, 7), (0x1008, CODE + 8), (0x1010, CODE + 1)] {
        ram.map().write_obj::<u64>(word, GuestAddress(at)).unwrap();
    }
    let found = places(&ram, &images, Some("driver"), &stack(CODE + 2, 0x1000));
    assert_eq!(found, ["0000000000100002", "0000000000100008"]);
    // Of nobody's code nothing is known but where it is.
    let found = places(&ram, &images, None, &stack(0x1234, 0x1000));
    assert_eq!(found, ["0000000000001234"]);
}

#[test]
fn a_hostile_stack_ends() {
    let images = Images::new(Vec::new().into(), None);
    let ram = GuestRam::new(2 << 20).unwrap();
    for rsp in [0, 1, (2 << 20) - 4, 0x7FFF_F000, u64::MAX - 64, u64::MAX] {
        assert_eq!(places(&ram, &images, Some("x"), &stack(1, rsp)).len(), 1);
    }
}
