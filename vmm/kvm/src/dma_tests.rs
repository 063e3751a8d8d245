use super::*;

const MIB: u64 = 1 << 20;

fn dma() -> GuestDma {
    GuestDma(Arc::new(GuestRam::new(4 * MIB).unwrap()))
}

#[test]
fn bytes_and_indices_come_back() {
    let dma = dma();
    dma.write(100, &[1, 2, 3, 4]).unwrap();
    let mut data = [0; 2];
    dma.read(101, &mut data).unwrap();
    assert_eq!(data, [2, 3]);
    dma.store_u16(200, 0xABCD).unwrap();
    assert_eq!(dma.load_u16(200), Ok(0xABCD));
    dma.read(200, &mut data).unwrap();
    assert_eq!(data, [0xCD, 0xAB]);
}

#[test]
fn ranges_past_the_end_move_nothing() {
    let dma = dma();
    let end = 4 * MIB;
    assert_eq!(dma.write(end - 2, &[9; 4]), Err(DmaError { address: end - 2, length: 4 }));
    let mut last = [7; 2];
    dma.read(end - 2, &mut last).unwrap();
    assert_eq!(last, [0, 0]);
    for address in [end, end - 1, u64::MAX, u64::MAX - 1, 1 << 52] {
        assert!(dma.read(address, &mut [0; 4]).is_err(), "{address:#x}");
        assert!(dma.store_u16(address, 1).is_err(), "{address:#x}");
        assert!(!dma.reaches(address, 4, true), "{address:#x}");
    }
    assert!(!dma.reaches(0, u64::MAX, true) && !dma.reaches(8, end, true));
    assert!(dma.reaches(0, end, true));
}

#[test]
fn an_unaligned_index_is_an_error() {
    assert!(dma().load_u16(201).is_err());
}
