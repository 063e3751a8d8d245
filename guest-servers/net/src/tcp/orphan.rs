//! Connections whose sockets were closed: each comes to its end by itself, within a time.

use smoltcp::socket::tcp::State as Wire;
use smoltcp::time::{Duration, Instant};

use super::{At, end};
use crate::stack::Net;

/// How long the reset at a connection's end may take to go out.
pub const RESET_TIME: Duration = Duration::from_secs(1);
/// Connections without a socket; beyond, the oldest is reset.
const ORPHANS_MAX: usize = 128;

/// A connection whose socket was closed.
pub struct Orphan {
    at: At,
    until: Instant,
    port: Option<u16>,
}

impl Net {
    /// Lets a connection come to its end by itself, for at most `time`.
    pub(super) fn orphan(&mut self, at: At, port: Option<u16>, time: Duration) {
        if self.orphans.len() >= ORPHANS_MAX {
            let oldest = self.orphans.remove(0);
            self.finish_orphan(&oldest);
        }
        self.orphans.push(Orphan { at, until: self.now + time, port });
    }

    fn finish_orphan(&mut self, orphan: &Orphan) {
        self.drop_tcp(orphan.at);
        if let Some(port) = orphan.port {
            self.tcp_ports.give_back(port);
        }
    }

    /// Forgets the orphans that are done.
    pub fn sweep_orphans(&mut self) {
        let now = self.now;
        let mut at = 0;
        while at < self.orphans.len() {
            let place = self.orphans[at].at;
            let late = now >= self.orphans[at].until;
            let socket = self.tcp(place);
            if socket.can_recv() {
                // Nobody will read it: the peer must know (RFC 2525, 2.17).
                socket.abort();
            }
            if socket.may_send() {
                end(socket);
            }
            let reset_sent = socket.remote_endpoint().is_none();
            if late && !matches!(socket.state(), Wire::Closed | Wire::TimeWait) {
                // Its time is over and the peer does not know: some more of it, for the reset.
                socket.abort();
                self.orphans[at].until = now + RESET_TIME;
                at += 1;
                continue;
            }
            if late || (socket.state() == Wire::Closed && reset_sent) {
                let orphan = self.orphans.remove(at);
                self.finish_orphan(&orphan);
            } else {
                at += 1;
            }
        }
    }
}
