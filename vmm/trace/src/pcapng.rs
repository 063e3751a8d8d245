//! Ethernet frames of all network devices as pcapng: an interface per device, the direction in each
//! packet's flags, and in its comment the device and who was running.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError};
use xinim_devices::net::MAX_FRAME;
use xinim_devices::trace::{Event, EventKind, Interest, TraceSink};

/// Direction in the packet's flags.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
/// Time stamps count nanoseconds.
const NANOSECONDS: u8 = 9;
/// Interfaces at most: a machine has a handful.
const INTERFACES_MAX: usize = 256;

/// Writes frames.
pub struct PcapTrace(Mutex<State>);

struct State {
    writer: PcapNgWriter<Box<dyn Write + Send>>,
    interfaces: Vec<String>,
    /// Of the machine's start, since 1970.
    start: Duration,
    events: u64,
    error: Option<std::io::Error>,
}

fn io_error(error: PcapError) -> std::io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => std::io::Error::other(other),
    }
}

impl PcapTrace {
    /// `start`: the machine's start since 1970.
    pub fn new(output: impl Write + Send + 'static, start: Duration) -> std::io::Result<Self> {
        let section = SectionHeaderBlock {
            endianness: Endianness::Little,
            options: vec![SectionHeaderOption::UserApplication("xinim-vmm".into())],
            ..Default::default()
        };
        let output: Box<dyn Write + Send> = Box::new(output);
        let writer = PcapNgWriter::with_section_header(output, section).map_err(io_error)?;
        let state = State { writer, interfaces: Vec::new(), start, events: 0, error: None };
        Ok(Self(Mutex::new(state)))
    }

    pub fn events(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).events
    }

    pub fn finish(&self) -> std::io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.error.take() {
            Some(error) => Err(error),
            None => state.writer.get_mut().flush(),
        }
    }
}

impl State {
    fn interface(&mut self, device: &str) -> Result<u32, PcapError> {
        if let Some(index) = self.interfaces.iter().position(|known| known == device) {
            return Ok(index as u32);
        }
        if self.interfaces.len() >= INTERFACES_MAX {
            return Ok(0);
        }
        self.writer.write_pcapng_block(InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: MAX_FRAME as u32,
            options: vec![
                InterfaceDescriptionOption::IfName(device.to_owned().into()),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        })?;
        self.interfaces.push(device.to_owned());
        Ok(self.interfaces.len() as u32 - 1)
    }

    fn write(&mut self, event: &Event<'_>, sent: bool) -> Result<(), PcapError> {
        let interface_id = self.interface(event.device)?;
        let mut comment = event.device.to_owned();
        if let Some(process) = event.origin.process {
            comment += &format!(", process {} ({})", process.pid, process.name());
        }
        self.writer.write_pcapng_block(EnhancedPacketBlock {
            interface_id,
            timestamp: self.start + Duration::from_nanos(event.origin.time_ns),
            original_len: event.data.len() as u32,
            data: event.data.into(),
            options: vec![
                EnhancedPacketOption::Comment(comment.into()),
                EnhancedPacketOption::Flags(if sent { OUTBOUND } else { INBOUND }),
            ],
        })?;
        Ok(())
    }
}

impl TraceSink for PcapTrace {
    fn event(&self, event: &Event<'_>) {
        let EventKind::Frame { sent, .. } = event.kind else { return };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.error.is_some() {
            return;
        }
        state.events += 1;
        if let Err(error) = state.write(event, sent) {
            state.error = Some(io_error(error));
        }
    }

    fn interest(&self) -> Interest {
        Interest::FRAME
    }
}
