//! Which frame may come when, and what follows from it. No input or output happens here.
//!
//! ```text
//! Start --Hello--> Running --Exit--> Exited
//! ```
//!
//! Output is taken in `Running` and `Exited` (a background job may still write while the guest
//! shuts down).

use xinim_abi::hostlink::{Kind, VERSION};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing has been heard.
    #[default]
    Start,
    /// The command has been given.
    Running,
    /// The command has ended with this status.
    Exited(u32),
}

/// What to do for a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    SendCommand,
    Stdout(&'a [u8]),
    Stderr(&'a [u8]),
    /// Send up to so many more bytes of standard input.
    Feed(u32),
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("the guest speaks version {0} of the host link, this program version {VERSION}")]
    Version(u32),
    #[error("a {0:?} frame came before Hello")]
    BeforeHello(Kind),
    #[error("a {0:?} frame came twice")]
    Twice(Kind),
    #[error("a {0:?} frame has a payload of {1} bytes")]
    Payload(Kind, usize),
    #[error("the guest sent a {0:?} frame, which only the host may send")]
    WrongSide(Kind),
}

#[derive(Debug, Default)]
pub struct Protocol {
    state: State,
}

impl Protocol {
    pub fn state(&self) -> State {
        self.state
    }

    pub fn frame<'a>(&mut self, kind: Kind, payload: &'a [u8]) -> Result<Step<'a>, ProtocolError> {
        let word = || {
            let bytes = payload.try_into();
            bytes.map(u32::from_le_bytes).map_err(|_| ProtocolError::Payload(kind, payload.len()))
        };
        match (kind, self.state) {
            (Kind::Command | Kind::Stdin | Kind::StdinEof, _) => {
                Err(ProtocolError::WrongSide(kind))
            }
            (Kind::Hello, State::Start) => match word()? {
                VERSION => {
                    self.state = State::Running;
                    Ok(Step::SendCommand)
                }
                version => Err(ProtocolError::Version(version)),
            },
            (Kind::Hello, _) => Err(ProtocolError::Twice(kind)),
            (_, State::Start) => Err(ProtocolError::BeforeHello(kind)),
            (Kind::Stdout, _) => Ok(Step::Stdout(payload)),
            (Kind::Stderr, _) => Ok(Step::Stderr(payload)),
            (Kind::WantStdin, _) => Ok(Step::Feed(word()?)),
            (Kind::Exit, State::Running) => {
                self.state = State::Exited(word()?);
                Ok(Step::Nothing)
            }
            (Kind::Exit, State::Exited(_)) => Err(ProtocolError::Twice(kind)),
        }
    }
}
