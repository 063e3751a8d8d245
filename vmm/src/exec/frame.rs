//! Frames on a byte stream: `kind u8 | 0 u8 | 0 u16 | length u32 LE | payload`.

use std::io::{self, ErrorKind, Read, Write};

use xinim_abi::hostlink::{FrameError, HEADER_LEN, Header, Kind, MAX_PAYLOAD};

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("unknown frame kind {0:#04x}")]
    UnknownKind(u8),
    #[error("a reserved field is not zero")]
    Reserved,
    #[error("a frame of {0} bytes is longer than the protocol allows")]
    TooLong(u32),
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
}

impl From<FrameError> for ReadError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::UnknownKind(kind) => ReadError::UnknownKind(kind),
            FrameError::Reserved => ReadError::Reserved,
            FrameError::TooLong(len) => ReadError::TooLong(len),
        }
    }
}

/// Reads frames; holds one payload at a time.
#[derive(Debug)]
pub struct FrameReader<R> {
    from: R,
    payload: Vec<u8>,
}

impl<R: Read> FrameReader<R> {
    pub fn new(from: R) -> Self {
        Self { from, payload: Vec::with_capacity(MAX_PAYLOAD) }
    }

    /// The next frame, or `None` at the end of the stream. A stream that ends within a frame
    /// belongs to a machine that died while it was sending: that is an end, too.
    pub fn read(&mut self) -> Result<Option<(Kind, &[u8])>, ReadError> {
        let mut header = [0; HEADER_LEN];
        if !read_full(&mut self.from, &mut header)? {
            return Ok(None);
        }
        let header = Header::decode(&header)?;
        self.payload.resize(header.len, 0);
        if !read_full(&mut self.from, &mut self.payload)? {
            return Ok(None);
        }
        Ok(Some((header.kind, &self.payload)))
    }
}

/// Fills `buffer`, or says `false` if the stream ends before.
fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if ends_stream(e.kind()) => Ok(false),
        Err(e) => Err(e),
    }
}

/// A machine that goes away closes its end, or resets it with bytes still unread.
pub fn ends_stream(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Writes one frame; `payload` is at most [`MAX_PAYLOAD`] bytes.
pub fn write(to: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    if payload.len() > MAX_PAYLOAD {
        return Err(io::Error::new(ErrorKind::InvalidInput, "frame payload too long"));
    }
    let mut frame = Vec::with_capacity(HEADER_LEN + payload.len());
    frame.extend_from_slice(&Header::new(kind, payload.len()).encode());
    frame.extend_from_slice(payload);
    to.write_all(&frame)
}
