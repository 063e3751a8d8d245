//! The traits around a device, led over a [`Tape`]. Each has the real thing behind it when recording,
//! and nothing when replaying.

use crate::entry::{Answer, Ask, DiskInfo, DiskRequest, FrameData};
use crate::tape::Tape;
use std::sync::Arc;
use std::time::Duration;
use xinim_abi::hw::virtio_net::Header;
use xinim_devices::backend::{
    BackendError, BlockBackend, BlockInfo, ByteStream, Clock, Completion, Request,
};
use xinim_devices::dma::{Dma, DmaError};
use xinim_devices::irq::{IrqLine, MsiMessage, MsiRoute, MsiSink};
use xinim_devices::net::{Frame, NetBackend, Offloads, Sent, Timer};
use zerocopy::{FromBytes, IntoBytes};

/// Guest memory.
pub struct TapDma {
    pub tape: Tape,
    pub real: Option<Arc<dyn Dma>>,
}

impl TapDma {
    fn real<T>(&self, ask: impl FnOnce(&dyn Dma) -> Option<T>) -> Option<T> {
        self.real.as_deref().and_then(ask)
    }
}

impl Dma for TapDma {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        let length = data.len();
        let error = DmaError { address, length: length as u64 };
        let ask = Ask::Read { address, length: length as u32 };
        let answer = self.tape.ask(ask, Answer::Data(None), || {
            let mut bytes = vec![0; length];
            Answer::Data(self.real(|dma| dma.read(address, &mut bytes).ok()).map(|()| bytes))
        });
        match answer {
            Answer::Data(Some(bytes)) if bytes.len() == length => {
                data.copy_from_slice(&bytes);
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        let error = DmaError { address, length: data.len() as u64 };
        let ask = Ask::Write { address, data: data.to_vec() };
        let answer = self.tape.ask(ask, Answer::Ok(false), || {
            Answer::Ok(self.real(|dma| dma.write(address, data).ok()).is_some())
        });
        if answer == Answer::Ok(true) { Ok(()) } else { Err(error) }
    }

    fn load_u16(&self, address: u64) -> Result<u16, DmaError> {
        let answer = self.tape.ask(Ask::Load { address }, Answer::Word(None), || {
            Answer::Word(self.real(|dma| dma.load_u16(address).ok()))
        });
        match answer {
            Answer::Word(Some(word)) => Ok(word),
            _ => Err(DmaError { address, length: 2 }),
        }
    }

    fn store_u16(&self, address: u64, value: u16) -> Result<(), DmaError> {
        let answer = self.tape.ask(Ask::Store { address, value }, Answer::Ok(false), || {
            Answer::Ok(self.real(|dma| dma.store_u16(address, value).ok()).is_some())
        });
        if answer == Answer::Ok(true) { Ok(()) } else { Err(DmaError { address, length: 2 }) }
    }

    fn reaches(&self, address: u64, length: u64, write: bool) -> bool {
        let ask = Ask::Reaches { address, length, write };
        let answer = self.tape.ask(ask, Answer::Ok(false), || {
            Answer::Ok(self.real.as_ref().is_some_and(|dma| dma.reaches(address, length, write)))
        });
        answer == Answer::Ok(true)
    }
}

/// Message-signalled interrupts.
pub struct TapMsi {
    pub tape: Tape,
    pub real: Option<Arc<dyn MsiSink>>,
}

impl MsiSink for TapMsi {
    fn route(&self, vector: u16, route: MsiRoute) {
        let MsiMessage { address, data } = route.message;
        let ask = Ask::Route { vector, address, data, masked: route.masked };
        self.tape.ask(ask, Answer::Done, || {
            self.real.iter().for_each(|real| real.route(vector, route));
            Answer::Done
        });
    }

    fn signal(&self, vector: u16, message: MsiMessage) {
        let MsiMessage { address, data } = message;
        self.tape.ask(Ask::Signal { vector, address, data }, Answer::Done, || {
            self.real.iter().for_each(|real| real.signal(vector, message));
            Answer::Done
        });
    }
}

/// An interrupt wire.
pub struct TapLine {
    pub tape: Tape,
    pub real: Option<Arc<dyn IrqLine>>,
}

impl IrqLine for TapLine {
    fn set(&self, level: bool) {
        self.tape.ask(Ask::Line { level }, Answer::Done, || {
            self.real.iter().for_each(|real| real.set(level));
            Answer::Done
        });
    }
}

/// Time.
pub struct TapClock {
    pub tape: Tape,
    pub real: Option<Arc<dyn Clock>>,
}

impl TapClock {
    fn time(&self, ask: Ask, real: impl FnOnce(&dyn Clock) -> Duration) -> Duration {
        let answer = self.tape.ask(ask, Answer::Number(0), || {
            let time = self.real.as_deref().map_or(Duration::ZERO, real);
            Answer::Number(time.as_nanos() as u64)
        });
        match answer {
            Answer::Number(nanos) => Duration::from_nanos(nanos),
            _ => Duration::ZERO,
        }
    }
}

/// The device gets the nanoseconds of the recording, so both sides see the same time.
impl Clock for TapClock {
    fn monotonic(&self) -> Duration {
        self.time(Ask::Monotonic, |clock| clock.monotonic())
    }

    fn wall(&self) -> Duration {
        self.time(Ask::Wall, |clock| clock.wall())
    }
}

/// A device's timer.
pub struct TapTimer {
    pub tape: Tape,
    pub real: Option<Arc<dyn Timer>>,
}

impl Timer for TapTimer {
    fn arm(&self, at: Option<Duration>) {
        let ask = Ask::Arm { at: at.map(|at| at.as_nanos() as u64) };
        self.tape.ask(ask, Answer::Done, || {
            self.real.iter().for_each(|real| real.arm(at));
            Answer::Done
        });
    }
}

/// A disk.
pub struct TapDisk {
    pub tape: Tape,
    pub unit: u16,
    pub real: Option<Box<dyn BlockBackend>>,
    /// Memory as the back end is to see it: what it moves by itself is not the device's.
    pub dma: Option<Arc<dyn Dma>>,
}

impl TapDisk {
    fn ask(
        &mut self,
        ask: Ask,
        other: Answer,
        real: impl FnOnce(&mut dyn BlockBackend) -> Answer,
    ) -> Answer {
        let backend = &mut self.real;
        self.tape.ask(ask, other.clone(), || match backend {
            Some(backend) => real(&mut **backend),
            None => other,
        })
    }
}

impl BlockBackend for TapDisk {
    fn info(&self) -> BlockInfo {
        let none = DiskInfo { logical_block: 512, physical_block: 512, ..DiskInfo::default() };
        let answer = self.tape.ask(Ask::DiskInfo { unit: self.unit }, Answer::Info(none), || {
            Answer::Info(self.real.as_ref().map_or(none, |real| info(&real.info())))
        });
        let Answer::Info(info) = answer else { return BlockInfo::new(0) };
        BlockInfo {
            length: info.length,
            logical_block: info.logical_block,
            physical_block: info.physical_block,
            read_only: info.read_only,
            write_cache: info.write_cache,
            discard: info.discard,
        }
    }

    fn submit(&mut self, request: Request, dma: &dyn Dma) {
        let written = DiskRequest {
            tag: request.tag,
            operation: format!("{:?}", request.operation),
            offset: request.offset,
            length: request.length,
            segments: request.segments.iter().map(|s| (s.address, s.length)).collect(),
        };
        let own = self.dma.clone();
        let ask = Ask::Submit { unit: self.unit, request: written };
        self.ask(ask, Answer::Done, |backend| {
            backend.submit(request, own.as_deref().unwrap_or(dma));
            Answer::Done
        });
    }

    fn start(&mut self) {
        self.ask(Ask::Start { unit: self.unit }, Answer::Done, |backend| {
            backend.start();
            Answer::Done
        });
    }

    fn poll(&mut self) -> Option<Completion> {
        let ask = Ask::Poll { unit: self.unit };
        let answer = self.ask(ask, Answer::Completion(None), |backend| {
            let completion = backend.poll();
            let written = completion.map(|c| (c.tag, c.result.err().map(|error| error.errno)));
            Answer::Completion(written)
        });
        let Answer::Completion(Some((tag, errno))) = answer else { return None };
        let result = errno.map_or(Ok(()), |errno| Err(BackendError { errno }));
        Some(Completion { tag, result })
    }

    fn in_flight(&self) -> usize {
        let ask = Ask::InFlight { unit: self.unit };
        let answer = self.tape.ask(ask, Answer::Number(0), || {
            Answer::Number(self.real.as_ref().map_or(0, |real| real.in_flight()) as u64)
        });
        if let Answer::Number(count) = answer { count as usize } else { 0 }
    }

    fn cancel(&mut self) {
        self.ask(Ask::Cancel { unit: self.unit }, Answer::Done, |backend| {
            backend.cancel();
            Answer::Done
        });
    }
}

fn info(info: &BlockInfo) -> DiskInfo {
    DiskInfo {
        length: info.length,
        logical_block: info.logical_block,
        physical_block: info.physical_block,
        read_only: info.read_only,
        write_cache: info.write_cache,
        discard: info.discard,
    }
}

/// A network.
pub struct TapNet {
    pub tape: Tape,
    pub real: Option<Box<dyn NetBackend>>,
}

fn written(frame: &Frame) -> FrameData {
    let mut header = [0; 12];
    header.copy_from_slice(frame.header.as_bytes());
    FrameData { header, data: frame.data.clone() }
}

impl NetBackend for TapNet {
    fn send(&mut self, frame: &Frame) -> Sent {
        let real = &mut self.real;
        let answer = self.tape.ask(Ask::Send(written(frame)), Answer::Ok(true), || {
            let sent = real.as_mut().map_or(Sent::Done, |real| real.send(frame));
            Answer::Ok(sent == Sent::Done)
        });
        if answer == Answer::Ok(false) { Sent::Later } else { Sent::Done }
    }

    fn receive(&mut self, frame: &mut Frame) -> bool {
        let real = &mut self.real;
        let answer = self.tape.ask(Ask::Receive, Answer::Frame(None), || {
            let mut next = Frame::default();
            let got = real.as_mut().is_some_and(|real| real.receive(&mut next));
            Answer::Frame(got.then(|| written(&next)))
        });
        let Answer::Frame(Some(next)) = answer else { return false };
        frame.header = Header::read_from_bytes(&next.header).unwrap_or_default();
        frame.data = next.data;
        true
    }

    fn offloads(&self) -> Offloads {
        let answer = self.tape.ask(Ask::Offloads, Answer::Number(0), || {
            let offloads = self.real.as_ref().map_or(Offloads::empty(), |real| real.offloads());
            Answer::Number(offloads.bits().into())
        });
        let Answer::Number(bits) = answer else { return Offloads::empty() };
        Offloads::from_bits_truncate(bits as u8)
    }

    fn accept(&mut self, offloads: Offloads) {
        let real = &mut self.real;
        self.tape.ask(Ask::Accept { offloads: offloads.bits() }, Answer::Done, || {
            real.iter_mut().for_each(|real| real.accept(offloads));
            Answer::Done
        });
    }
}

/// A byte stream.
pub struct TapStream {
    pub tape: Tape,
    pub real: Option<Box<dyn ByteStream>>,
}

impl ByteStream for TapStream {
    fn write(&mut self, data: &[u8]) -> usize {
        let real = &mut self.real;
        let ask = Ask::StreamWrite { data: data.to_vec() };
        let answer = self.tape.ask(ask, Answer::Number(0), || {
            Answer::Number(real.as_mut().map_or(0, |real| real.write(data)) as u64)
        });
        let Answer::Number(count) = answer else { return 0 };
        (count as usize).min(data.len())
    }

    fn read(&mut self, data: &mut [u8]) -> usize {
        let real = &mut self.real;
        let ask = Ask::StreamRead { length: data.len() as u32 };
        let length = data.len();
        let answer = self.tape.ask(ask, Answer::Data(None), || {
            let mut bytes = vec![0; length];
            let count = real.as_mut().map_or(0, |real| real.read(&mut bytes));
            bytes.truncate(count);
            Answer::Data(Some(bytes))
        });
        let Answer::Data(Some(bytes)) = answer else { return 0 };
        let count = bytes.len().min(data.len());
        data[..count].copy_from_slice(&bytes[..count]);
        count
    }
}
