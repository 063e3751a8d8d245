//! Interrupts that are lost, late, or come twice.

use super::later::What;
use super::plan::{STUCK, Site};
use super::rule::{Action, Point};
use crate::irq::{IrqLine, MsiMessage, MsiRoute, MsiSink};
use std::sync::Arc;
use std::time::Duration;

/// How late when the rule does not say.
const LATE: Duration = Duration::from_millis(10);
/// When the second of two comes: late enough not to merge with the first.
const AGAIN: Duration = Duration::from_millis(1);

/// What becomes of an interrupt.
enum Fate {
    Now,
    Lost,
    At(Duration),
    NowAndAt(Duration),
}

impl Site {
    fn fate(&self, vector: u16) -> Fate {
        if self.is_gone() {
            return Fate::Lost;
        }
        let stuck = What::Interrupts;
        if self.faults.watches(STUCK) && self.faults.stuck(&self.names, &stuck).is_some() {
            return Fate::Lost;
        }
        let Some(hit) = self.decide(&Point::Interrupt { vector }) else { return Fate::Now };
        let now = self.faults.clock.monotonic();
        match hit.action {
            Action::IrqLost => Fate::Lost,
            Action::Stick => {
                self.faults.stick(self, stuck, &hit);
                Fate::Lost
            }
            Action::IrqLate => Fate::At(now + hit.time.unwrap_or(LATE)),
            Action::IrqDuplicate => Fate::NowAndAt(now + hit.time.unwrap_or(AGAIN)),
            _ => Fate::Now,
        }
    }

    fn send(&self, vector: u16, raise: impl Fn() + Send + 'static) {
        let later = |at, raise: Box<dyn Fn() + Send>| {
            self.faults.later(at, move |_| {
                raise();
                false
            });
        };
        match self.fate(vector) {
            Fate::Now => raise(),
            Fate::Lost => {}
            Fate::At(at) => later(at, Box::new(raise)),
            Fate::NowAndAt(at) => {
                raise();
                later(at, Box::new(raise));
            }
        }
    }
}

/// Messages of one function.
pub struct FaultMsi {
    inner: Arc<dyn MsiSink>,
    site: Site,
}

impl FaultMsi {
    pub fn new(inner: Arc<dyn MsiSink>, site: Site) -> Self {
        Self { inner, site }
    }
}

impl MsiSink for FaultMsi {
    fn route(&self, vector: u16, route: MsiRoute) {
        self.inner.route(vector, route);
    }

    fn signal(&self, vector: u16, message: MsiMessage) {
        let inner = self.inner.clone();
        self.site.send(vector, move || inner.signal(vector, message));
    }
}

/// A wire. Its rise is the interrupt; a fall always arrives.
pub struct FaultLine {
    inner: Arc<dyn IrqLine>,
    site: Site,
}

impl FaultLine {
    pub fn new(inner: Arc<dyn IrqLine>, site: Site) -> Self {
        Self { inner, site }
    }
}

impl IrqLine for FaultLine {
    fn set(&self, level: bool) {
        let inner = self.inner.clone();
        match level {
            // A rise that comes late meets a line that may have fallen: the guest then sees an
            // interrupt nobody asserts any more, which is what a late one is.
            true => self.site.send(0, move || inner.set(true)),
            false => inner.set(false),
        }
    }
}
