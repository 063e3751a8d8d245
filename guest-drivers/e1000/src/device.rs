//! The device from reset to reset.
//!
//! ```text
//!   start(): reset, address from the EEPROM, rings, receiver and transmitter on
//!   live --send(), give(), kick()--> in flight --poll()--> events
//!     ^                                 | a frame is not sent in time though the link is up
//!     `---- recover(), in poll ---------'
//! ```
//! Interrupts are never masked by the driver: the device's throttle (ITR) bounds their rate, and reading
//! ICR acknowledges them. In MSI-X mode all causes go to vector 0 and clear themselves (EIAC); a cause
//! that does so masks itself, too (82574 7.4.3), and is opened again before each wait.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use xinim_abi::error::{Error, Result};
use xinim_abi::hw::e1000::{
    Cause, Ctrl, CtrlExt, ITR_UNIT_NS, Model, RAH_AV, RECEIVE_ADDRESSES, REGISTER_BAR, RING_ALIGN,
    Rctl, RxCsum, Status, TABLE_WORDS, Tctl, descriptor, ivar, phy, reg,
};
use xinim_abi::services::link::{TX_ENTRIES, Transmit, info};
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_kit::{Carver, Clock, Dma, Mmio, Segment, trace, wait_until};
use xinim_link_service::{Events, Filter, LinkDevice, LinkInfo, Peek};

use crate::access;
use crate::rx::{self, RxRing};
use crate::tx::{self, TxRing};

/// CTRL.RST clears itself within microseconds.
const RESET_TIMEOUT_NS: u64 = 100_000_000;
/// Nothing may be touched for so long after it was set (8254x 14.3).
const RESET_PAUSE_NS: u64 = 1_000_000;
/// A frame that is not sent after this time is stuck.
const TIMEOUT_NS: u64 = 5_000_000_000;
/// Least time between interrupts: 20000 a second.
const THROTTLE_NS: u64 = 50_000;
/// TIPG for copper (8254x 13.4.34).
const TIPG: u32 = 10 | 8 << 10 | 6 << 20;
/// TCTL: collision threshold and distance, as 8254x 14.5 advises.
const COLLISIONS: u32 = 0x0F << 4 | 0x40 << 12;

/// Flow control (8254x 13.4.5): how long a pause lasts, in 512 bit times; what is left of the packet
/// buffer when it is asked for; and that its end is told, too (FCRTL.XONE).
const PAUSE_TIME: u32 = 0x0680;
const PAUSE_ROOM: u32 = 4096;
const XONE: u32 = 1 << 31;

/// Why the device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    ResetTimedOut,
    /// It reads as ones: it is gone.
    Gone,
    /// Its register BAR is too small.
    Registers,
    /// The system refused: memory, BAR.
    System(Error),
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::System(error)
    }
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::ResetTimedOut => write!(f, "reset timed out"),
            Self::Gone => write!(f, "the device is gone"),
            Self::Registers => write!(f, "too few registers"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StartError {}

/// Counters the device clears when they are read, summed up (8254x 13.7).
const COUNTERS: [(&str, u32); 14] = [
    ("rx_good_packets", reg::GPRC),
    ("rx_good_bytes_low", reg::GORCL),
    ("rx_broadcasts", reg::BPRC),
    ("rx_multicasts", reg::MPRC),
    ("rx_missed", reg::MPC),
    ("rx_no_buffer", reg::RNBC),
    ("rx_crc_errors", reg::CRCERRS),
    ("rx_length_errors", reg::RLEC),
    ("rx_oversize", reg::ROC),
    ("tx_good_packets", reg::GPTC),
    ("tx_good_bytes_low", reg::GOTCL),
    ("tx_tso_contexts", reg::TSCTC),
    ("xoff_received", reg::XOFFRXC),
    ("xoff_sent", reg::XOFFTXC),
];

pub struct Nic<M, D: Dma, C> {
    registers: M,
    clock: C,
    model: Model,
    rx: RxRing<D::Buffer>,
    tx: TxRing<D::Buffer>,
    mac: [u8; 6],
    mac_made_up: bool,
    link_up: bool,
    speed: u32,
    full_duplex: bool,
    filter: Filter,
    /// RCTL and TCTL as they were written last; `None` after a reset.
    switched: Option<(u32, u32)>,
    /// The table of multicast addresses as it was written last; `None` after a reset, which need not
    /// clear it. It costs 128 writes: none as long as all are let in.
    table: Option<Box<[u32; TABLE_WORDS]>>,
    up: bool,
    /// MSI-X is on: causes go by IVAR.
    msix: bool,
    /// TXDW is among the causes that interrupt.
    sent_armed: bool,
    /// An interrupt came that may have masked its cause.
    reopen: bool,
    attention: bool,
    watch: Option<u64>,
    totals: [u64; COUNTERS.len()],
    recoveries: u64,
    link_changes: u64,
}

impl<M: Mmio, D: Dma, C: Clock> Nic<M, D, C> {
    /// Takes over the device of `function` from whatever state it is in. `made_up`: an address in
    /// case its EEPROM has none. `msix`: its interrupts were routed by MSI-X.
    pub fn start<F: PciFunction<Mmio = M>>(
        function: &F,
        dma: &D,
        clock: C,
        model: Model,
        msix: bool,
        made_up: [u8; 6],
    ) -> core::result::Result<Self, StartError> {
        let registers = function.bar(REGISTER_BAR)?;
        if registers.len() < (reg::FFVT + 0x400) as usize {
            return Err(StartError::Registers);
        }
        reset(&registers, &clock, model)?;
        function.reset_done()?;
        function.enable(true)?;
        let loaded = loaded_mac(&registers);
        let (mac, mac_made_up) = match access::nvm_mac(&registers, &clock, model, loaded).or(loaded)
        {
            Some(mac) => (mac, false),
            None => (made_up, true),
        };
        let rx_bytes = rx::ENTRIES as usize * descriptor::SIZE;
        let tx_bytes = tx::ENTRIES as usize * descriptor::SIZE;
        let area_bytes = TX_ENTRIES as usize * tx::AREA;
        let mut carver = Carver::new(dma, rx_bytes + tx_bytes + area_bytes)?;
        let align = RING_ALIGN as usize;
        let rx = RxRing::new(carver.take(rx_bytes, align)?);
        let tx = TxRing::new(carver.take(tx_bytes, align)?, carver.take(area_bytes, align)?);
        let mut nic = Self {
            registers,
            clock,
            model,
            rx,
            tx,
            mac,
            mac_made_up,
            link_up: false,
            speed: 0,
            full_duplex: true,
            // Until somebody says which are wanted.
            filter: Filter { all_multicast: true, ..Filter::default() },
            switched: None,
            table: None,
            up: true,
            msix,
            sent_armed: false,
            reopen: false,
            attention: false,
            watch: None,
            totals: [0; COUNTERS.len()],
            recoveries: 0,
            link_changes: 0,
        };
        nic.wake_phy();
        nic.enable();
        Ok(nic)
    }

    fn read(&self, register: u32) -> u32 {
        self.registers.read32(register as usize)
    }

    fn write(&self, register: u32, value: u32) {
        self.registers.write32(register as usize, value);
    }

    /// A PHY that firmware or a predecessor put to sleep negotiates again; others are left alone, so
    /// that a restarted driver finds its link up.
    fn wake_phy(&self) {
        let Some(control) = access::phy_read(&self.registers, &self.clock, phy::CONTROL) else {
            return;
        };
        let asleep = control & (phy::control::POWER_DOWN | phy::control::ISOLATE) != 0;
        if asleep || control & phy::control::AUTONEG == 0 {
            let value = phy::control::AUTONEG | phy::control::RESTART_AUTONEG;
            // Without an answer the link stays as it is, which STATUS tells.
            let _ = access::phy_write(&self.registers, &self.clock, phy::CONTROL, value);
        }
    }

    /// From reset to work: addresses, rings, link, interrupts.
    fn enable(&mut self) {
        let [a, b, c, d, e, f] = self.mac;
        self.write(reg::RAL, u32::from_le_bytes([a, b, c, d]));
        self.write(reg::RAH, u32::from_le_bytes([e, f, 0, 0]) | RAH_AV);
        for at in 1..RECEIVE_ADDRESSES as u32 {
            self.write(reg::RAH + 8 * at, 0);
        }
        let control = Ctrl::from_bits_retain(self.read(reg::CTRL));
        let off = Ctrl::LRST | Ctrl::PHY_RST | Ctrl::ILOS | Ctrl::FORCE_SPEED | Ctrl::FORCE_DUPLEX;
        // A partner that does not know pauses ignores them.
        let on = Ctrl::SLU | Ctrl::ASDE | Ctrl::TFCE | Ctrl::RFCE;
        self.write(reg::CTRL, ((control - off) | on).bits());
        let buffer = (self.read(reg::PBA) & 0xFFFF) << 10;
        self.write(reg::FCTTV, PAUSE_TIME);
        self.write(reg::FCRTL, (buffer / 2) | XONE);
        self.write(reg::FCRTH, buffer.saturating_sub(PAUSE_ROOM));

        let rx = self.rx.ring.address();
        self.write(reg::RDBAL, rx as u32);
        self.write(reg::RDBAH, (rx >> 32) as u32);
        self.write(reg::RDLEN, rx::ENTRIES * descriptor::SIZE as u32);
        self.write(reg::RDH, 0);
        self.write(reg::RDT, 0);
        self.write(reg::RDTR, 0);
        self.write(reg::RXCSUM, (RxCsum::IPOFL | RxCsum::TUOFL).bits());

        let tx = self.tx.ring.address();
        self.write(reg::TDBAL, tx as u32);
        self.write(reg::TDBAH, (tx >> 32) as u32);
        self.write(reg::TDLEN, tx::ENTRIES * descriptor::SIZE as u32);
        self.write(reg::TDH, 0);
        self.write(reg::TDT, 0);
        self.write(reg::TIPG, TIPG);

        self.write(reg::ITR, (THROTTLE_NS / ITR_UNIT_NS) as u32);
        if self.msix {
            let all = ivar::VALID << ivar::RXQ0_SHIFT
                | ivar::VALID << ivar::TXQ0_SHIFT
                | ivar::VALID << ivar::OTHER_SHIFT;
            self.write(reg::IVAR, all);
            let own = Cause::RXQ0 | Cause::TXQ0 | Cause::OTHER;
            self.write(reg::EIAC, own.bits());
            let extended = CtrlExt::from_bits_retain(self.read(reg::CTRL_EXT));
            self.write(reg::CTRL_EXT, (extended | CtrlExt::PBA_SUPPORT).bits());
        }
        (self.switched, self.table) = (None, None);
        self.switch();
        self.sent_armed = false;
        self.write(reg::IMS, self.causes().bits());
        self.read_link();
    }

    /// Causes that always interrupt.
    fn causes(&self) -> Cause {
        let frames = Cause::RXT0 | Cause::RXO | Cause::RXDMT0 | Cause::LSC;
        if self.msix { frames | Cause::RXQ0 | Cause::OTHER } else { frames }
    }

    /// Causes of frames that went out.
    fn sent_causes(&self) -> Cause {
        if self.msix { Cause::TXDW | Cause::TXQ0 } else { Cause::TXDW }
    }

    /// Receiver and transmitter on or off, with the filters wanted. Only what changes is written: each
    /// register costs an exit.
    fn switch(&mut self) {
        let (mut receive, mut send) = (Rctl::empty(), Tctl::PSP.bits());
        if self.up {
            receive = Rctl::EN | Rctl::BAM | Rctl::SECRC;
            receive.set(Rctl::UPE, self.filter.promiscuous);
            receive.set(Rctl::MPE, self.filter.promiscuous || self.filter.all_multicast);
            send |= Tctl::EN.bits() | COLLISIONS;
            if self.model.is_82574() {
                send |= (Tctl::RTLC | Tctl::MULR).bits();
            }
            if !receive.contains(Rctl::MPE) {
                self.apply_multicast();
            }
        }
        let (old_receive, old_send) = self.switched.unzip();
        if old_receive != Some(receive.bits()) {
            self.write(reg::RCTL, receive.bits());
        }
        if old_send != Some(send) {
            self.write(reg::TCTL, send);
        }
        self.switched = Some((receive.bits(), send));
    }

    /// The table of multicast addresses by the upper twelve bits (8254x 13.5.1, MO = 0).
    fn apply_multicast(&mut self) {
        let mut table = [0u32; TABLE_WORDS];
        for mac in &self.filter.multicast {
            let index = usize::from(mac[4] >> 4) | usize::from(mac[5]) << 4;
            table[index >> 5] |= 1 << (index & 31);
        }
        for (at, word) in table.iter().enumerate() {
            if self.table.as_ref().is_none_or(|old| old[at] != *word) {
                self.write(reg::MTA + 4 * at as u32, *word);
            }
        }
        self.table = Some(Box::new(table));
    }

    fn read_link(&mut self) {
        let status = Status::from_bits_retain(self.read(reg::STATUS));
        let up = status.contains(Status::LU);
        self.link_changes += u64::from(up != self.link_up);
        self.link_up = up;
        self.full_duplex = status.contains(Status::FD);
        self.speed = if status.intersects(Status::SPEED_1000) {
            1000
        } else if status.intersects(Status::SPEED_100) {
            100
        } else {
            10
        };
    }

    /// What an interrupt may mean beside frames, and what no interrupt says.
    fn examine(&mut self) -> core::result::Result<bool, StartError> {
        let causes = self.read(reg::ICR);
        if causes == u32::MAX && self.read(reg::STATUS) == u32::MAX {
            return Err(StartError::Gone);
        }
        let causes = Cause::from_bits_retain(causes);
        if causes.contains(Cause::LSC) {
            self.read_link();
        }
        // With messages, reading ICR does not always forget these (QEMU's 82574L keeps them), and each that
        // is still there raises OTHER again.
        if self.msix && causes.intersects(Cause::OTHERS) {
            self.write(reg::ICR, (causes & Cause::OTHERS).bits());
        }
        self.reopen = self.msix;
        self.watch = self.tx.oldest().map(|since| since.saturating_add(TIMEOUT_NS));
        Ok(self.watch.is_some_and(|at| self.clock.now_ns() >= at))
    }

    fn restart(&mut self) -> core::result::Result<(), StartError> {
        reset(&self.registers, &self.clock, self.model)?;
        self.rx.clear();
        self.tx.clear();
        self.enable();
        Ok(())
    }

    /// A stuck transmitter: everything again. Frames that wait for a link that is down are given
    /// up, as they would be lost on a wire that is not there.
    fn recover(&mut self, events: &mut Events) -> core::result::Result<(), StartError> {
        self.recoveries += 1;
        let was_up = self.link_up;
        self.restart()?;
        self.rx.again();
        if was_up {
            let now = self.clock.now_ns();
            self.tx.again(now);
        } else {
            self.tx.give_up(events);
        }
        self.watch = None;
        self.kick();
        Ok(())
    }

    pub fn recoveries(&self) -> u64 {
        self.recoveries
    }
}

/// Stops the device and resets it: all registers at their defaults, no DMA (8254x 14.3, 82574 4.6).
fn reset<M: Mmio>(
    registers: &M,
    clock: &impl Clock,
    model: Model,
) -> core::result::Result<(), StartError> {
    let read = |register: u32| registers.read32(register as usize);
    let write = |register: u32, value: u32| registers.write32(register as usize, value);
    if read(reg::STATUS) == u32::MAX {
        return Err(StartError::Gone);
    }
    write(reg::IMC, u32::MAX);
    write(reg::RCTL, 0);
    write(reg::TCTL, Tctl::PSP.bits());
    let control = Ctrl::from_bits_retain(read(reg::CTRL));
    if model.is_82574() {
        write(reg::CTRL, (control | Ctrl::GIO_MASTER_DISABLE).bits());
        // What is still going on after that ends with the reset.
        let _ = wait_until(clock, RESET_TIMEOUT_NS, || {
            !Status::from_bits_retain(read(reg::STATUS)).contains(Status::GIO_MASTER_ENABLE)
        });
    }
    write(reg::CTRL, (control | Ctrl::RST).bits());
    clock.delay(RESET_PAUSE_NS);
    let done = wait_until(clock, RESET_TIMEOUT_NS, || {
        !Ctrl::from_bits_retain(read(reg::CTRL)).contains(Ctrl::RST)
    });
    if !done {
        return Err(StartError::ResetTimedOut);
    }
    // A reset opens interrupts again on some; reading ICR forgets what was pending.
    write(reg::IMC, u32::MAX);
    read(reg::ICR);
    Ok(())
}

/// The address the device loaded by itself, where its EEPROM could not be read.
fn loaded_mac<M: Mmio>(registers: &M) -> Option<[u8; 6]> {
    let low = registers.read32(reg::RAL as usize).to_le_bytes();
    let high = registers.read32(reg::RAH as usize);
    let [e, f, ..] = high.to_le_bytes();
    let mac = [low[0], low[1], low[2], low[3], e, f];
    (high & RAH_AV != 0 && access::is_station(mac)).then_some(mac)
}

impl<M: Mmio, D: Dma, C: Clock> LinkDevice for Nic<M, D, C> {
    type Error = StartError;

    fn info(&self) -> LinkInfo {
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        LinkInfo {
            mac: self.mac,
            flags: info::TX_CHECKSUM
                | info::RX_CHECKSUM
                | info::TSO4
                | info::TSO6
                | flag(self.link_up && self.up, info::LINK_UP)
                | flag(self.full_duplex, info::FULL_DUPLEX)
                | flag(self.mac_made_up, info::MAC_MADE_UP),
            mtu: 1500,
            queues: 1,
            speed: self.speed,
        }
    }

    fn send(
        &mut self,
        memory: &dyn Peek,
        data: &[Segment],
        how: &Transmit,
        cookie: u32,
    ) -> Result<()> {
        let now = self.clock.now_ns();
        let last = self.tx.send(memory, data, how, cookie, now)?;
        trace::issued(cookie.into(), 0, last as u16);
        if self.watch.is_none() {
            self.watch = Some(now.saturating_add(TIMEOUT_NS));
        }
        Ok(())
    }

    fn give(&mut self, buffer: Segment, cookie: u32) -> Result<()> {
        self.rx.give(buffer, cookie)
    }

    fn kick(&mut self) {
        if let Some(tail) = self.rx.ring.publish() {
            self.write(reg::RDT, tail);
        }
        if let Some(tail) = self.tx.ring.publish() {
            self.write(reg::TDT, tail);
        }
    }

    fn poll(
        &mut self,
        _memory: &dyn Peek,
        events: &mut Events,
    ) -> core::result::Result<(), StartError> {
        let attention = core::mem::take(&mut self.attention);
        let stuck = attention && self.examine()?;
        self.rx.poll(events);
        self.tx.poll(events);
        if stuck && self.tx.oldest().is_some_and(|at| self.clock.now_ns() >= at + TIMEOUT_NS) {
            self.recover(events)?;
        }
        Ok(())
    }

    fn arm(&mut self, sent: bool) -> bool {
        if sent != self.sent_armed {
            self.sent_armed = sent;
            let causes = self.sent_causes().bits();
            self.write(if sent { reg::IMS } else { reg::IMC }, causes);
        }
        if core::mem::take(&mut self.reopen) {
            let sent = if sent { self.sent_causes() } else { Cause::empty() };
            self.write(reg::IMS, (self.causes() | sent).bits());
        }
        self.attention || self.rx.has_done() || (sent && self.tx.has_done())
    }

    fn disarm(&mut self) {}

    fn attend(&mut self) {
        self.attention = true;
    }

    fn wake_at(&self) -> Option<u64> {
        self.watch
    }

    fn forget_all(&mut self) -> core::result::Result<(), StartError> {
        self.rx.forget();
        self.tx.forget();
        self.watch = None;
        self.restart()
    }

    fn set_filter(&mut self, filter: &Filter) -> Result<()> {
        self.filter = filter.clone();
        self.switch();
        Ok(())
    }

    fn set_up(&mut self, up: bool) -> Result<()> {
        self.up = up;
        self.switch();
        Ok(())
    }

    fn statistics(&mut self) -> String {
        let mut text = format!(
            "recoveries {}\nlink_changes {}\nrx_bad_descriptors {}\n",
            self.recoveries, self.link_changes, self.rx.bad
        );
        for (at, (name, register)) in COUNTERS.into_iter().enumerate() {
            self.totals[at] += u64::from(self.read(register));
            text.push_str(&format!("{name} {}\n", self.totals[at]));
        }
        text
    }

    fn stop(&mut self) -> core::result::Result<(), StartError> {
        reset(&self.registers, &self.clock, self.model)
    }
}
