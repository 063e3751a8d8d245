//! Network cards of the machine, their timers, and announcements to the network.
//!
//! Timers of cards follow the clock that the test moves; announcements (`announce-self`) follow real
//! time, as on QEMU: RARP packets at growing distances, sent for every card by the machine itself.

use super::{Machine, PCI_IRQ, messages, wrong};
use crate::Error;
use crate::args::Properties;
use crate::net::Net;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use xinim_abi::hw::e1000::Model;
use xinim_abi::hw::pci::Bdf;
use xinim_devices::backend::Clock;
use xinim_devices::bus::lock;
use xinim_devices::e1000::{AUTONEG_TIME, E1000, E1000Config};
use xinim_devices::net::{ETHERNET_HEADER, Frame, MIN_FRAME, NetBackend, NetDevice, Timer};
use xinim_devices::trace::Tracer;
use xinim_devices::virtio::{self, NetConfig, VirtioPci};

/// The first card's address, as QEMU's; the next ones count on.
const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
const TYPE_RARP: [u8; 2] = [0x80, 0x35];

/// When a card wants to be called.
#[derive(Debug, Default)]
struct Alarm(Mutex<Option<Duration>>);

impl Timer for Alarm {
    fn arm(&self, at: Option<Duration>) {
        *lock(&self.0) = at;
    }
}

/// A network card.
pub(super) struct Card {
    pub(super) place: Bdf,
    mac: [u8; 6],
    device: Arc<Mutex<dyn NetDevice>>,
    net: Net,
    alarm: Arc<Alarm>,
}

/// An `announce-self` that goes on.
pub(super) struct Announcement {
    id: String,
    timing: Timing,
    done: u64,
    next: Instant,
}

/// When announcements come, times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub initial: u64,
    pub max: u64,
    pub rounds: u64,
    pub step: u64,
}

impl Timing {
    /// Time from round `done - 1` to the next.
    fn pause(&self, done: u64) -> Duration {
        let grown = done.saturating_sub(1).saturating_mul(self.step).saturating_add(self.initial);
        Duration::from_millis(grown.min(self.max))
    }
}

/// "Who has the address of `mac`?" (RFC 903), which tells switches where it is.
fn rarp(mac: [u8; 6]) -> Vec<u8> {
    let mut frame = vec![0xFF; 6];
    frame.extend(mac);
    frame.extend(TYPE_RARP);
    // Ethernet, IPv4, lengths of their addresses, request reverse.
    frame.extend([0, 1, 0x08, 0x00, 6, 4, 0, 3]);
    for _ in 0..2 {
        frame.extend(mac);
        frame.extend([0; 4]);
    }
    frame.resize(MIN_FRAME, 0);
    frame
}

impl Machine {
    /// The network, address and alarm of a new card.
    fn card_parts(&self, device: &Properties) -> Result<(Net, [u8; 6], Arc<Alarm>), Error> {
        let net = match device.get("netdev") {
            None => Net::nowhere(),
            Some(id) => match self.nets.get(id) {
                Some(net) => net.clone(),
                None => return wrong(format!("device {}: there is no netdev {id}", device.head)),
            },
        };
        let mut mac = MAC;
        mac[5] = mac[5].wrapping_add(self.cards.len() as u8);
        if let Some(text) = device.get("mac") {
            let bytes: Option<Vec<u8>> =
                text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
            match bytes.and_then(|bytes| bytes.try_into().ok()) {
                Some(given) => mac = given,
                None => return wrong(format!("device {}: {text} is no address", device.head)),
            }
        }
        Ok((net, mac, Arc::default()))
    }

    pub(super) fn add_e1000(&mut self, device: &Properties) -> Result<(), Error> {
        let (mut net, mac, alarm) = self.card_parts(device)?;
        // As on a wire.
        net.shortest = MIN_FRAME;
        let config = E1000Config {
            name: device.head.clone(),
            model: match device.head.as_str() {
                "e1000e" => Model::I82574l,
                "e1000-82545em" => Model::I82545em,
                _ => Model::I82540em,
            },
            mac,
            link: true,
            dma: self.memory.clone(),
            msi: messages(&self.memory),
            intx: Some(self.wire(PCI_IRQ)),
            clock: self.clock.clone(),
            timer: alarm.clone(),
            tracer: Tracer::off(),
        };
        let failed = |error| Error::Arguments(format!("device {}: {error:?}", device.head));
        let card = E1000::new(config, Box::new(net.clone())).map_err(failed)?.in_qemu_dialect();
        let card = Arc::new(Mutex::new(card));
        let place = self.plug(device, card.clone())?;
        self.cards.push(Card { place, mac, device: card, net, alarm });
        Ok(())
    }

    pub(super) fn add_virtio_card(&mut self, device: &Properties) -> Result<(), Error> {
        let (mut net, mac, alarm) = self.card_parts(device)?;
        // The tests send what is not even an Ethernet header; nothing shorter comes to a device.
        net.shortest = ETHERNET_HEADER;
        // One pair unless asked, and everything received, as QEMU's.
        let setup = NetConfig { mac, pairs: 1, promiscuous: true, ..NetConfig::default() };
        let config = self.virtio_config("virtio-net", device);
        let failed = |error| Error::Arguments(format!("device {}: {error:?}", device.head));
        let card = virtio::Net::new(Box::new(net.clone()), setup);
        let card = Arc::new(Mutex::new(VirtioPci::new(card, config).map_err(failed)?));
        let place = self.plug(device, card.clone())?;
        self.cards.push(Card { place, mac, device: card, net, alarm });
        Ok(())
    }

    /// Lets the cards' links come up.
    pub(super) fn wait_for_links(&mut self) {
        if !self.cards.is_empty() {
            self.step_clock(AUTONEG_TIME);
        }
    }

    /// What is to be watched for the cards, edge-triggered.
    pub fn networks(&self) -> impl Iterator<Item = Arc<OwnedFd>> {
        self.nets.values().filter_map(|net| net.watch.clone())
    }

    /// Networks may have frames, or take some again.
    pub fn serve_cards(&mut self) {
        if self.stopped {
            return;
        }
        let origin = self.origin();
        for card in &self.cards {
            while lock(&card.device).input_ready(&origin) {}
            while lock(&card.device).output_ready(&origin) {}
        }
    }

    /// How long until the next timer of a card.
    pub fn next_timer(&self) -> Option<Duration> {
        let now = self.clock.monotonic();
        let alarms = self.cards.iter().filter_map(|card| *lock(&card.alarm.0));
        Some(alarms.min()?.saturating_sub(now))
    }

    /// Moves the clock, with what is due on the way; nanoseconds since the start.
    pub fn step_clock(&mut self, by: Duration) -> u64 {
        let end = self.clock.monotonic() + by;
        loop {
            let alarm = |card: &&Card| lock(&card.alarm.0).filter(|at| *at <= end);
            let due = self.cards.iter().filter_map(|card| Some((alarm(&card)?, card)));
            let Some((at, card)) = due.min_by_key(|(at, _)| *at) else { break };
            self.clock.advance(at.saturating_sub(self.clock.monotonic()));
            card.alarm.arm(None);
            while lock(&card.device).timer(&self.origin()) {}
        }
        self.clock.advance(end.saturating_sub(self.clock.monotonic()));
        self.clock.monotonic().as_nanos() as u64
    }

    /// Begins, changes or (with no rounds) ends an announcement.
    pub fn announce(&mut self, id: &str, timing: Timing) {
        self.announcements.retain(|running| running.id != id);
        if timing.rounds > 0 {
            let (id, next) = (id.to_owned(), Instant::now());
            self.announcements.push(Announcement { id, timing, done: 0, next });
            self.run_announcements();
        }
    }

    pub fn next_announcement(&self) -> Option<Instant> {
        self.announcements.iter().map(|announcement| announcement.next).min()
    }

    /// Sends what is due.
    pub fn run_announcements(&mut self) {
        let now = Instant::now();
        for running in self.announcements.iter_mut().filter(|running| running.next <= now) {
            for card in &mut self.cards {
                // A network that takes nothing now misses it; the next one comes.
                card.net.send(&Frame::plain(rarp(card.mac)));
            }
            running.done += 1;
            running.next = now + running.timing.pause(running.done);
        }
        self.announcements.retain(|running| running.done < running.timing.rounds);
    }
}

#[cfg(test)]
#[path = "cards_tests.rs"]
mod tests;
