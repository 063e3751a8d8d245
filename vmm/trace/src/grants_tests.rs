use super::*;
use xinim_devices::device::{Origin, Process};
use xinim_devices::trace::{Guest, Owner};

fn guest(what: u8, a: u64, b: u64) -> Event<'static> {
    let mut name = [0; 28];
    name[..3].copy_from_slice(b"blk");
    let process = Some(Process { pid: 6, name });
    let kind = EventKind::Guest(Guest { kind: what.into(), name: 0, a, b });
    Event { origin: Origin { process, ..Origin::host(0) }, device: "guest", kind, data: &[] }
}

fn dma(address: u64, length: u64) -> Event<'static> {
    let owner = Owner::Unknown;
    let kind = EventKind::Dma { write: true, address, length, ok: true, owner };
    Event { origin: Origin::host(0), device: "d", kind, data: &[] }
}

#[test]
fn a_transfer_is_owned_by_who_was_granted_its_memory() {
    let mut grants = Grants::default();
    assert_eq!(grants.event(&dma(0x1000, 8)), None);
    grants.event(&guest(kind::DMA_GRANT, 0x1000, 6 | 2 << 32));
    assert_eq!(grants.event(&dma(0x2FF8, 8)).as_deref(), Some("6 blk"));
    assert_eq!(grants.event(&dma(0x2FF8, 9)), None, "runs out of the grant");
    assert_eq!(grants.event(&dma(0xFFF, 1)), None);
    assert_eq!(grants.event(&dma(u64::MAX, u64::MAX)), None);
    grants.event(&guest(kind::DMA_GRANT, 0x1000, 9 | 1 << 32));
    assert_eq!(grants.event(&dma(0x1000, 8)).as_deref(), Some("9 ?"));
    grants.event(&guest(kind::DEATH, 0, 9));
    assert_eq!(grants.event(&dma(0x1000, 8)), None);
    grants.event(&guest(kind::DMA_GRANT, u64::MAX, u64::MAX));
}
