use super::*;
use crate::dma::{Dma, DmaError};
use crate::testing::FlatMemory;

fn bench(rule: &str) -> (Rig, Arc<FlatMemory>, FaultDma) {
    let rig = Rig::new(&["virtio-net.0"]);
    let memory = FlatMemory::new(0, 0x1000);
    memory.write(0, &[0x11; 0x1000]).unwrap();
    let dma = FaultDma::new(memory.clone(), rig.site.clone());
    rig.add(rule);
    (rig, memory, dma)
}

#[test]
fn error() {
    let (rig, memory, dma) = bench("address=0x100-0x1FF,op=write,action=error");
    assert_eq!(dma.write(0xFE, &[1; 4]), Err(DmaError { address: 0xFE, length: 4 }));
    assert_eq!(dma.store_u16(0x100, 7), Err(DmaError { address: 0x100, length: 2 }));
    assert_eq!(memory.dump(0xFE, 4), [0x11; 4]);
    dma.write(0xFE, &[1; 2]).unwrap();
    dma.read(0x100, &mut [0; 4]).unwrap();
    dma.load_u16(0x100).unwrap();
    assert_eq!(rig.hits(1), (2, 2));
}

#[test]
fn drop() {
    let (_rig, memory, dma) = bench("on=dma,length=4,action=drop");
    dma.write(0, &[9; 4]).unwrap();
    dma.write(8, &[9; 5]).unwrap();
    let mut data = [1; 4];
    dma.read(8, &mut data).unwrap();
    assert_eq!(data, [0; 4]);
    assert_eq!((memory.dump(0, 4), memory.dump(8, 5)), (vec![0x11; 4], vec![9; 5]));
    assert_eq!(dma.load_u16(0), Ok(0x1111));
}

#[test]
fn corrupt() {
    let (rig, memory, dma) = bench("on=dma,nth=2,every=2,action=corrupt,seed=5");
    let ones = |data: &[u8]| data.iter().map(|b| (b ^ 0x11).count_ones()).sum::<u32>();
    let mut data = [0; 64];
    dma.read(0, &mut data).unwrap();
    assert_eq!(ones(&data), 0);
    dma.read(0, &mut data).unwrap();
    assert_eq!(ones(&data), 1);
    dma.write(0, &[0x11; 64]).unwrap();
    dma.write(0, &[0x11; 64]).unwrap();
    assert_eq!(ones(&memory.dump(0, 64)), 1);
    dma.load_u16(0x100).unwrap();
    assert_eq!((dma.load_u16(0x100).unwrap() ^ 0x1111).count_ones(), 1);
    assert_eq!(rig.hits(1), (6, 3));
}
