//! Recording a machine's functions: taps where they are asked for, nothing in between otherwise.

use std::path::Path;
use std::sync::Arc;

use xinim_devices::backend::{BlockBackend, ByteStream, Clock};
use xinim_devices::dma::Dma;
use xinim_devices::irq::{IrqLine, MsiSink};
use xinim_devices::net::{NetBackend, Timer};
use xinim_machine::EngineError;
use xinim_record::taps::{TapClock, TapDisk, TapDma, TapLine, TapMsi, TapNet, TapStream, TapTimer};
use xinim_record::{Description, Kind, Recorder, Tape};

use crate::host::host_io;

/// What is recorded, if anything is.
#[derive(Clone, Default)]
pub struct Recording {
    recorder: Option<Arc<Recorder>>,
    /// The machine has an IOMMU.
    translated: bool,
}

impl Recording {
    pub fn create(path: Option<&Path>, translated: bool) -> Result<Self, EngineError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let recorder = Recorder::create(path).map_err(|error| {
            EngineError::Machine(format!(
                "the recording {} cannot be written: {error}",
                path.display()
            ))
        })?;
        Ok(Self { recorder: Some(recorder), translated })
    }

    /// The conversation of a device that begins now.
    pub fn tape(&self, name: &str, kind: impl FnOnce() -> Kind) -> Tape {
        let Some(recorder) = &self.recorder else { return Tape::off() };
        let (name, translated) = (name.to_owned(), self.translated);
        let description = Description { name, kind: kind(), translated };
        Tape::record(recorder.clone(), recorder.device(&description))
    }

    /// Writes out what is buffered.
    pub fn finish(&self) -> Result<(), EngineError> {
        let finished = self.recorder.as_ref().map_or(Ok(()), |recorder| recorder.finish());
        finished.map_err(host_io("writing the recording"))
    }
}

pub fn dma(tape: &Tape, real: Arc<dyn Dma>) -> Arc<dyn Dma> {
    if tape.is_off() { real } else { Arc::new(TapDma { tape: tape.clone(), real: Some(real) }) }
}

pub fn msi(tape: &Tape, real: Arc<dyn MsiSink>) -> Arc<dyn MsiSink> {
    if tape.is_off() { real } else { Arc::new(TapMsi { tape: tape.clone(), real: Some(real) }) }
}

pub fn line(tape: &Tape, real: Arc<dyn IrqLine>) -> Arc<dyn IrqLine> {
    if tape.is_off() { real } else { Arc::new(TapLine { tape: tape.clone(), real: Some(real) }) }
}

pub fn clock(tape: &Tape, real: Arc<dyn Clock>) -> Arc<dyn Clock> {
    if tape.is_off() { real } else { Arc::new(TapClock { tape: tape.clone(), real: Some(real) }) }
}

pub fn timer(tape: &Tape, real: Arc<dyn Timer>) -> Arc<dyn Timer> {
    if tape.is_off() { real } else { Arc::new(TapTimer { tape: tape.clone(), real: Some(real) }) }
}

/// `memory`: as the back end sees it.
pub fn disk(
    tape: &Tape,
    unit: u16,
    real: Box<dyn BlockBackend>,
    memory: Arc<dyn Dma>,
) -> Box<dyn BlockBackend> {
    if tape.is_off() {
        return real;
    }
    Box::new(TapDisk { tape: tape.clone(), unit, real: Some(real), dma: Some(memory) })
}

pub fn net(tape: &Tape, real: Box<dyn NetBackend>) -> Box<dyn NetBackend> {
    if tape.is_off() { real } else { Box::new(TapNet { tape: tape.clone(), real: Some(real) }) }
}

pub fn stream(tape: &Tape, real: Box<dyn ByteStream>) -> Box<dyn ByteStream> {
    if tape.is_off() { real } else { Box::new(TapStream { tape: tape.clone(), real: Some(real) }) }
}
