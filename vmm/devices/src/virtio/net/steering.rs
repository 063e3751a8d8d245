//! Automatic receive steering (5.1.6.5.6): a flow is received on the pair on which it is sent.

use crate::net::packet::Ip;

/// Flows told apart; others share an entry, which costs order between queues, not correctness.
const FLOWS: usize = 1024;

#[derive(Clone, Debug)]
pub struct Steering {
    pairs: Box<[u8; FLOWS]>,
}

impl Default for Steering {
    fn default() -> Self {
        Self { pairs: Box::new([0; FLOWS]) }
    }
}

impl Steering {
    /// The driver sent this frame on that pair.
    pub fn sent(&mut self, frame: &[u8], pair: usize) {
        if let Some(flow) = flow(frame) {
            self.pairs[flow] = pair as u8;
        }
    }

    /// The pair for a received frame.
    pub fn pair(&self, frame: &[u8]) -> usize {
        flow(frame).map_or(0, |flow| usize::from(self.pairs[flow]))
    }
}

/// The same number for both directions of a connection.
fn flow(frame: &[u8]) -> Option<usize> {
    let ip = Ip::parse(frame)?;
    let addresses = frame.get(ip.addresses())?;
    let words = addresses.as_chunks::<4>().0.iter();
    let sum = words.fold(0u32, |sum, word| sum.wrapping_add(u32::from_le_bytes(*word)));
    let ports = ip.ports(frame).unwrap_or(0);
    let ports = (ports >> 16).wrapping_add(ports & 0xFFFF);
    let mixed = (sum ^ ports.rotate_left(16)).wrapping_mul(0x9E37_79B1);
    Some((mixed >> 16) as usize % FLOWS)
}
