use crate::entry::{Call, Description, Kind};
use crate::file::Recorder;
use crate::taps::{TapClock, TapDisk, TapDma, TapMsi, TapNet, TapTimer};
use crate::{Recorded, Tape, replay};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use xinim_abi::hw::e1000::descriptor::{RxDesc, TxDesc, tx_command};
use xinim_abi::hw::e1000::{Ctrl, Model, Rctl, Tctl, reg};
use xinim_abi::hw::virtio_blk::{RequestHeader, request};
use xinim_devices::device::{Access, Origin};
use xinim_devices::dma::Dma;
use xinim_devices::e1000::{E1000, E1000Config};
use xinim_devices::net::{Frame, NetDevice};
use xinim_devices::pci::PciDevice;
use xinim_devices::testing::driver::Ring;
use xinim_devices::testing::net::{NetPipe, TimerLog};
use xinim_devices::testing::{FlatMemory, ManualClock, MemoryDisk, MsiLog};
use xinim_devices::trace::Tracer;
use xinim_devices::virtio::{Block, BlockConfig, VirtioConfig, VirtioPci};
use zerocopy::IntoBytes;

/// A file of the test's own, gone afterwards.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("xinim-record-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Records a disk that reads a few sectors, some of them beyond its end.
pub fn record_disk(path: &Path) {
    let recorder = Recorder::create(path).unwrap();
    let kind = Kind::Block { id: "serial".into(), queues: 1, queue_size: 16 };
    let number =
        recorder.device(&Description { name: "virtio-blk.0".into(), kind, translated: false });
    let tape = Tape::record(recorder.clone(), number);
    let memory = FlatMemory::new(0, 1 << 20);
    let dma = Arc::new(TapDma { tape: tape.clone(), real: Some(memory.clone()) });
    let msi = Arc::new(TapMsi { tape: tape.clone(), real: Some(MsiLog::new()) });
    let real = Box::new(MemoryDisk::new(64 << 10));
    let disk = TapDisk { tape: tape.clone(), unit: 0, real: Some(real), dma: Some(memory.clone()) };
    let setup = BlockConfig { id: "serial".into(), queues: 1 };
    let setup_pci = VirtioConfig { queue_size: 16, ..VirtioConfig::new("virtio-blk.0", dma, msi) };
    let device = VirtioPci::new(Block::new(disk, &setup), setup_pci).unwrap();
    let mut device = Recorded::new(device, tape, memory.clone());
    drive_disk(&mut device, &memory);
    recorder.finish().unwrap();
}

/// Through the accesses a driver makes.
fn drive_disk(device: &mut impl PciDevice, memory: &Arc<FlatMemory>) {
    use xinim_abi::hw::virtio::{Status, common, feature};
    device.config_access(Access::write(4, 2, 6));
    let mut set = |register: usize, size, value| {
        device.bar_access(0, Access::write(register as u64, size, value));
    };
    let status = |status: Status| u64::from(status.bits());
    set(common::DEVICE_STATUS, 1, 0);
    set(common::DEVICE_STATUS, 1, status(Status::ACKNOWLEDGE | Status::DRIVER));
    set(common::DRIVER_FEATURE_SELECT, 4, 1);
    set(common::DRIVER_FEATURE, 4, feature::VERSION_1 >> 32);
    let ok = Status::ACKNOWLEDGE | Status::DRIVER | Status::FEATURES_OK;
    set(common::DEVICE_STATUS, 1, status(ok));
    let mut ring = Ring::new(memory, 0x1_0000, 16);
    for (register, address) in [
        (common::QUEUE_DESC, ring.desc),
        (common::QUEUE_DRIVER, ring.avail),
        (common::QUEUE_DEVICE, ring.used),
    ] {
        set(register, 8, address);
    }
    set(common::QUEUE_ENABLE, 2, 1);
    set(common::DEVICE_STATUS, 1, status(ok | Status::DRIVER_OK));
    for sector in [0, 5, 1 << 40] {
        let header = RequestHeader { kind: request::IN, sector, ..Default::default() };
        memory.write(0x2000, header.as_bytes()).unwrap();
        ring.offer(&[(0x2000, 16, false), (0x3000, 512, true), (0x4000, 1, true)]);
        device.bar_access(0, Access::write(0x3000, 2, 0));
        assert_eq!(ring.completions().len(), 1);
    }
    device.bar_access(0, Access::read(0x1000, 1));
    assert_eq!(memory.dump(0x4000, 1), [1], "the last one failed");
}

#[test]
fn a_disk_is_replayed_bit_for_bit() {
    let file = Scratch::new();
    record_disk(file.path());
    let outcomes = replay(File::open(file.path()).unwrap(), None).unwrap();
    let [outcome] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(outcome.difference, None);
    assert!(outcome.calls > 12 && outcome.asks > 20 && !outcome.cut_off, "{outcome:?}");
    assert!(replay(File::open(file.path()).unwrap(), Some("other")).unwrap().is_empty());
}

/// What the file says the guest's memory held is changed: the device does something else.
#[test]
fn a_changed_recording_is_told_from_the_true_one() {
    let file = Scratch::new();
    record_disk(file.path());
    let mut bytes = file.bytes();
    // The sector of the second request, in the header that the device read.
    let header = RequestHeader { kind: request::IN, sector: 5, ..Default::default() };
    let header = header.as_bytes();
    let at = bytes.windows(16).position(|window| window == header).unwrap();
    bytes[at + 8] = 6;
    let outcomes = replay(&bytes[..], None).unwrap();
    let difference = outcomes[0].difference.clone().unwrap();
    assert!(difference.contains("Submit") && difference.contains("instead of"), "{difference}");
}

#[test]
fn a_card_is_replayed_with_its_frames_and_its_time() {
    for model in Model::ALL {
        let file = Scratch::new();
        record_card(file.path(), model);
        let outcomes = replay(File::open(file.path()).unwrap(), None).unwrap();
        assert_eq!(outcomes[0].difference, None, "{model:?}");
        assert!(outcomes[0].calls > 15, "{model:?}");
    }
}

fn record_card(path: &Path, model: Model) {
    let recorder = Recorder::create(path).unwrap();
    let mac = [2, 0, 0, 0, 0, 1];
    let kind = Kind::E1000 { model: model.device_id(), mac, link: true, intx: false };
    let number = recorder.device(&Description { name: "e1000.0".into(), kind, translated: false });
    let tape = Tape::record(recorder.clone(), number);
    let memory = FlatMemory::new(0, 1 << 20);
    let (clock, net) = (ManualClock::new(Duration::ZERO), NetPipe::new());
    let setup = E1000Config {
        name: "e1000.0".into(),
        model,
        mac,
        link: true,
        dma: Arc::new(TapDma { tape: tape.clone(), real: Some(memory.clone()) }),
        msi: Arc::new(TapMsi { tape: tape.clone(), real: Some(MsiLog::new()) }),
        intx: None,
        clock: Arc::new(TapClock { tape: tape.clone(), real: Some(clock.clone()) }),
        timer: Arc::new(TapTimer { tape: tape.clone(), real: Some(TimerLog::new()) }),
        tracer: Tracer::off(),
    };
    let backend = TapNet { tape: tape.clone(), real: Some(Box::new(net.clone())) };
    let card = E1000::new(setup, Box::new(backend)).unwrap();
    let mut card = Recorded::new(card, tape, memory.clone());
    card.config_access(Access::write(4, 2, 6));
    let set = |card: &mut Recorded<E1000>, register: u32, value: u64| {
        card.bar_access(0, Access::write(register.into(), 4, value));
    };
    set(&mut card, reg::CTRL, u64::from((Ctrl::SLU | Ctrl::FD).bits()));
    clock.advance(Duration::from_millis(10));
    card.timer(&Origin::default());
    for (first, base) in [(reg::RDBAL, 0x1000), (reg::TDBAL, 0x2000)] {
        set(&mut card, first, base);
        set(&mut card, first + 8, 256);
    }
    for index in 0..16u64 {
        let desc = RxDesc { address: 0x1_0000 + 0x1000 * index, ..RxDesc::default() };
        memory.write(0x1000 + 16 * index, desc.as_bytes()).unwrap();
    }
    set(&mut card, reg::RDT, 15);
    set(&mut card, reg::RCTL, u64::from((Rctl::EN | Rctl::BAM).bits()));
    set(&mut card, reg::TCTL, u64::from(Tctl::EN.bits()));
    let command = tx_command::EOP | tx_command::RS | 60;
    let desc = TxDesc { address: 0x8_0000, command, ..TxDesc::default() };
    memory.write(0x2000, desc.as_bytes()).unwrap();
    set(&mut card, reg::TDT, 1);
    assert_eq!(net.take().len(), 1);
    net.feed(Frame::plain(vec![0xFF; 99]));
    card.input_ready(&Origin::default());
    card.run(Call::Link { up: false }, |card| {
        card.set_link(false, &Origin::default());
        false
    });
    for register in [reg::ICR, reg::STATUS, reg::RDH, reg::TDH] {
        card.bar_access(0, Access::read(register.into(), 4));
    }
    assert_eq!(memory.dump(0x1_0000, 2), [0xFF, 0xFF]);
    recorder.finish().unwrap();
}
