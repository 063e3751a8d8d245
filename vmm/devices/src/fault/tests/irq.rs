use super::*;
use crate::irq::{IrqLine, MsiMessage, MsiSink};
use crate::testing::{IrqLog, MsiLog};

fn bench(rule: &str) -> (Rig, Arc<MsiLog>, FaultMsi) {
    let rig = Rig::new(&["virtio-blk.0"]);
    let log = MsiLog::new();
    let msi = FaultMsi::new(log.clone(), rig.site.clone());
    rig.add(rule);
    (rig, log, msi)
}

fn raise(msi: &FaultMsi, vectors: &[u16]) {
    for &vector in vectors {
        msi.signal(vector, MsiMessage { address: 0xFEE0_0000, data: vector.into() });
    }
}

fn seen(log: &MsiLog) -> Vec<u16> {
    log.take().into_iter().map(|(vector, _)| vector).collect()
}

#[test]
fn lost() {
    let (rig, log, msi) = bench("device=virtio-blk.0,vector=1,nth=2,action=irq-lost");
    raise(&msi, &[1, 0, 1, 1]);
    assert_eq!(seen(&log), [1, 0, 1]);
    assert_eq!(rig.hits(1), (3, 1));
}

#[test]
fn late() {
    let (rig, log, msi) = bench("vector=0-1,count=1,action=irq-late,time=3ms");
    raise(&msi, &[2, 1, 1]);
    assert_eq!(seen(&log), [2, 1]);
    rig.pass(2 * MS);
    assert!(seen(&log).is_empty());
    rig.pass(MS);
    assert_eq!(seen(&log), [1]);
}

#[test]
fn duplicate() {
    let (rig, log, msi) = bench("device=virtio*,nth=2,action=irq-duplicate");
    raise(&msi, &[3, 4]);
    assert_eq!(seen(&log), [3, 4]);
    rig.pass(MS);
    assert_eq!(seen(&log), [4]);
}

#[test]
fn stick() {
    let (rig, log, msi) = bench("vector=4,action=stick,time=5ms,count=1");
    raise(&msi, &[3, 4, 3]);
    assert_eq!(seen(&log), [3], "none of this device");
    rig.pass(5 * MS);
    raise(&msi, &[4]);
    assert_eq!(seen(&log), [4]);
}

#[test]
fn a_line_that_rises_is_an_interrupt() {
    let rig = Rig::new(&["com1"]);
    let log = IrqLog::new();
    let line = FaultLine::new(log.clone(), rig.site.clone());
    rig.add("device=com1,nth=2,action=irq-lost");
    rig.add("device=com1,nth=3,action=irq-late,time=2ms");
    for level in [true, false, true] {
        line.set(level);
    }
    assert_eq!((log.level(), log.rises()), (false, 1));
    line.set(false);
    line.set(true);
    assert_eq!(log.rises(), 1);
    rig.pass(2 * MS);
    assert_eq!((log.level(), log.rises()), (true, 2));
}
