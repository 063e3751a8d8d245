//! What all sockets have, whatever their protocol.

use xinim_abi::error::{Error, Result};
use xinim_abi::services::socket::{kind, option};

use crate::icmp::Icmp;
use crate::packet::Packet;
use crate::tcp::Tcp;
use crate::udp::Udp;
use crate::unix::Unix;

/// Bytes a buffer of a socket may have, least and most.
pub const BUFFER_MIN: u64 = 4096;
pub const BUFFER_MAX: u64 = 4 << 20;
const DEFAULT_BUFFER: u64 = 256 * 1024;

/// Options a program can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub reuse_address: bool,
    pub keep_alive: bool,
    pub no_delay: bool,
    pub broadcast: bool,
    pub send_buffer: u64,
    pub receive_buffer: u64,
    /// 0 off; else ns plus one.
    pub linger: u64,
    /// 0: for ever.
    pub receive_timeout: u64,
    pub send_timeout: u64,
    pub hop_limit: u8,
    pub non_blocking: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reuse_address: false,
            keep_alive: false,
            no_delay: false,
            broadcast: false,
            send_buffer: DEFAULT_BUFFER,
            receive_buffer: DEFAULT_BUFFER,
            linger: 0,
            receive_timeout: 0,
            send_timeout: 0,
            hop_limit: 64,
            non_blocking: false,
        }
    }
}

impl Options {
    /// `NoProtoOpt`: no such option, or not to be set; `Inval`: no such value.
    pub fn set(&mut self, option: u32, value: u64) -> Result<()> {
        let flag = value != 0;
        match option {
            option::REUSE_ADDRESS => self.reuse_address = flag,
            option::KEEP_ALIVE => self.keep_alive = flag,
            option::NO_DELAY => self.no_delay = flag,
            option::BROADCAST => self.broadcast = flag,
            option::NON_BLOCKING => self.non_blocking = flag,
            option::SEND_BUFFER => self.send_buffer = value.clamp(BUFFER_MIN, BUFFER_MAX),
            option::RECEIVE_BUFFER => self.receive_buffer = value.clamp(BUFFER_MIN, BUFFER_MAX),
            option::LINGER => self.linger = value,
            option::RECEIVE_TIMEOUT => self.receive_timeout = value,
            option::SEND_TIMEOUT => self.send_timeout = value,
            option::HOP_LIMIT if (1..=255).contains(&value) => self.hop_limit = value as u8,
            option::HOP_LIMIT => return Err(Error::Inval),
            _ => return Err(Error::NoProtoOpt),
        }
        Ok(())
    }

    pub fn get(&self, option: u32) -> Result<u64> {
        Ok(match option {
            option::REUSE_ADDRESS => self.reuse_address.into(),
            option::KEEP_ALIVE => self.keep_alive.into(),
            option::NO_DELAY => self.no_delay.into(),
            option::BROADCAST => self.broadcast.into(),
            option::NON_BLOCKING => self.non_blocking.into(),
            option::SEND_BUFFER => self.send_buffer,
            option::RECEIVE_BUFFER => self.receive_buffer,
            option::LINGER => self.linger,
            option::RECEIVE_TIMEOUT => self.receive_timeout,
            option::SEND_TIMEOUT => self.send_timeout,
            option::HOP_LIMIT => self.hop_limit.into(),
            _ => return Err(Error::NoProtoOpt),
        })
    }
}

/// A socket by its protocol.
pub enum Body {
    Tcp(Tcp),
    Udp(Udp),
    Icmp(Icmp),
    Packet(Packet),
    Unix(Unix),
}

pub struct Socket {
    pub body: Body,
    pub domain: u32,
    pub options: Options,
    /// Told once by option `ERROR` or the next operation.
    pub error: Option<Error>,
    pub read_shut: bool,
    pub write_shut: bool,
    /// The process that opened it, for limits.
    pub owner: u32,
    /// VFS has a descriptor for it: it outlives its owner.
    pub kept: bool,
}

impl Socket {
    pub fn kind(&self) -> u32 {
        match &self.body {
            Body::Tcp(_) => kind::STREAM,
            Body::Udp(_) | Body::Icmp(_) => kind::DATAGRAM,
            Body::Packet(_) => kind::RAW,
            Body::Unix(unix) if unix.is_stream() => kind::STREAM,
            Body::Unix(_) => kind::DATAGRAM,
        }
    }
}

/// A datagram's or byte stream's part as received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// Bytes put into the buffer.
    pub count: usize,
    /// Length of the datagram, more than `count` if it was cut.
    pub full: usize,
    /// The sender's address as it stands in windows; empty if it has none.
    pub from: alloc::vec::Vec<u8>,
}
