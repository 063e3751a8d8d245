//! What can keep `xinim-vmm` from doing what it was asked: one sentence for the user and one exit
//! status for the shell.

use std::path::{Path, PathBuf};

use xinim_abi::exit;
use xinim_machine::EngineError;

use crate::kernel::KernelError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of an option or a configuration key that does not parse.
    #[error("{what} `{text}`: {why}")]
    Value { what: &'static str, text: String, why: String },
    /// The configuration file, with the line (1-based) where it goes wrong.
    #[error("{}:{line}: {why}", .file.display())]
    Config { file: PathBuf, line: usize, why: String },
    /// A file that cannot be used.
    #[error("cannot {action} {}: {source}", .path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    /// The kernel is nothing that can be booted here.
    #[error("kernel {name}: {why}")]
    Kernel { name: String, why: KernelError },
    /// Options that do not go together, and the like.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Error {
    pub fn file(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Error::File { action, path: path.to_owned(), source }
    }

    /// The exit status of the process (see `xinim_abi::exit`).
    pub fn status(&self) -> u8 {
        match self {
            Error::Engine(EngineError::Unavailable(_)) => exit::NO_ENGINE,
            _ => exit::VMM_FAILED,
        }
    }
}
