//! The host link: a framed protocol over the byte stream of a virtio-console port.
//!
//! It carries what `--exec` needs, byte for byte and each kind apart. The same frames travel
//! through our own virtio-console model (port 0) and through QEMU's `virtserialport`.
//!
//! ```text
//! frame := kind u8 | 0 u8 | 0 u16 | length u32 LE | payload (length <= MAX_PAYLOAD)
//!
//! guest                                   host
//!   Hello(version u32)            ------>
//!                                 <------   Command(UTF-8)        mode=exec only
//!   WantStdin(bytes u32)          ------>                         only when a program reads
//!                                 <------   Stdin(..) | StdinEof
//!   Stdout(..) / Stderr(..)       ------>
//!   Exit(status u32)              ------>                         then the guest powers off
//! ```
//!
//! The host sends at most as many `Stdin` bytes as were asked for in total, so neither side ever
//! buffers without bound. Unknown kinds, non-zero reserved fields and longer payloads are
//! protocol errors: the host reports them and ends the run; the guest ignores the frame.

/// Version in [`Kind::Hello`].
pub const VERSION: u32 = 1;
pub const HEADER_LEN: usize = 8;
pub const MAX_PAYLOAD: usize = 64 * 1024;

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Hello = 1,
    Stdout = 2,
    Stderr = 3,
    WantStdin = 4,
    Exit = 5,
    Command = 0x81,
    Stdin = 0x82,
    StdinEof = 0x83,
}

impl Kind {
    pub fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Kind::Hello,
            2 => Kind::Stdout,
            3 => Kind::Stderr,
            4 => Kind::WantStdin,
            5 => Kind::Exit,
            0x81 => Kind::Command,
            0x82 => Kind::Stdin,
            0x83 => Kind::StdinEof,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    UnknownKind(u8),
    Reserved,
    TooLong(u32),
}

impl Header {
    pub fn new(kind: Kind, len: usize) -> Self {
        debug_assert!(len <= MAX_PAYLOAD);
        Self { kind, len }
    }

    pub fn encode(self) -> [u8; HEADER_LEN] {
        let len = (self.len as u32).to_le_bytes();
        [self.kind as u8, 0, 0, 0, len[0], len[1], len[2], len[3]]
    }

    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let kind = Kind::from_u8(bytes[0]).ok_or(FrameError::UnknownKind(bytes[0]))?;
        if bytes[1..4] != [0, 0, 0] {
            return Err(FrameError::Reserved);
        }
        let len = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        if len as usize > MAX_PAYLOAD {
            return Err(FrameError::TooLong(len));
        }
        Ok(Self { kind, len: len as usize })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_header_decodes_to_itself_or_an_error(bytes: [u8; HEADER_LEN]) {
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }
    }
}
