//! The KVM engine, as the front sees it.

use xinim_machine::{Engine, EngineError};

/// Whether KVM can be used here, found out by opening it. The error says why not.
pub fn usable() -> Result<(), EngineError> {
    Err(EngineError::Unavailable("this build has no KVM engine".into()))
}

pub fn engine() -> Box<dyn Engine> {
    unreachable!()
}
