//! A recording made again: each device's model from its description, its calls in order, everything
//! compared.

use crate::entry::{Answer, Ask, Call, Description, DriveSpec, Entry, Kind, Return};
use crate::file::{Damage, Reader, Record};
use crate::tape::Tape;
use crate::taps::{TapClock, TapDisk, TapDma, TapLine, TapMsi, TapNet, TapStream, TapTimer};
use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use xinim_abi::hw::e1000::Model;
use xinim_devices::ahci::{Ahci, AhciConfig};
use xinim_devices::backend::{BayError, BlockBackend, Drive, Medium};
use xinim_devices::device::{self, Decode, Origin};
use xinim_devices::e1000::{E1000, E1000Config};
use xinim_devices::irq::IrqLine;
use xinim_devices::net::NetDevice;
use xinim_devices::pci::{ConfigSpace, PciDevice};
use xinim_devices::trace::Tracer;
use xinim_devices::virtio::{Block, BlockConfig, Console, Net, NetConfig, VirtioConfig, VirtioPci};

/// What became of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub device: String,
    /// Calls made, and questions the device asked, up to the end or the first difference.
    pub calls: u64,
    pub asks: u64,
    /// The first difference: number of the call, the call, and what was not as recorded.
    pub difference: Option<String>,
    /// The recording ends in the middle of a call.
    pub cut_off: bool,
}

impl Outcome {
    pub fn is_identical(&self) -> bool {
        self.difference.is_none()
    }
}

/// Replays a recording; with `only`, the device of that name alone.
pub fn replay(source: impl Read, only: Option<&str>) -> Result<Vec<Outcome>, Damage> {
    let mut reader = Reader::new(source)?;
    let mut players: Vec<Option<Player>> = Vec::new();
    while let Some(record) = reader.record()? {
        match record {
            Record::Device(description) => {
                let wanted = only.is_none_or(|only| only == description.name);
                players.push(wanted.then(|| Player::new(description)));
            }
            Record::Entry(device, entry) => {
                if let Some(Some(player)) = players.get_mut(usize::from(device)) {
                    player.entry(entry);
                }
            }
        }
    }
    Ok(players.into_iter().flatten().map(Player::finish).collect())
}

/// One device on its way through the recording.
pub(crate) struct Player {
    description: Description,
    tape: Tape,
    /// Made when all that it asks while it is made has been read.
    device: Option<Box<dyn Device>>,
    call: Option<Call>,
    asked: VecDeque<(Ask, Answer)>,
    calls: u64,
    difference: Option<String>,
    /// What the last access touched.
    decode: Option<Decode>,
}

impl Player {
    pub(crate) fn new(description: Description) -> Self {
        let tape = Tape::replay();
        let (asked, device, call) = (VecDeque::new(), None, None);
        Self { description, tape, device, call, asked, calls: 0, difference: None, decode: None }
    }

    /// Makes the device, with what it asks meanwhile.
    pub(crate) fn begin(&mut self, asked: &[(Ask, Answer)]) {
        self.asked.extend(asked.iter().cloned());
        self.make();
    }

    /// A whole call; what it touched, if it is an access.
    pub(crate) fn play(
        &mut self,
        call: &Call,
        asked: &[(Ask, Answer)],
        result: &Return,
    ) -> Option<Decode> {
        self.call = Some(call.clone());
        self.asked.extend(asked.iter().cloned());
        self.decode = None;
        self.perform(result);
        self.decode
    }

    pub(crate) fn config(&mut self) -> Option<&ConfigSpace> {
        self.device.as_mut().map(|device| device.pci().config())
    }

    pub(crate) fn difference(&self) -> Option<&str> {
        self.difference.as_deref()
    }

    fn entry(&mut self, entry: Entry) {
        if self.difference.is_some() {
            return;
        }
        match entry {
            Entry::Asked(ask, answer) => self.asked.push_back((ask, answer)),
            Entry::Call(call) => {
                self.make();
                if self.call.replace(call).is_some() {
                    self.differ("a call begins within another: the recording is damaged");
                }
            }
            Entry::Return(expected) => self.perform(&expected),
        }
    }

    fn differ(&mut self, how: &str) {
        let call = self.call.as_ref().map_or("the start".to_owned(), |call| format!("{call:?}"));
        self.difference.get_or_insert(format!("call {}, {call}: {how}", self.calls));
    }

    /// Makes the device, if that is still to be done.
    fn make(&mut self) {
        if self.device.is_some() {
            return;
        }
        self.tape.expect(std::mem::take(&mut self.asked));
        match make(&self.description, &self.tape) {
            Ok(device) => self.device = Some(device),
            Err(why) => return self.differ(&why),
        }
        if let Some(how) = self.tape.difference() {
            self.differ(&how);
        }
    }

    fn perform(&mut self, expected: &Return) {
        let Some(call) = self.call.clone() else {
            return self.differ("a call ends that has not begun: the recording is damaged");
        };
        let Some(device) = &mut self.device else { return };
        self.calls += 1;
        self.tape.expect(std::mem::take(&mut self.asked));
        let result = carry_out(&mut **device, &call, &self.tape, &mut self.decode);
        if let Some(how) = self.tape.difference() {
            self.differ(&how);
        } else if result != *expected {
            self.differ(&format!("it came to {result:?} instead of {expected:?}"));
        }
        self.call = None;
    }

    /// The recording ends in the middle of a call: that is made, too, and compared as far as it goes.
    fn perform_part(&mut self) {
        let (Some(call), Some(device)) = (&self.call, &mut self.device) else { return };
        self.tape.expect_part(std::mem::take(&mut self.asked));
        carry_out(&mut **device, call, &self.tape, &mut self.decode);
        if let Some(how) = self.tape.difference() {
            self.differ(&how);
        }
    }

    pub(crate) fn finish(mut self) -> Outcome {
        let cut_off = self.call.is_some();
        if self.difference.is_none() {
            self.perform_part();
        }
        Outcome {
            device: self.description.name,
            calls: self.calls,
            asks: self.tape.asked(),
            difference: self.difference,
            cut_off,
        }
    }
}

fn carry_out(
    device: &mut dyn Device,
    call: &Call,
    tape: &Tape,
    decode: &mut Option<Decode>,
) -> Return {
    match call {
        Call::Config(touch) => decode.keep(device.pci().config_access(touch.access())),
        Call::Bar { bar, touch } => decode.keep(device.pci().bar_access(*bar, touch.access())),
        _ => device.perform(call, tape),
    }
}

/// A model that takes calls as data.
trait Device {
    /// Calls that are no accesses.
    fn perform(&mut self, call: &Call, tape: &Tape) -> Return;

    fn pci(&mut self) -> &mut dyn PciDevice;
}

/// The part of an access's outcome that is not compared.
trait Keep {
    fn keep(&mut self, outcome: device::Outcome) -> Return;
}

impl Keep for Option<Decode> {
    fn keep(&mut self, outcome: device::Outcome) -> Return {
        *self = outcome.decode;
        Return::from(&outcome)
    }
}

fn make(description: &Description, tape: &Tape) -> Result<Box<dyn Device>, String> {
    let failed = |error: &dyn std::fmt::Debug| format!("the device cannot be made: {error:?}");
    let dma = Arc::new(TapDma { tape: tape.clone(), real: None });
    let msi = Arc::new(TapMsi { tape: tape.clone(), real: None });
    let line = |wanted: bool| {
        let line: Arc<dyn IrqLine> = Arc::new(TapLine { tape: tape.clone(), real: None });
        wanted.then_some(line)
    };
    let name = &description.name;
    let virtio = |queue_size| VirtioConfig {
        queue_size,
        translated: description.translated,
        ..VirtioConfig::new(name, dma.clone(), msi.clone())
    };
    Ok(match &description.kind {
        Kind::Block { id, queues, queue_size } => {
            let setup = BlockConfig { id: id.clone(), queues: *queues };
            let device = VirtioPci::new(Block::new(disk(tape, 0), &setup), virtio(*queue_size));
            Box::new(Plain(device.map_err(|error| failed(&error))?))
        }
        Kind::Console { queue_size } => {
            let stream = TapStream { tape: tape.clone(), real: None };
            let device = VirtioPci::new(Console::new(stream), virtio(*queue_size));
            Box::new(device.map_err(|error| failed(&error))?)
        }
        Kind::Net { mac, pairs, mtu, link, queue_size } => {
            let setup = NetConfig {
                mac: *mac,
                pairs: *pairs,
                mtu: *mtu,
                link: *link,
                ..NetConfig::default()
            };
            let device = VirtioPci::new(Net::new(net(tape), setup), virtio(*queue_size));
            Box::new(Networked(device.map_err(|error| failed(&error))?))
        }
        Kind::E1000 { model, mac, link, intx } => {
            let model = Model::from_device_id(*model).ok_or("the model is unknown")?;
            let setup = E1000Config {
                name: name.clone(),
                model,
                mac: *mac,
                link: *link,
                dma,
                msi,
                intx: line(*intx),
                clock: Arc::new(TapClock { tape: tape.clone(), real: None }),
                timer: Arc::new(TapTimer { tape: tape.clone(), real: None }),
                tracer: Tracer::off(),
            };
            let device = E1000::new(setup, net(tape));
            Box::new(Networked(device.map_err(|error| failed(&error))?))
        }
        Kind::Ahci { ports, drives, intx, manner } => {
            let setup = AhciConfig {
                ports: *ports,
                intx: line(*intx),
                staggered_spin_up: manner.staggered_spin_up,
                bios_owned: manner.bios_owned,
                qemu_dialect: manner.qemu_dialect,
                ..AhciConfig::new(name, dma, msi)
            };
            let mut device = Ahci::new(setup).map_err(|error| failed(&error))?;
            for spec in drives {
                let drive = drive(tape, spec);
                device.install(spec.unit, drive, None).map_err(|error| failed(&error))?;
            }
            Box::new(device)
        }
    })
}

fn disk(tape: &Tape, unit: u16) -> Box<dyn BlockBackend> {
    Box::new(TapDisk { tape: tape.clone(), unit, real: None, dma: None })
}

fn net(tape: &Tape) -> Box<TapNet> {
    Box::new(TapNet { tape: tape.clone(), real: None })
}

fn drive(tape: &Tape, spec: &DriveSpec) -> Drive {
    Drive {
        backend: spec.medium.then(|| disk(tape, spec.unit)),
        medium: if spec.cd_rom { Medium::CdRom } else { Medium::Disk },
        serial: spec.serial.clone(),
    }
}

/// What every function takes. `None`: it is no call of these.
fn perform(device: &mut dyn PciDevice, call: &Call, tape: &Tape) -> Option<Return> {
    let origin = Origin::default();
    let done = |result: Result<(), BayError>| Return::more(result.is_ok());
    Some(match call {
        Call::Notify { queue } => Return::more(device.notify_queue(*queue, &origin)),
        Call::Reset => {
            device.reset();
            Return::default()
        }
        Call::Ready { unit } => {
            Return::more(device.bays().is_some_and(|bays| bays.ready(*unit, &origin)))
        }
        Call::Resized { unit } => {
            device.bays().into_iter().for_each(|bays| bays.resized(*unit, &origin));
            Return::default()
        }
        Call::Attach(spec) => done(device.bays().map_or(Err(BayError::Fixed), |bays| {
            bays.attach(spec.unit, drive(tape, spec), &origin)
        })),
        Call::Detach { unit } => {
            done(device.bays().map_or(Err(BayError::Fixed), |bays| bays.detach(*unit, &origin)))
        }
        Call::Insert { unit } => {
            done(device.bays().map_or(Err(BayError::Fixed), |bays| {
                bays.insert(*unit, disk(tape, *unit), &origin)
            }))
        }
        Call::Eject { unit, force } => done(
            device.bays().map_or(Err(BayError::Fixed), |bays| bays.eject(*unit, *force, &origin)),
        ),
        Call::Config(_)
        | Call::Bar { .. }
        | Call::Input
        | Call::Output
        | Call::Timer
        | Call::Tray { .. }
        | Call::Link { .. } => return None,
    })
}

/// A device without further calls.
struct Plain<D>(D);

impl<D: PciDevice> Device for Plain<D> {
    fn perform(&mut self, call: &Call, tape: &Tape) -> Return {
        perform(&mut self.0, call, tape).unwrap_or_default()
    }

    fn pci(&mut self) -> &mut dyn PciDevice {
        &mut self.0
    }
}

impl Device for Ahci {
    fn perform(&mut self, call: &Call, tape: &Tape) -> Return {
        match call {
            Call::Tray { unit, open } => Return::more(self.move_tray(*unit, *open).is_ok()),
            other => perform(self, other, tape).unwrap_or_default(),
        }
    }

    fn pci(&mut self) -> &mut dyn PciDevice {
        self
    }
}

/// A network device.
struct Networked<D>(D);

impl<D: NetDevice> Device for Networked<D> {
    fn perform(&mut self, call: &Call, tape: &Tape) -> Return {
        let origin = Origin::default();
        match call {
            Call::Input => Return::more(self.0.input_ready(&origin)),
            Call::Output => Return::more(self.0.output_ready(&origin)),
            Call::Timer => Return::more(self.0.timer(&origin)),
            Call::Link { up } => {
                self.0.set_link(*up, &origin);
                Return::default()
            }
            other => perform(&mut self.0, other, tape).unwrap_or_default(),
        }
    }

    fn pci(&mut self) -> &mut dyn PciDevice {
        &mut self.0
    }
}

impl Device for VirtioPci<Console<TapStream>> {
    fn perform(&mut self, call: &Call, tape: &Tape) -> Return {
        let origin = Origin::default();
        match call {
            Call::Input => Return::more(self.input_ready(&origin)),
            Call::Output => Return::more(self.output_ready(&origin)),
            other => perform(self, other, tape).unwrap_or_default(),
        }
    }

    fn pci(&mut self) -> &mut dyn PciDevice {
        self
    }
}
