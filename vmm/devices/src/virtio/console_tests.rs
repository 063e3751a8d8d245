use super::*;
use crate::dma::Dma;
use crate::testing::driver::{Driver, Ring};
use crate::testing::{FlatMemory, MsiLog, Pipe};
use crate::virtio::VirtioConfig;
use std::sync::Arc;

const DATA: u64 = 0x8000;

struct Rig {
    memory: Arc<FlatMemory>,
    pipe: Pipe,
    msi: Arc<MsiLog>,
    function: VirtioPci<Console<Pipe>>,
    rx: Ring,
    tx: Ring,
}

impl Rig {
    fn new() -> Self {
        let (memory, msi, pipe) = (FlatMemory::new(0, 0x2_0000), MsiLog::new(), Pipe::new());
        let config = VirtioConfig::new("virtio-console.0", memory.clone(), msi.clone());
        let mut function =
            VirtioPci::new(Console::new(pipe.clone()), config).expect("capabilities fit");
        let rx = Ring::new(&memory, 0, 8);
        let tx = Ring::new(&memory, 0x1000, 8);
        let mut driver = Driver::new(&mut function);
        assert!(driver.negotiate(0));
        driver.enable_msix(3);
        driver.enable_queue(RX_QUEUE, &rx);
        driver.enable_queue(TX_QUEUE, &tx);
        driver.driver_ok();
        Self { memory, pipe, msi, function, rx, tx }
    }

    fn notify(&mut self, queue: u16) {
        assert_eq!(Driver::new(&mut self.function).notify(queue).error, None);
    }

    fn send(&mut self, data: &[u8]) {
        assert_eq!(self.memory.write(DATA, data), Ok(()));
        self.tx.offer(&[(DATA, data.len() as u32, false)]);
        self.notify(TX_QUEUE);
    }
}

#[test]
fn output_reaches_the_host_whole_and_in_order() {
    let mut rig = Rig::new();
    let long: Vec<u8> = (0..20_000u32).map(|i| (i * 7) as u8).collect();
    rig.send(b"hello ");
    rig.send(&long);
    assert_eq!(rig.pipe.take(), [b"hello ".as_slice(), &long].concat());
    assert_eq!(rig.tx.completions().len(), 2);
    assert_eq!(rig.msi.take().first().map(|m| m.0), Some(2), "vector of the transmit queue");
}

#[test]
fn output_waits_while_the_host_takes_nothing() {
    let mut rig = Rig::new();
    rig.pipe.limit(Some(3));
    rig.send(b"abcdef");
    assert_eq!((rig.pipe.take(), rig.tx.completions()), (b"abc".to_vec(), vec![]));
    assert!(rig.function.device().output_blocked());
    rig.pipe.limit(Some(1));
    assert!(!rig.function.output_ready(&Origin::default()));
    assert_eq!((rig.pipe.take(), rig.tx.completions()), (b"d".to_vec(), vec![]));
    rig.pipe.limit(None);
    assert!(!rig.function.output_ready(&Origin::default()));
    assert_eq!((rig.pipe.take(), rig.tx.completions()), (b"ef".to_vec(), vec![(0, 0)]));
}

#[test]
fn input_fills_buffers_as_it_comes() {
    let mut rig = Rig::new();
    rig.rx.offer(&[(DATA, 4, true)]);
    rig.rx.offer(&[(DATA + 16, 16, true)]);
    rig.notify(RX_QUEUE);
    assert_eq!(rig.rx.completions(), []);
    rig.pipe.feed(b"abcdefg");
    assert!(!rig.function.input_ready(&Origin::default()));
    assert_eq!(rig.rx.completions(), [(0, 4), (1, 3)]);
    assert_eq!(rig.memory.dump(DATA, 4), b"abcd");
    assert_eq!(rig.memory.dump(DATA + 16, 3), b"efg");
}

#[test]
fn input_waits_for_buffers_and_comes_with_them() {
    let mut rig = Rig::new();
    rig.pipe.feed(b"xyz");
    rig.function.input_ready(&Origin::default());
    assert_eq!(rig.pipe.unread(), 3, "nothing was fetched that has no place");
    rig.rx.offer(&[(DATA, 2, true)]);
    rig.notify(RX_QUEUE);
    rig.rx.offer(&[(DATA + 2, 2, true)]);
    rig.notify(RX_QUEUE);
    assert_eq!(rig.rx.completions(), [(0, 2), (1, 1)]);
    assert_eq!(rig.memory.dump(DATA, 3), b"xyz");
}

#[test]
fn a_reset_drops_held_chains() {
    let mut rig = Rig::new();
    rig.rx.offer(&[(DATA, 4, true)]);
    rig.notify(RX_QUEUE);
    rig.pipe.limit(Some(0));
    rig.send(b"lost");
    let before = rig.memory.dump(0, 0x2000);
    Driver::new(&mut rig.function).set_status(xinim_abi::hw::virtio::Status::empty());
    rig.pipe.limit(None);
    rig.pipe.feed(b"late");
    rig.function.input_ready(&Origin::default());
    rig.function.output_ready(&Origin::default());
    assert_eq!(rig.pipe.take(), b"");
    assert_eq!(rig.memory.dump(0, 0x2000), before, "memory is untouched after reset");
    assert!(!rig.function.device().output_blocked());
}

#[test]
fn wrong_way_buffers_are_given_back_empty() {
    let mut rig = Rig::new();
    rig.rx.offer(&[(DATA, 4, false)]);
    rig.notify(RX_QUEUE);
    assert_eq!(rig.rx.completions(), [(0, 0)]);
    rig.tx.offer(&[(DATA, 4, true)]);
    rig.notify(TX_QUEUE);
    assert_eq!((rig.tx.completions(), rig.pipe.take()), (vec![(0, 0)], vec![]));
}
