//! Frames on their way, written as pcapng for Wireshark and its like.
//!
//! Frames are written as they are given: one that is still to be segmented appears whole. The
//! direction is in the packet's flags option. When the file cannot be written any more, capturing
//! ends and the network goes on; a sentence on standard error says so.

use std::fs::File;
use std::io::BufWriter;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::SectionHeaderBlock;
use pcap_file::{DataLink, Endianness};
use xinim_devices::net::{Frame, MAX_FRAME, NetBackend, Offloads, Sent};

use crate::Endpoint;

/// Direction in the packet's flags.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
/// Time stamps count nanoseconds.
const NANOSECONDS: u8 = 9;

/// A back end whose frames are written to a file.
pub struct Capture {
    inner: Box<dyn Endpoint>,
    file: Option<PcapNgWriter<BufWriter<File>>>,
    name: String,
}

impl Capture {
    pub fn create(inner: Box<dyn Endpoint>, path: &Path) -> Result<Self, String> {
        let name = path.display().to_string();
        let failed = |error: &dyn std::fmt::Display| {
            format!("capture file {name} cannot be written: {error}")
        };
        let file = File::create(path).map_err(|error| failed(&error))?;
        let section = SectionHeaderBlock { endianness: Endianness::Little, ..Default::default() };
        let mut writer = PcapNgWriter::with_section_header(BufWriter::new(file), section)
            .map_err(|error| failed(&error))?;
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: MAX_FRAME as u32,
            options: vec![InterfaceDescriptionOption::IfTsResol(NANOSECONDS)],
        };
        writer.write_pcapng_block(interface).map_err(|error| failed(&error))?;
        Ok(Self { inner, file: Some(writer), name })
    }

    fn write(&mut self, frame: &Frame, direction: u32) {
        let Some(writer) = &mut self.file else { return };
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            original_len: frame.data.len() as u32,
            data: frame.data.as_slice().into(),
            options: vec![EnhancedPacketOption::Flags(direction)],
        };
        if let Err(error) = writer.write_pcapng_block(block) {
            eprintln!("xinim-vmm: capture file {} cannot be written any more: {error}", self.name);
            self.file = None;
        }
    }
}

impl NetBackend for Capture {
    fn send(&mut self, frame: &Frame) -> Sent {
        let sent = self.inner.send(frame);
        if sent == Sent::Done {
            self.write(frame, OUTBOUND);
        }
        sent
    }

    fn receive(&mut self, frame: &mut Frame) -> bool {
        let received = self.inner.receive(frame);
        if received {
            self.write(frame, INBOUND);
        } else if let Some(writer) = &mut self.file {
            // A quiet moment: what is captured so far can be looked at.
            let _ = std::io::Write::flush(writer.get_mut());
        }
        received
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads()
    }

    fn accept(&mut self, offloads: Offloads) {
        self.inner.accept(offloads);
    }
}

impl Endpoint for Capture {
    fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.inner.watch()
    }
}

#[cfg(test)]
#[path = "pcap_tests.rs"]
mod tests;
