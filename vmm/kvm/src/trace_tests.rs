use xinim_abi::platform::TRACE_NOBODY;

use super::*;

const FRAME: u64 = 0x100;
const BASE: u64 = FRAME * PAGE;

fn ram_with_page() -> GuestRam {
    let ram = GuestRam::new(4 << 20).unwrap();
    let put = |at: u64, word: u32| ram.map().write_obj(word, GuestAddress(at)).unwrap();
    put(BASE, TRACE_MAGIC);
    put(BASE + 4, TRACE_VERSION);
    put(BASE + 8, 3); // CPU 0 runs slot 3
    put(BASE + 12, TRACE_NOBODY);
    put(BASE + 16, 1_000_000); // out of bounds
    put(BASE + 4096 + 3 * 32, 17);
    ram.map().write_slice(b"vfs", GuestAddress(BASE + 4096 + 3 * 32 + 4)).unwrap();
    ram
}

#[test]
fn the_running_process_is_found() {
    let (ram, page) = (ram_with_page(), TracePage::default());
    assert!(page.process(&ram, 0).is_none(), "before the announcement");
    page.announce(&ram, FRAME, 5);
    let process = page.process(&ram, 0).unwrap();
    assert_eq!((process.pid, process.name()), (17, "vfs"));
    for vcpu in [1, 2, 13, 14, u32::MAX] {
        assert!(page.process(&ram, vcpu).is_none(), "{vcpu}");
    }
}

#[test]
fn false_announcements_are_ignored() {
    let (ram, page) = (ram_with_page(), TracePage::default());
    for frame in [0, FRAME + 1, 0x3FF, 0x400, u64::MAX, u64::MAX / PAGE] {
        page.announce(&ram, frame, 5);
        assert!(page.process(&ram, 0).is_none(), "{frame:#x}");
    }
}
