//! Chooses the engine that runs a machine.

pub mod kvm;
pub mod qemu;

use xinim_machine::{Engine, EngineError};

use crate::spec::{EngineChoice, QemuAccel};
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
pub fn select(choice: EngineChoice, accel: QemuAccel) -> Result<Selection, EngineError> {
    let asked = |engine: Box<dyn Engine>| {
        let why = format!("using {}, as asked", engine.name());
        Selection { engine, why, fallback: false }
    };
    match choice {
        EngineChoice::Kvm => {
            kvm::usable()?;
            Ok(asked(kvm::engine()))
        }
        EngineChoice::Qemu => match qemu(accel) {
            Some(engine) => Ok(asked(engine)),
            None => Err(EngineError::Unavailable(locate::MISSING.into())),
        },
        EngineChoice::Auto => match (kvm::usable(), qemu(accel)) {
            (Ok(()), _) => Ok(Selection {
                engine: kvm::engine(),
                why: "using kvm: /dev/kvm is usable".into(),
                fallback: false,
            }),
            (Err(no_kvm), Some(engine)) => {
                Ok(Selection { engine, why: format!("using qemu: {no_kvm}"), fallback: true })
            }
            (Err(no_kvm), None) => {
                Err(EngineError::Unavailable(format!("{no_kvm}; and {}", locate::MISSING)))
            }
        },
    }
}

fn qemu(accel: QemuAccel) -> Option<Box<dyn Engine>> {
    let program = locate::find()?;
    Some(Box::new(QemuEngine { program, accel, icount: false }))
}
