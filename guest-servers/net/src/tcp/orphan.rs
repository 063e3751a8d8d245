//! Connections whose sockets were closed: each comes to its end by itself, within a time.

use alloc::vec::Vec;

use smoltcp::socket::tcp::State as Wire;
use smoltcp::time::{Duration, Instant};

use xinim_keep::codec::Writer;

use super::resume::{Kept, Resuming, Suspended};
use super::{At, end};
use crate::stack::Net;

/// How long the reset at a connection's end may take to go out.
pub const RESET_TIME: Duration = Duration::from_secs(1);
/// Connections without a socket; beyond, the oldest is reset.
const ORPHANS_MAX: usize = 128;

/// A connection whose socket was closed.
pub struct Orphan {
    /// The socket's.
    pub cookie: u64,
    pub at: At,
    pub until: Instant,
    pub port: Option<u16>,
    pub kept: Option<Kept>,
    pub resuming: Option<Resuming>,
}

/// One of the last instance's, whose interface is not there.
pub struct SuspendedOrphan {
    cookie: u64,
    suspended: Suspended,
    until: Instant,
    port: Option<u16>,
}

impl Net {
    /// Lets a connection come to its end by itself.
    pub(super) fn orphan(&mut self, orphan: Orphan) {
        if self.orphans.len() >= ORPHANS_MAX {
            let oldest = self.orphans.remove(0);
            self.finish_orphan(&oldest);
        }
        self.orphans.push(orphan);
    }

    /// The same once its interface is there; until `until`.
    pub fn suspend_orphan(
        &mut self,
        cookie: u64,
        suspended: Suspended,
        port: Option<u16>,
        until: Instant,
    ) {
        self.suspended.push(SuspendedOrphan { cookie, suspended, until, port });
    }

    /// `record` with what the next instance has to know of an orphan; `None`: there is none.
    pub fn orphan_record(&mut self, cookie: u64, record: Writer) -> Option<Vec<u8>> {
        let is_it = |orphan: &&SuspendedOrphan| orphan.cookie == cookie;
        if let Some(orphan) = self.suspended.iter().find(is_it) {
            let record = begin(record, orphan.port, orphan.until);
            return Some(orphan.suspended.put(record).done());
        }
        let orphan = self.orphans.iter().find(|orphan| orphan.cookie == cookie)?;
        let (at, kept) = (orphan.at, orphan.kept?);
        let record = begin(record, orphan.port, orphan.until);
        self.suspended(at, kept, true).map(|suspended| suspended.put(record).done())
    }

    fn finish_orphan(&mut self, orphan: &Orphan) {
        self.drop_tcp(orphan.at);
        self.release(orphan.at, orphan.kept);
        self.lasting.touch(orphan.cookie);
        if let Some(port) = orphan.port {
            self.tcp_ports.give_back(port);
        }
    }

    /// Has those go on whose interface has come.
    pub fn resume_orphans(&mut self) {
        let now = self.now;
        for orphan in core::mem::take(&mut self.suspended) {
            let SuspendedOrphan { cookie, suspended, until, port } = orphan;
            match suspended.resume(self) {
                Some(Ok((at, kept, resuming))) => {
                    let (kept, resuming) = (Some(kept), Some(resuming));
                    self.orphan(Orphan { cookie, at, until, port, kept, resuming });
                }
                None if now < until => self.suspend_orphan(cookie, suspended, port, until),
                _ => {
                    suspended.drop_it(self);
                    self.lasting.touch(cookie);
                    if let Some(port) = port {
                        self.tcp_ports.give_back(port);
                    }
                }
            }
        }
    }

    /// Forgets the orphans that are done.
    pub fn sweep_orphans(&mut self) {
        let now = self.now;
        let mut at = 0;
        while at < self.orphans.len() {
            let Orphan { at: place, kept, resuming, until, .. } = self.orphans[at];
            let late = now >= until;
            if let (Some(still), Some(kept), false) = (resuming, &kept, late) {
                if self.resumed(place, kept, still).is_some() {
                    self.orphans[at].resuming = None;
                } else {
                    at += 1;
                }
                continue;
            }
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

fn begin(record: Writer, port: Option<u16>, until: Instant) -> Writer {
    record.option(port.map(u32::from)).u64(until.total_micros() as u64)
}
