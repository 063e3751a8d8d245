//! Behaviour of the card as a driver and the network see it.

mod control;
mod receive;
mod transmit;

use super::*;
use crate::device::Access;
use crate::testing::net::{NetPipe, TimerLog};
use crate::testing::{FlatMemory, IrqLog, ManualClock, MsiLog};
use std::time::Duration;
use xinim_abi::hw::e1000::descriptor::{RxDesc, TxDesc, tx_command};
use xinim_abi::hw::e1000::{Rctl, RxCsum, Tctl};
use zerocopy::{FromBytes, IntoBytes};

const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
const OTHER: [u8; 6] = [2, 2, 2, 2, 2, 2];
const RX_RING: u64 = 0x1000;
const TX_RING: u64 = 0x2000;
const RX_DATA: u64 = 0x1_0000;
const TX_DATA: u64 = 0x8_0000;
const ENTRIES: u32 = 16;
const MEMORY: usize = 1 << 20;

struct Rig {
    card: E1000,
    net: NetPipe,
    memory: Arc<FlatMemory>,
    clock: Arc<ManualClock>,
    timer: Arc<TimerLog>,
    line: Arc<IrqLog>,
    msi: Arc<MsiLog>,
    tail: u32,
    head: u32,
}

impl Rig {
    /// As after power-on, with bus mastering on.
    fn cold(model: Model, net: NetPipe) -> Self {
        let memory = FlatMemory::new(0, MEMORY);
        let (clock, timer) = (ManualClock::new(Duration::ZERO), TimerLog::new());
        let (line, msi) = (IrqLog::new(), MsiLog::new());
        let setup = E1000Config {
            name: "e1000.0".into(),
            model,
            mac: MAC,
            link: true,
            dma: memory.clone(),
            msi: msi.clone(),
            intx: Some(line.clone()),
            clock: clock.clone(),
            timer: timer.clone(),
            tracer: Tracer::off(),
        };
        let mut card = E1000::new(setup, Box::new(net.clone())).expect("capabilities fit");
        let command = Command::MEMORY_SPACE | Command::BUS_MASTER;
        card.config_access(Access::write(hw::COMMAND as u64, 2, u64::from(command.bits())));
        Self { card, net, memory, clock, timer, line, msi, tail: 0, head: 0 }
    }

    /// Link up, rings of 16, receiver and transmitter on, all causes enabled, ICR empty.
    fn new(model: Model) -> Self {
        Self::with_net(model, NetPipe::new())
    }

    fn with_net(model: Model, net: NetPipe) -> Self {
        let mut rig = Self::cold(model, net);
        rig.start();
        rig
    }

    fn start(&mut self) {
        self.write(reg::CTRL, (Ctrl::SLU | Ctrl::FD).bits());
        self.pass(AUTONEG_TIME);
        for (low, ring) in [(reg::RDBAL, RX_RING), (reg::TDBAL, TX_RING)] {
            self.write(low, ring as u32);
            self.write(low + 8, ENTRIES * 16);
        }
        for index in 0..ENTRIES {
            self.give_buffer(index);
        }
        self.write(reg::RDT, ENTRIES - 1);
        self.write(reg::TCTL, (Tctl::EN | Tctl::PSP).bits());
        self.write(reg::RCTL, (Rctl::EN | Rctl::BAM | Rctl::SECRC).bits());
        self.write(reg::IMS, 0x01FF_FFFF);
        self.read(reg::ICR);
        (self.head, self.tail) = (0, 0);
    }

    fn give_buffer(&self, index: u32) {
        let desc = RxDesc { address: RX_DATA + u64::from(index) * 0x1000, ..RxDesc::default() };
        self.poke(RX_RING + u64::from(index) * 16, desc.as_bytes());
    }

    fn poke(&self, at: u64, data: &[u8]) {
        assert_eq!(self.memory.write(at, data), Ok(()));
    }

    fn read(&mut self, offset: u32) -> u32 {
        let outcome = self.card.bar_access(REGISTER_BAR, Access::read(offset.into(), 4));
        assert_eq!(outcome.error, None, "read of {offset:#x}");
        outcome.value as u32
    }

    fn write(&mut self, offset: u32, value: u32) {
        let access = Access::write(offset.into(), 4, value.into());
        let outcome = self.card.bar_access(REGISTER_BAR, access);
        assert_eq!(outcome.error, None, "write of {offset:#x}");
    }

    fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        let now = self.clock.monotonic();
        while self.timer.fire(now) {
            self.card.timer(&Origin::default());
        }
    }

    fn feed(&mut self, data: &[u8]) {
        self.net.feed(crate::net::Frame::plain(data.to_vec()));
        while self.card.input_ready(&Origin::default()) {}
    }

    /// The descriptor the driver looks at next, if it is done.
    fn received(&mut self) -> Option<(RxDesc, Vec<u8>)> {
        let place = RX_RING + u64::from(self.head) * 16;
        let desc = RxDesc::read_from_bytes(&self.memory.dump(place, 16)).unwrap();
        if desc.status & 1 == 0 {
            return None;
        }
        let data = self.memory.dump(desc.address, desc.length.into());
        self.give_buffer(self.head);
        self.write(reg::RDT, self.head);
        self.head = (self.head + 1) % ENTRIES;
        Some((desc, data))
    }

    fn put(&mut self, desc: &[u8]) -> u32 {
        let index = self.tail;
        self.poke(TX_RING + u64::from(index) * 16, desc);
        self.tail = (self.tail + 1) % ENTRIES;
        index
    }

    fn go(&mut self) {
        let tail = self.tail;
        self.write(reg::TDT, tail);
    }

    /// Sends one frame by a legacy descriptor; returns its index.
    fn send(&mut self, data: &[u8], command: u32) -> u32 {
        self.poke(TX_DATA, data);
        let command = data.len() as u32 | tx_command::EOP | tx_command::IFCS | command;
        let desc = TxDesc { address: TX_DATA, command, ..TxDesc::default() };
        let index = self.put(desc.as_bytes());
        self.go();
        index
    }

    fn is_done(&self, index: u32) -> bool {
        self.memory.dump(TX_RING + u64::from(index) * 16 + 12, 1) == [1]
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        self.net.take().into_iter().map(|frame| frame.data).collect()
    }
}

/// A frame of `len` bytes to `to`.
fn frame(to: [u8; 6], len: usize) -> Vec<u8> {
    let mut data = [to, OTHER].concat();
    data.extend([0x88, 0xB5]);
    data.extend((0..len.saturating_sub(14)).map(|i| i as u8));
    data
}
