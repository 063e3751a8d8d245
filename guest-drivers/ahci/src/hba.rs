//! The HBA: taken over from firmware, reset, its ports brought up; and a block device with a unit for
//! each port.
//!
//! ```text
//! start(): BOHC hand-off -> GHC.HR -> reset_done -> bus mastering -> ports -> GHC.IE -> wait for those
//!          with a drive
//! interrupt: left pending while there is work, so that no other comes; arm() clears causes first at
//!          the port, then in IS (5.6.2), and then looks again for what came in between
//! ```

use alloc::rc::Rc;
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::hw::ahci::{
    ABAR, BOHC, Bohc, CAP, CAP2, Cap, Cap2, GHC, Ghc, IS, MAX_PORTS, PI, PORT_BASE, PORT_SIZE,
    PX_IE, PX_SSTS, cap, link,
};
use xinim_block_service::{BlockDevice, Completion, Request, Unit};
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_kit::{Clock, Dma, Mmio, Region, Segment, wait_until};

use crate::error::HbaError;
use crate::port::{Host, Port, Statistics};

/// GHC.HR reads 0 within this (10.4.3).
const RESET_NS: u64 = 1_000_000_000;
/// Firmware lets go within this; and within that if it says that it is busy (10.6.3).
const HANDOFF_NS: u64 = 25_000_000;
const HANDOFF_BUSY_NS: u64 = 2_000_000_000;
/// How long `start` waits for drives. One that takes longer arrives later, as if plugged in.
const SETTLE_NS: u64 = 10_000_000_000;
/// With staggered spin-up, how long one drive keeps the next from starting.
const SPIN_UP_NS: u64 = 10_000_000_000;
const POLL_NS: u64 = 100_000;

/// An AHCI HBA in use.
pub struct Hba<M, D: Dma, C> {
    registers: Region<M>,
    host: Rc<Host<D, C>>,
    /// By number; ports that are not implemented are missing.
    ports: Vec<Option<Port<M, D, C>>>,
    /// Ports whose drives may not spin up yet, the next one last; and when it may at the latest.
    unspun: Vec<u8>,
    spin_at: u64,
    /// Ports on which nobody waits for a drive.
    empty: u32,
    attention: bool,
}

impl<M: Mmio, D: Dma, C: Clock> Hba<M, D, C> {
    /// Takes over the HBA of `function` from whatever state it is in. On `Ok` it works, and drives
    /// that were quick enough are units.
    pub fn start<F: PciFunction<Mmio = M>>(
        function: &F,
        dma: D,
        clock: C,
    ) -> core::result::Result<Self, HbaError> {
        let block = Rc::new(function.bar(ABAR)?);
        let whole = block.len();
        let region = |at, len| Region::new(Rc::clone(&block), at, len);
        let registers = region(0, PORT_BASE).ok_or(HbaError::Registers)?;
        registers.write32(GHC, (ghc(&registers) | Ghc::AE).bits());
        hand_off(&registers, &clock);
        let empty = empty_ports(&*block);
        reset(&registers, &clock)?;
        function.reset_done()?;
        function.enable(true)?;
        let capabilities = registers.read32(CAP);
        let features = Cap::from_bits_retain(capabilities);
        let implemented = registers.read32(PI);
        let host = Rc::new(Host {
            dma,
            clock,
            slots: cap::slots(capabilities),
            queuing: features.contains(Cap::SNCQ),
            wide: features.contains(Cap::S64A),
            override_busy: features.contains(Cap::SCLO),
        });
        let mut ports: Vec<Option<Port<M, D, C>>> = Vec::new();
        for number in 0..MAX_PORTS {
            let at = PORT_BASE + number * PORT_SIZE;
            let there = implemented & 1 << number != 0 && at + PORT_SIZE <= whole;
            let region = region(at, PORT_SIZE).filter(|_| there);
            ports.push(region.map(|region| Port::new(number as u8, region, Rc::clone(&host))));
        }
        let numbers = (0..MAX_PORTS as u8).rev();
        let unspun = numbers.filter(|&number| ports[usize::from(number)].is_some()).collect();
        let mut hba = Self { registers, host, ports, unspun, spin_at: 0, empty, attention: false };
        let now = hba.now_ns();
        hba.spin_up(now, features.contains(Cap::SSS))?;
        hba.registers.write32(GHC, (ghc(&hba.registers) | Ghc::IE | Ghc::AE).bits());
        hba.settle(now)?;
        Ok(hba)
    }

    /// Starts ports: one, if their drives are to start one after the other, else all.
    fn spin_up(&mut self, now: u64, staggered: bool) -> core::result::Result<(), HbaError> {
        while let Some(number) = self.unspun.pop() {
            if let Some(port) = &mut self.ports[usize::from(number)] {
                port.start(self.empty & 1 << number != 0, now)?;
            }
            if staggered {
                self.spin_at = now.saturating_add(SPIN_UP_NS);
                break;
            }
        }
        Ok(())
    }

    /// Waits until it is known what is at each port, or for [`SETTLE_NS`].
    fn settle(&mut self, since: u64) -> core::result::Result<(), HbaError> {
        let mut none = Vec::new();
        loop {
            let now = self.now_ns();
            self.poll(&mut none)?;
            let settled = !self.ports.iter().flatten().any(Port::is_settling);
            if settled && self.unspun.is_empty() || now.saturating_sub(since) >= SETTLE_NS {
                return Ok(());
            }
            self.host.clock.pause(POLL_NS);
            for port in self.ports.iter_mut().flatten().filter(|port| port.is_settling()) {
                port.hurry();
            }
        }
    }

    fn port(&self, unit: u32) -> Option<&Port<M, D, C>> {
        self.ports.get(unit as usize)?.as_ref()
    }

    /// The counters of a port.
    pub fn statistics(&self, unit: u32) -> Option<Statistics> {
        self.port(unit).map(Port::statistics)
    }

    /// Clears the causes of interrupts. True: some port has to be polled.
    fn gather(&mut self) -> bool {
        let causes = self.registers.read32(IS);
        if causes == 0 {
            return false;
        }
        let mut news = false;
        for (number, port) in self.ports.iter_mut().enumerate() {
            if let Some(port) = port.as_mut().filter(|_| causes & 1 << number != 0) {
                news |= port.gather();
            }
        }
        self.registers.write32(IS, causes);
        news
    }
}

fn ghc(registers: &impl Mmio) -> Ghc {
    Ghc::from_bits_retain(registers.read32(GHC))
}

/// Bits of the ports that somebody had brought up and that have no drive: what a driver finds that was
/// restarted. The reset makes them forget it.
fn empty_ports<M: Mmio>(registers: &M) -> u32 {
    let implemented = registers.read32(PI);
    let empty = |number: &usize| {
        let at = PORT_BASE + number * PORT_SIZE;
        implemented & 1 << number != 0
            && at + PORT_SIZE <= registers.len()
            && registers.read32(at + PX_IE) != 0
            && link::det(registers.read32(at + PX_SSTS)) == link::DET_NONE
    };
    (0..MAX_PORTS).filter(empty).fold(0, |bits, number| bits | 1 << number)
}

/// Takes the HBA from firmware (10.6.3). Firmware that does not let go is overruled: the reset that
/// follows ends what it was doing.
fn hand_off(registers: &impl Mmio, clock: &impl Clock) {
    if !Cap2::from_bits_retain(registers.read32(CAP2)).contains(Cap2::BOH) {
        return;
    }
    let read = || Bohc::from_bits_retain(registers.read32(BOHC));
    registers.write32(BOHC, (read() | Bohc::OOS).bits());
    if !wait_until(clock, HANDOFF_NS, || !read().contains(Bohc::BOS)) && read().contains(Bohc::BB) {
        wait_until(clock, HANDOFF_BUSY_NS, || !read().intersects(Bohc::BOS | Bohc::BB));
    }
}

fn reset(registers: &impl Mmio, clock: &impl Clock) -> core::result::Result<(), HbaError> {
    registers.write32(GHC, (Ghc::AE | Ghc::HR).bits());
    if !wait_until(clock, RESET_NS, || !ghc(registers).contains(Ghc::HR)) {
        return Err(HbaError::ResetTimedOut);
    }
    registers.write32(GHC, Ghc::AE.bits());
    if !ghc(registers).contains(Ghc::AE) {
        return Err(HbaError::NotAhci);
    }
    Ok(())
}

impl<M: Mmio, D: Dma, C: Clock> BlockDevice for Hba<M, D, C> {
    type Error = HbaError;

    fn unit(&self, unit: u32) -> Option<&Unit> {
        self.port(unit)?.unit()
    }

    fn instance(&self, unit: u32) -> u32 {
        self.port(unit).map_or(0, Port::instance)
    }

    fn generation(&self) -> u64 {
        1 + self.ports.iter().flatten().map(Port::changes).sum::<u64>()
    }

    fn submit(
        &mut self,
        unit: u32,
        request: &Request,
        data: &[Segment],
        cookie: u64,
    ) -> Result<()> {
        let port = self.ports.get_mut(unit as usize).and_then(Option::as_mut);
        port.ok_or(Error::NxIo)?.submit(request, data, cookie)
    }

    fn kick(&mut self) {
        self.ports.iter_mut().flatten().for_each(Port::kick);
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> core::result::Result<(), HbaError> {
        if core::mem::take(&mut self.attention) {
            self.gather();
        }
        let now = self.now_ns();
        for port in self.ports.iter_mut().flatten() {
            port.poll(now, done)?;
        }
        if !self.unspun.is_empty() {
            let spinning = self.ports.iter().flatten().any(Port::is_settling);
            if !spinning || now >= self.spin_at {
                self.spin_up(now, true)?;
            }
        }
        Ok(())
    }

    fn has_completions(&self) -> bool {
        self.attention || self.ports.iter().flatten().any(Port::has_news)
    }

    fn arm(&mut self) -> bool {
        let news = self.gather();
        news || self.has_completions()
    }

    /// Nothing to do: while a cause is pending no further interrupt comes.
    fn disarm(&mut self) {}

    fn attend(&mut self) {
        self.attention = true;
    }

    fn wake_at(&self) -> Option<u64> {
        let spin = (!self.unspun.is_empty()).then_some(self.spin_at);
        self.ports.iter().flatten().filter_map(Port::look_at).chain(spin).min()
    }

    fn in_flight(&self) -> usize {
        self.ports.iter().flatten().map(Port::in_flight).sum()
    }

    fn now_ns(&self) -> u64 {
        self.host.clock.now_ns()
    }

    fn stop(&mut self) -> core::result::Result<(), HbaError> {
        self.registers.write32(GHC, (ghc(&self.registers) - Ghc::IE).bits());
        for port in self.ports.iter_mut().flatten() {
            port.stop()?;
        }
        Ok(())
    }
}
