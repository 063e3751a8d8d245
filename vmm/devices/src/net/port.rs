//! [`Port`]: a device's way to its back end.

use super::offload::adapt;
use super::{Frame, NetBackend, Offloads, Sent};
use std::collections::VecDeque;

/// Frames go to the back end in order; what it does not take yet waits here, at most the
/// segments of the last frame: a device asks [`ready`](Self::ready) before it sends another.
pub struct Port {
    backend: Box<dyn NetBackend>,
    /// What the guest takes.
    guest: Offloads,
    outgoing: VecDeque<Frame>,
    incoming: VecDeque<Frame>,
}

impl Port {
    pub fn new(backend: Box<dyn NetBackend>) -> Self {
        let (outgoing, incoming) = (VecDeque::new(), VecDeque::new());
        Self { backend, guest: Offloads::empty(), outgoing, incoming }
    }

    /// What the back end does for the guest; everything else is done here.
    pub fn offloads(&self) -> Offloads {
        self.backend.offloads()
    }

    /// What the guest takes from now on.
    pub fn accept(&mut self, offloads: Offloads) {
        self.guest = offloads;
        self.backend.accept(offloads);
    }

    /// Whether everything sent is with the back end.
    pub fn ready(&mut self) -> bool {
        while let Some(frame) = self.outgoing.pop_front() {
            if self.backend.send(&frame) == Sent::Later {
                self.outgoing.push_front(frame);
                return false;
            }
        }
        true
    }

    /// Sends a frame, whatever it leaves to be done.
    pub fn send(&mut self, frame: Frame) {
        adapt(frame, self.backend.offloads(), &mut self.outgoing);
        self.ready();
    }

    /// The next frame that the guest can take.
    pub fn receive(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.incoming.pop_front() {
                return Some(frame);
            }
            let mut frame = Frame::default();
            if !self.backend.receive(&mut frame) {
                return None;
            }
            adapt(frame, self.guest, &mut self.incoming);
        }
    }

    /// Forgets what waits, as a device that is reset.
    pub fn reset(&mut self) {
        self.outgoing.clear();
        self.incoming.clear();
        self.accept(Offloads::empty());
    }
}
