//! A TCP socket as a part of its record, see [`crate::lasting::record`].

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use smoltcp::socket::tcp::State as Wire;
use xinim_abi::error::{Error, Result};
use xinim_keep::codec::{Reader, Writer};

use super::listening::Listening;
use super::resume::Suspended;
use super::{BACKLOG_MAX, Connection, State, Tcp};
use crate::common::Net;
use crate::lasting::record;

const IDLE: u8 = 0;
const LISTENING: u8 = 1;
const CONNECTING: u8 = 2;
const CONNECTION: u8 = 3;
const CLOSED: u8 = 4;
/// A connection that is not kept.
const LOST: u8 = 5;

impl Tcp {
    /// For the next instance.
    pub fn put(&self, net: &mut Net, writer: Writer) -> Writer {
        let writer = record::put_local(writer.bool(self.ipv6), self.local, self.ipv6);
        let writer = writer.bool(self.bound).bool(self.chosen);
        match &self.state {
            State::Idle => writer.u8(IDLE),
            State::Listening(listening) => writer.u8(LISTENING).u32(listening.backlog as u32),
            State::Again(remote) => record::put_remote(writer.u8(CONNECTING), Some(*remote)),
            State::Suspended(suspended) => suspended.put(writer.u8(CONNECTION)),
            State::Connection(c) if !c.established && c.seen != Wire::Closed => {
                record::put_remote(writer.u8(CONNECTING), Some(c.remote))
            }
            State::Connection(Connection { at, kept: Some(kept), closing, resuming, .. }) => {
                let ended = resuming.is_none() && !net.tcp(*at).may_send();
                match net.suspended(*at, *kept, *closing || ended) {
                    Some(suspended) => suspended.put(writer.u8(CONNECTION)),
                    None => writer.u8(LOST),
                }
            }
            State::Connection(c) if c.seen != Wire::Closed => writer.u8(LOST),
            State::Lost => writer.u8(LOST),
            State::Rest(_, at, suspended) => suspended.put_rest(writer.u8(CONNECTION), *at),
            State::Connection(_) | State::Closed => writer.u8(CLOSED),
        }
    }

    /// A socket of the last instance.
    pub fn get(reader: &mut Reader<'_>, net: &mut Net) -> Result<Self> {
        let (ipv6, local) = (reader.bool()?, record::local(reader)?);
        let (bound, chosen) = (reader.bool()?, reader.bool()?);
        let state = match reader.u8()? {
            IDLE => State::Idle,
            LISTENING => {
                let backlog = reader.u32()?.clamp(1, BACKLOG_MAX) as usize;
                let local = local.ok_or(Error::BadMessage)?;
                let (waiting, ready) = (Vec::new(), VecDeque::new());
                State::Listening(Listening { local, backlog, waiting, ready })
            }
            CONNECTING => State::Again(record::remote(reader)?.ok_or(Error::BadMessage)?),
            CONNECTION => {
                let suspended = Suspended::get(reader, net)?;
                match suspended.rest(net) {
                    None => State::Suspended(suspended),
                    Some(Ok(rest)) => State::Rest(rest, 0, suspended),
                    Some(Err(_)) => State::Lost,
                }
            }
            LOST => State::Lost,
            CLOSED => State::Closed,
            _ => return Err(Error::BadMessage),
        };
        if let Some(local) = local {
            net.tcp_ports.take(local.port);
            if bound {
                net.tcp_bound.take(local.port);
            }
        }
        Ok(Self { ipv6, local, bound, chosen, state })
    }

    /// What stands for a socket that cannot be kept: its user is told once.
    pub fn lost() -> Self {
        Self { ipv6: false, local: None, bound: false, chosen: false, state: State::Lost }
    }

    /// It was a connection that could not be kept.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }
}
