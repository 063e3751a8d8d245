use super::*;
use crate::device::{GuestError, Origin, Process};
use xinim_abi::hw::{pci, virtio};

fn event(kind: EventKind) -> Event<'static> {
    let mut name = [0; 28];
    name[..3].copy_from_slice(b"blk");
    let process = Some(Process { pid: 7, name });
    let origin = Origin { time_ns: 1_000_000_002, vcpu: Some(0), rip: 0x40_1000, process };
    Event { origin, device: "virtio-blk.0", kind, data: &[] }
}

fn access(op: Op, size: u8, value: u64, decode: Decode) -> EventKind {
    let (space, address, decode) = (Space::Mmio, 0xFE00_0014, Some(decode));
    EventKind::Access { space, address, size, op, value, old: None, decode, error: None }
}

#[test]
fn a_write_names_register_and_fields() {
    let decode = Decode { table: virtio::COMMON, offset: 0x14, index: None };
    assert_eq!(
        event(access(Op::Write(0x0F), 1, 0, decode)).to_string(),
        "1.000000002 cpu0 rip=0x401000 [7 blk] virtio-blk.0 w1 mmio:0xfe000014 \
         device_status=0xf {ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK}"
    );
}

#[test]
fn a_dword_read_names_both_halves() {
    let decode = Decode { table: pci::HEADER, offset: 4, index: None };
    let line = event(access(Op::Read, 4, 0x0010_0006, decode)).to_string();
    assert!(line.ends_with("command=0x6 {memory bus_master} status=0x10 {capabilities}"), "{line}");
}

#[test]
fn a_part_of_a_register_says_which() {
    let decode = Decode { table: pci::HEADER, offset: 5, index: None };
    let line = event(access(Op::Write(0x04), 1, 0, decode)).to_string();
    assert!(line.ends_with("command+1=0x4 {intx_disable}"), "{line}");
}

#[test]
fn errors_and_hostile_names_are_shown_safely() {
    let mut event = event(EventKind::Access {
        space: Space::Pio,
        address: 0x80,
        size: 1,
        op: Op::Write(1),
        value: 0,
        old: None,
        decode: None,
        error: Some(GuestError::Unclaimed),
    });
    if let Some(process) = &mut event.origin.process {
        process.name = [b'\n'; 28];
    }
    let line = event.to_string();
    assert!(line.ends_with("[7 ?] virtio-blk.0 w1 pio:0x80 =0x1 !Unclaimed"), "{line}");
}
