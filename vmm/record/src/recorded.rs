//! A device whose calls are written down. It stands on the bus in the device's place.

use crate::entry::{Call, DriveSpec, Return};
use crate::tape::Tape;
use crate::taps::TapDisk;
use std::sync::Arc;
use xinim_devices::backend::{BayError, BlockBackend, Drive, DriveBays, Medium};
use xinim_devices::device::{Access, Origin, Outcome};
use xinim_devices::dma::Dma;
use xinim_devices::net::NetDevice;
use xinim_devices::pci::{ConfigSpace, Doorbell, PciDevice};

/// See the module's head.
pub struct Recorded<D> {
    device: D,
    tape: Tape,
    /// For disks that are attached while the machine runs.
    dma: Arc<dyn Dma>,
}

impl<D> Recorded<D> {
    /// `device` was made with taps on `tape`; `dma` is the machine's memory.
    pub fn new(device: D, tape: Tape, dma: Arc<dyn Dma>) -> Self {
        Self { device, tape, dma }
    }

    pub fn device(&self) -> &D {
        &self.device
    }

    /// For what is no call of a running machine's: putting drives in before it starts.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// Makes a call that no trait has.
    pub fn run(&mut self, call: Call, work: impl FnOnce(&mut D) -> bool) -> bool {
        self.tape.call(|| call);
        let more = work(&mut self.device);
        self.tape.returned(|| Return::more(more));
        more
    }

    fn access(&mut self, call: Call, work: impl FnOnce(&mut D) -> Outcome) -> Outcome {
        self.tape.call(|| call);
        let outcome = work(&mut self.device);
        self.tape.returned(|| Return::from(&outcome));
        outcome
    }

    fn bay<T>(
        &mut self,
        call: Call,
        work: impl FnOnce(&mut dyn DriveBays) -> Result<T, BayError>,
    ) -> Result<T, BayError>
    where
        D: PciDevice,
    {
        self.tape.call(|| call);
        let result = match self.device.bays() {
            Some(bays) => work(bays),
            None => Err(BayError::Fixed),
        };
        self.tape.returned(|| Return::more(result.is_ok()));
        result
    }

    fn tap(&self, unit: u16, real: Box<dyn BlockBackend>) -> Box<dyn BlockBackend> {
        if self.tape.is_off() {
            return real;
        }
        let (tape, dma) = (self.tape.clone(), Some(self.dma.clone()));
        Box::new(TapDisk { tape, unit, real: Some(real), dma })
    }
}

impl<D: PciDevice> PciDevice for Recorded<D> {
    fn name(&self) -> &str {
        self.device.name()
    }

    fn config(&self) -> &ConfigSpace {
        self.device.config()
    }

    fn config_access(&mut self, access: Access) -> Outcome {
        self.access(Call::Config((&access).into()), |device| device.config_access(access))
    }

    fn bar_access(&mut self, bar: u8, access: Access) -> Outcome {
        let call = Call::Bar { bar, touch: (&access).into() };
        self.access(call, |device| device.bar_access(bar, access))
    }

    fn doorbells(&self) -> &[Doorbell] {
        self.device.doorbells()
    }

    fn notify_queue(&mut self, queue: u16, origin: &Origin) -> bool {
        self.run(Call::Notify { queue }, |device| device.notify_queue(queue, origin))
    }

    fn bays(&mut self) -> Option<&mut dyn DriveBays> {
        if self.device.bays().is_some() { Some(self) } else { None }
    }

    fn reset(&mut self) {
        self.run(Call::Reset, |device| {
            device.reset();
            false
        });
    }
}

impl<D: PciDevice> DriveBays for Recorded<D> {
    fn ready(&mut self, unit: u16, origin: &Origin) -> bool {
        self.run(Call::Ready { unit }, |device| {
            device.bays().is_some_and(|bays| bays.ready(unit, origin))
        })
    }

    fn resized(&mut self, unit: u16, origin: &Origin) {
        self.run(Call::Resized { unit }, |device| {
            device.bays().into_iter().for_each(|bays| bays.resized(unit, origin));
            false
        });
    }

    fn attach(&mut self, unit: u16, drive: Drive, origin: &Origin) -> Result<(), BayError> {
        let spec = describe(unit, &drive);
        let backend = drive.backend.map(|real| self.tap(unit, real));
        let drive = Drive { backend, ..drive };
        self.bay(Call::Attach(spec), |bays| bays.attach(unit, drive, origin))
    }

    fn detach(&mut self, unit: u16, origin: &Origin) -> Result<(), BayError> {
        self.bay(Call::Detach { unit }, |bays| bays.detach(unit, origin))
    }

    fn insert(
        &mut self,
        unit: u16,
        disc: Box<dyn BlockBackend>,
        origin: &Origin,
    ) -> Result<(), BayError> {
        let disc = self.tap(unit, disc);
        self.bay(Call::Insert { unit }, |bays| bays.insert(unit, disc, origin))
    }

    fn eject(&mut self, unit: u16, force: bool, origin: &Origin) -> Result<(), BayError> {
        self.bay(Call::Eject { unit, force }, |bays| bays.eject(unit, force, origin))
    }
}

impl<D: NetDevice> NetDevice for Recorded<D> {
    fn input_ready(&mut self, origin: &Origin) -> bool {
        self.run(Call::Input, |device| device.input_ready(origin))
    }

    fn output_ready(&mut self, origin: &Origin) -> bool {
        self.run(Call::Output, |device| device.output_ready(origin))
    }

    fn timer(&mut self, origin: &Origin) -> bool {
        self.run(Call::Timer, |device| device.timer(origin))
    }

    fn set_link(&mut self, up: bool, origin: &Origin) {
        self.run(Call::Link { up }, |device| {
            device.set_link(up, origin);
            false
        });
    }

    fn link(&self) -> bool {
        self.device.link()
    }
}

/// A drive as a recording describes it.
pub fn describe(unit: u16, drive: &Drive) -> DriveSpec {
    DriveSpec {
        unit,
        cd_rom: drive.medium == Medium::CdRom,
        medium: drive.backend.is_some(),
        serial: drive.serial.clone(),
    }
}
