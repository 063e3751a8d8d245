//! A network whose far end is the test, a timer that remembers, and packets to send.

use super::lock;
use crate::net::checksum::{checksum, fold, sum};
use crate::net::packet::{Ip, set_word};
use crate::net::{Frame, NetBackend, Offloads, Sent, Timer};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A back end whose far end is the test; clones share it.
#[derive(Clone, Debug, Default)]
pub struct NetPipe(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// For the guest.
    input: VecDeque<Frame>,
    /// From the guest.
    output: Vec<Frame>,
    /// Frames it still takes; `None`: any number.
    room: Option<usize>,
    offloads: Option<Offloads>,
    accepted: Option<Offloads>,
}

impl NetPipe {
    /// Does every offload for the guest.
    pub fn new() -> Self {
        Self::default()
    }

    /// Does only these.
    pub fn with_offloads(offloads: Offloads) -> Self {
        let pipe = Self::default();
        lock(&pipe.0).offloads = Some(offloads);
        pipe
    }

    /// A frame for the guest; the device must then be told `input_ready`.
    pub fn feed(&self, frame: Frame) {
        lock(&self.0).input.push_back(frame);
    }

    /// What the guest sent since the last call.
    pub fn take(&self) -> Vec<Frame> {
        std::mem::take(&mut lock(&self.0).output)
    }

    /// Lets the network take only so many more frames.
    pub fn limit(&self, room: Option<usize>) {
        lock(&self.0).room = room;
    }

    /// Frames the device has not fetched.
    pub fn unread(&self) -> usize {
        lock(&self.0).input.len()
    }

    /// What the device last said the guest takes.
    pub fn accepted(&self) -> Option<Offloads> {
        lock(&self.0).accepted
    }
}

impl NetBackend for NetPipe {
    fn send(&mut self, frame: &Frame) -> Sent {
        let mut state = lock(&self.0);
        if state.room == Some(0) {
            return Sent::Later;
        }
        state.room = state.room.map(|room| room - 1);
        state.output.push(frame.clone());
        Sent::Done
    }

    fn receive(&mut self, frame: &mut Frame) -> bool {
        match lock(&self.0).input.pop_front() {
            Some(next) => {
                *frame = next;
                true
            }
            None => false,
        }
    }

    fn offloads(&self) -> Offloads {
        lock(&self.0).offloads.unwrap_or(Offloads::all())
    }

    fn accept(&mut self, offloads: Offloads) {
        lock(&self.0).accepted = Some(offloads);
    }
}

/// Remembers when a device wants to be called.
#[derive(Debug, Default)]
pub struct TimerLog(Mutex<Option<Duration>>);

impl TimerLog {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn armed(&self) -> Option<Duration> {
        *lock(&self.0)
    }

    /// Whether it is due; then it is not armed any more.
    pub fn fire(&self, now: Duration) -> bool {
        lock(&self.0).take_if(|at| *at <= now).is_some()
    }
}

impl Timer for TimerLog {
    fn arm(&self, at: Option<Duration>) {
        *lock(&self.0) = at;
    }
}

/// What a packet of [`packet`] carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Udp,
}

/// An Ethernet frame of `kind` over IPv4 or IPv6, with right checksums. Ports 1000 to 2000,
/// sequence number 0x1000, flags ACK, PSH and FIN.
pub fn packet(to: [u8; 6], from: [u8; 6], v6: bool, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to, from].concat();
    let upper = if kind == Kind::Tcp { 20 } else { 8 } + payload.len();
    let protocol = if kind == Kind::Tcp { 6 } else { 17 };
    if v6 {
        frame.extend([0x86, 0xDD, 0x60, 0, 0, 0]);
        frame.extend((upper as u16).to_be_bytes());
        frame.extend([protocol, 64]);
        frame.extend([0xFD; 15].iter().chain(&[1]));
        frame.extend([0xFD; 15].iter().chain(&[2]));
    } else {
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((upper as u16 + 20).to_be_bytes());
        frame.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let sum = checksum(&frame[14..]);
        set_word(&mut frame, 24, sum);
    }
    frame.extend(1000u16.to_be_bytes());
    frame.extend(2000u16.to_be_bytes());
    match kind {
        Kind::Tcp => frame.extend([0, 0, 0x10, 0, 0, 0, 0x20, 0, 0x50, 0x19, 0x10, 0, 0, 0, 0, 0]),
        Kind::Udp => {
            frame.extend((upper as u16).to_be_bytes());
            frame.extend([0, 0]);
        }
    }
    frame.extend(payload);
    let ip = Ip::parse(&frame).expect("just built");
    let at = ip.payload + ip.checksum_offset().expect("TCP or UDP");
    let value = !fold(ip.pseudo_header(&frame) + sum(&frame[ip.payload..]));
    set_word(&mut frame, at, value);
    frame
}
