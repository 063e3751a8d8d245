use kvm_bindings::kvm_sregs;
use vm_memory::{Bytes, GuestAddress};

use super::*;

const TABLE: u64 = 0x1000;
const LAYOUT: u64 = 0x2FF8;
const FIELDS: ThreadLayout = ThreadLayout {
    magic: LAYOUT_MAGIC,
    slots: 8,
    state: 0,
    priority: 4,
    rip: 8,
    rsp: 16,
    ticks: 24,
    system_calls: 32,
    process: 40,
    endpoint: 48,
    pid: 0,
    name: 4,
    tables: 40,
    bits: 0,
    owner: 8,
    reserved: 0,
};

/// Without paging, so that addresses are those of RAM.
fn cpu() -> (CpuState, Option<u32>) {
    let special = kvm_sregs { cr0: 1, ..Default::default() };
    (CpuState { general: Default::default(), special, fpu: Default::default() }, None)
}

fn words(ram: &GuestRam, at: u64, words: &[u64]) {
    for (index, word) in (0u64..).zip(words) {
        ram.map().write_obj(*word, GuestAddress(at + index * 8)).unwrap();
    }
}

/// Thread 0 of process 7 has called process 9; slot 3 leads out of RAM.
fn guest() -> GuestRam {
    let ram = GuestRam::new(4 << 20).unwrap();
    ram.map().write_slice(FIELDS.as_bytes(), GuestAddress(LAYOUT)).unwrap();
    words(&ram, TABLE, &[0x4000, 0, 0x5000, 0x7FFF_0000]);
    let calls = u64::from(state::AWAITING_REPLY) | 12 << 32;
    words(&ram, 0x4000, &[calls, 0x40_1000, 0x9000, 500, 33, 0x6000, 0x8000]);
    words(&ram, 0x5000, &[u64::from(state::READY), 0, 0, 0, 0, 0x7000, 0]);
    for (at, pid, name) in [(0x6000u64, 7u32, "client"), (0x7000, 9, "server\n")] {
        ram.map().write_obj(pid, GuestAddress(at)).unwrap();
        ram.map().write_slice(name.as_bytes(), GuestAddress(at + 4)).unwrap();
    }
    words(&ram, 0x8000, &[0b100, 0x7000]);
    ram
}

fn threads(ram: &GuestRam) -> Result<Vec<ThreadStatus>, String> {
    let images = Images::new(Vec::new().into(), None);
    read(&Guest { ram, images: &images, cpus: &[cpu()] }, TABLE, LAYOUT)
}

#[test]
fn a_thread_says_whom_it_waits_for() {
    let threads = threads(&guest()).unwrap();
    let [client, server] = threads.as_slice() else { panic!("{threads:?}") };
    assert_eq!(
        (client.pid, client.process.as_str(), client.state),
        (7, "client", "awaiting reply")
    );
    assert_eq!(client.waits_for, Some((9, "?".into())), "a name that cannot be printed");
    assert_eq!((client.bits, client.priority, client.system_calls, client.ticks), (4, 12, 33, 500));
    assert_eq!(client.stack, ["0000000000401000"]);
    assert_eq!((server.pid, server.state, &server.waits_for), (9, "ready", &None));
}

#[test]
fn records_that_are_none_are_left_out() {
    let ram = guest();
    // An endpoint, a process and an owner outside of RAM, at the end of the address space.
    for field in [0x4028, 0x4030, 0x8008] {
        let ram = guest();
        words(&ram, field, &[u64::MAX - 3]);
        assert!(threads(&ram).unwrap().len() <= 2);
    }
    let wild = ThreadLayout { slots: u32::MAX, process: 0x7FFF_0000, ..FIELDS };
    ram.map().write_slice(wild.as_bytes(), GuestAddress(LAYOUT)).unwrap();
    assert!(threads(&ram).unwrap().is_empty());
    words(&ram, LAYOUT, &[0]);
    assert!(threads(&ram).unwrap_err().contains("not come as far"));
}

#[test]
fn a_kernel_without_symbols_has_no_threads_to_tell() {
    let images = Images::new(Vec::new().into(), None);
    let guest = Guest { ram: &guest(), images: &images, cpus: &[cpu()] };
    assert!(list(&guest).unwrap_err().contains("does not say"));
}
