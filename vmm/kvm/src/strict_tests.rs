use super::*;
use crate::testing::{cpio_entry, elf_image};
use std::sync::atomic::{AtomicU32, Ordering};
use vm_memory::{Bytes, GuestAddress};
use xinim_devices::device::Origin;
use xinim_devices::strict::rule;
use xinim_devices::testing::FlatMemory;

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

/// Of two vCPUs that break rules at the same time each report has its own stack, whoever looks first.
#[test]
fn each_vcpu_reports_its_own() {
    let said = Arc::new(Mutex::new(String::new()));
    let heard = said.clone();
    let notices = Notices::to(move |text| lock(&heard).push_str(text));
    let hub = Arc::new(Hub::default());
    let ending = Arc::new(Ending::new().unwrap());
    let strict = Strict::new(StrictMode::Warn, &hub, FlatMemory::new(0, 4096), notices, ending);
    let broke = |vcpu: Option<u32>, late: bool, what: &str| {
        strict.waiting.violation(&Violation {
            rule: rule("register-none").unwrap(),
            device: "e1000.0".into(),
            what: what.into(),
            origin: Origin { vcpu, rip: 1, ..Origin::default() },
            late,
            history: Vec::new(),
            count: 1,
        });
    };
    broke(Some(0), false, "by the first");
    broke(Some(1), false, "by the second");
    broke(None, false, "by nobody");
    broke(Some(0), true, "some time ago");
    let ram = GuestRam::new(2 << 20).unwrap();
    let images = Images::new(Vec::new().into(), None);
    let asked = AtomicU32::new(0);
    let flush = |vcpu: Option<u32>, rip: u64| {
        strict.flush(vcpu, &ram, &images, || {
            asked.fetch_add(1, Ordering::Relaxed);
            Some(stack(rip, 0x1000))
        });
        std::mem::take(&mut *lock(&said))
    };
    let text = flush(Some(1), 0x2222);
    assert!(!text.contains("by the first"), "{text}");
    for part in ["by the second", "by nobody", "some time ago"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(text.matches("#0  0000000000002222").count(), 1, "one stack: {text}");
    assert_eq!(flush(None, 0x3333), "");
    let text = flush(Some(0), 0x1111);
    assert!(text.contains("by the first") && text.contains("0000000000001111"), "{text}");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!(flush(Some(0), 0x1111), "");
}
