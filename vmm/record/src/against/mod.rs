//! A recording driven into QEMU's device: an independent reading of the same specification.
//!
//! ```text
//!   file ──calls──> our model (replayed, held to the recording)
//!     └────calls──> QEMU's device, over qtest ──> registers, memory, interrupts, frames: the same?
//! ```
//! Registers are compared access by access. What a device does when it is ready (memory it writes,
//! completions, interrupts) is compared by content and order, not by time: each side is waited for,
//! and where one is ahead, registers that tell of work under way are not compared.
//!
//! * [`steps`]: the recording by calls; [`device`]: QEMU's arguments; [`peer`]: QEMU;
//! * [`place`], [`structures`]: where things are on both sides; [`rings`]: virtqueues;
//! * [`session`]: one device's comparison, with [`access`] and [`compare`]; [`report`]: what came of it; [`known`]: what is understood.

mod access;
mod compare;
mod device;
pub mod known;
mod peer;
mod place;
mod report;
mod rings;
mod session;
mod steps;
mod structures;

pub use peer::PeerError;
pub use report::{Difference, Report};

use crate::entry::{Call, Kind};
use crate::file::Damage;
use crate::replay::Player;
use device::NoDevice;
use peer::Sockets;
use session::{Session, Stop};
use std::fs::File;
use std::io;
use std::path::Path;
use steps::{Steps, survey};
use xinim_abi::hw::register::touched;
use xinim_devices::device::Decode;

/// A QEMU that was started.
pub trait Running {
    fn has_ended(&mut self) -> bool;
    /// Ends it, if need be; what it said on standard error.
    fn end(&mut self) -> String;
}

/// Starts QEMU with these arguments.
pub type Launch<'a> = &'a dyn Fn(&[String]) -> io::Result<Box<dyn Running>>;

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum AgainstError {
    #[error(transparent)]
    Damage(#[from] Damage),
    #[error("{0}")]
    Peer(#[from] PeerError),
    #[error("it cannot be read: {0}")]
    Read(#[source] io::Error),
    #[error("QEMU cannot be started: {0}")]
    Launch(#[source] io::Error),
}

/// What became of one device.
#[derive(Debug)]
pub struct Comparison {
    pub device: String,
    /// PCI device id.
    pub id: u16,
    pub calls: u64,
    pub report: Report,
    /// Why it was not compared (to its end).
    pub ended: Option<String>,
}

/// Compares the devices of a recording, or the one of that name, with QEMU's.
pub fn against(
    path: &Path,
    only: Option<&str>,
    launch: Launch<'_>,
) -> Result<Vec<Comparison>, AgainstError> {
    let open = || File::open(path).map_err(AgainstError::Read);
    let mut result = Vec::new();
    for (number, (description, survey)) in survey(open()?)?.into_iter().enumerate() {
        if only.is_some_and(|only| only != description.name) {
            continue;
        }
        let name = description.name.clone();
        let is_net = matches!(description.kind, Kind::Net { .. } | Kind::E1000 { .. });
        let mut comparison =
            Comparison { device: name, id: 0, calls: 0, report: Report::default(), ended: None };
        let sockets = Sockets::new()?;
        let machine = match device::machine(&description, &survey, &sockets) {
            Ok(machine) => machine,
            Err(NoDevice::Failed(error)) => return Err(error.into()),
            Err(NoDevice::Unsupported(why)) => {
                comparison.ended = Some(why);
                result.push(comparison);
                continue;
            }
        };
        let mut steps = Steps::new(open()?, number as u16)?;
        let mut player = Player::new(description);
        player.begin(&steps.start);
        let process = launch(&machine.args).map_err(AgainstError::Launch)?;
        let peer = sockets.accept(process, machine.far)?;
        let Some(config) = player.config() else {
            comparison.ended = player.finish().difference;
            result.push(comparison);
            continue;
        };
        comparison.id = config.get(2, 2) as u16;
        let mut session = Session::new(peer, config, machine.memory, is_net)?;
        while let Some(step) = steps.next()? {
            let decode = player.play(&step.call, &step.asks, &step.result);
            if let Some(how) = player.difference() {
                comparison.ended = Some(format!("our own device is not as recorded: {how}"));
                break;
            }
            let register = decode.and_then(|decode| name_of(&decode, &step.call));
            comparison.calls += 1;
            match session.step(&step, steps.ahead(), register.as_deref()) {
                Ok(()) => {}
                Err(Stop::Failed(error)) => return Err(error.into()),
                Err(Stop::Unsupported(why)) => {
                    comparison.ended = Some(format!("call {}: {why}", comparison.calls));
                    break;
                }
            }
        }
        comparison.report = session.report;
        result.push(comparison);
    }
    Ok(result)
}

/// The names of the registers that an access touches, with the number of the block they are in.
fn name_of(decode: &Decode, call: &Call) -> Option<String> {
    let (Call::Config(touch) | Call::Bar { touch, .. }) = call else { return None };
    let table = decode.table;
    let names: Vec<_> = touched(table, decode.offset, touch.size, touch.write.is_some())
        .map(|register| register.name)
        .collect();
    let index = decode.index.map_or(String::new(), |index| format!("[{index}]"));
    (!names.is_empty()).then(|| format!("{}{index}", names.join("+")))
}
