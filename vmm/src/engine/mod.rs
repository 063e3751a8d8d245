//! Chooses the engine that runs a machine.

pub mod kvm;
pub mod qemu;

use xinim_machine::{Engine, EngineError};

use crate::spec::{EngineChoice, QemuOptions};
use qemu::{QemuEngine, locate};

/// An engine, and why it was taken.
pub struct Selection {
    pub engine: Box<dyn Engine>,
    /// One sentence.
    pub why: String,
    /// `auto` did not get its first choice.
    pub fallback: bool,
}

/// Takes the engine asked for; `auto` takes KVM where it is usable, else QEMU.
pub fn select(choice: EngineChoice, options: QemuOptions) -> Result<Selection, EngineError> {
    let qemu = || locate::find().map(|program| QemuEngine { program, options });
    let taken =
        |engine: Box<dyn Engine>, why: String, fallback| Selection { engine, why, fallback };
    match choice {
        // Whether it is usable the engine says best itself.
        EngineChoice::Kvm => Ok(taken(kvm::engine(), "using kvm, as asked".into(), false)),
        EngineChoice::Qemu => match qemu() {
            Some(qemu) => Ok(taken(Box::new(qemu), "using qemu, as asked".into(), false)),
            None => Err(EngineError::Unavailable(locate::MISSING.into())),
        },
        EngineChoice::Auto => match auto(kvm::obstacle(), qemu()) {
            Ok((Taken::Kvm, why)) => Ok(taken(kvm::engine(), why, false)),
            Ok((Taken::Qemu(qemu), why)) => Ok(taken(Box::new(qemu), why, true)),
            Err(why) => Err(EngineError::Unavailable(why)),
        },
    }
}

/// What `auto` takes.
#[derive(Debug)]
pub enum Taken<Q> {
    Kvm,
    Qemu(Q),
}

/// The rule of `auto`, with its reason; also what `doctor` explains.
pub fn auto<Q>(
    kvm_obstacle: Option<String>,
    qemu: Option<Q>,
) -> Result<(Taken<Q>, String), String> {
    match (kvm_obstacle, qemu) {
        (None, _) => Ok((Taken::Kvm, "using kvm: /dev/kvm is usable".into())),
        (Some(obstacle), Some(qemu)) => {
            Ok((Taken::Qemu(qemu), format!("using qemu instead of kvm: {obstacle}")))
        }
        (Some(obstacle), None) => {
            Err(format!("no engine is usable here: {obstacle}; and {}", locate::MISSING))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_prefers_kvm_and_gives_the_reason() {
        assert!(matches!(auto(None, Some(())), Ok((Taken::Kvm, _))));
        assert!(matches!(auto::<()>(None, None), Ok((Taken::Kvm, _))));
        let (taken, why) = auto(Some("there is no /dev/kvm".into()), Some(())).unwrap();
        assert!(matches!(taken, Taken::Qemu(())));
        assert!(why.contains("there is no /dev/kvm"), "{why}");
        let why = auto::<()>(Some("there is no /dev/kvm".into()), None).unwrap_err();
        assert!(why.contains("/dev/kvm") && why.contains("QEMU"), "{why}");
    }
}
