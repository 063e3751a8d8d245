//! Opening `/dev/kvm`, and saying what to do when that does not work.

use std::io;

use kvm_ioctls::{Cap, Kvm, VmFd};
use xinim_machine::EngineError;

/// The only version of the interface there has been since Linux 2.6.22.
const API_VERSION: i32 = 12;
/// The device node of KVM.
pub const DEVICE: &str = "/dev/kvm";

/// What the engine cannot do without.
const REQUIRED: [(Cap, &str); 4] = [
    (Cap::UserMemory, "user memory"),
    (Cap::Irqchip, "in-kernel interrupt controllers"),
    (Cap::ImmediateExit, "immediate exit"),
    (Cap::SignalMsi, "message-signalled interrupts"),
];

/// Opens KVM; every failure is [`EngineError::Unavailable`] with a sentence.
pub fn open(path: &str) -> Result<Kvm, EngineError> {
    let c_path = std::ffi::CString::new(path)
        .map_err(|_| EngineError::Unavailable("the KVM device's path has a zero byte".into()))?;
    let kvm = Kvm::new_with_path(c_path)
        .map_err(|error| EngineError::Unavailable(explain_open(path, &errno(error))))?;
    let version = kvm.get_api_version();
    if version != API_VERSION {
        return Err(EngineError::Unavailable(format!(
            "{path} speaks version {version} of the KVM interface, not {API_VERSION}"
        )));
    }
    for (capability, name) in REQUIRED {
        if !kvm.check_extension(capability) {
            return Err(EngineError::Unavailable(format!("this host's KVM has no {name}")));
        }
    }
    Ok(kvm)
}

fn explain_open(path: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => format!(
            "{path} does not exist: load the kvm_intel or kvm_amd module and enable \
             virtualization in the firmware, or use --engine qemu"
        ),
        Some(libc::EACCES | libc::EPERM) => format!(
            "no permission to open {path}: add yourself to its group (usually kvm) or run as \
             root, or use --engine qemu"
        ),
        Some(libc::EBUSY) => busy(path),
        Some(libc::ENODEV | libc::ENXIO) => format!(
            "{path} exists but no KVM module answers: load kvm_intel or kvm_amd, or use \
             --engine qemu"
        ),
        Some(libc::ENOTTY) => not_kvm(path),
        _ => format!("{path} cannot be opened ({error}); use --engine qemu"),
    }
}

fn busy(path: &str) -> String {
    format!(
        "{path} is busy: another hypervisor (VirtualBox, say) holds the processor's \
         virtualization; stop it, or use --engine qemu"
    )
}

fn not_kvm(path: &str) -> String {
    format!("{path} is not a KVM device")
}

/// Makes a virtual machine. The first one on a host switches virtualization on, so this, too, can
/// find it taken.
pub fn create_vm(kvm: &Kvm) -> Result<VmFd, EngineError> {
    loop {
        match kvm.create_vm() {
            Ok(vm) => return Ok(vm),
            // A signal during the first machine's set-up.
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) if error.errno() == libc::EBUSY => {
                return Err(EngineError::Unavailable(busy(DEVICE)));
            }
            Err(error) if error.errno() == libc::ENOTTY => {
                return Err(EngineError::Unavailable(not_kvm(DEVICE)));
            }
            Err(error) => {
                return Err(EngineError::Unavailable(format!(
                    "KVM cannot create a machine ({}); use --engine qemu",
                    errno(error)
                )));
            }
        }
    }
}

/// The crates of the KVM family have an error type of their own.
pub fn errno(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

/// For `map_err`: a host failure in the middle of `what`.
pub fn host(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> EngineError {
    move |error| EngineError::Host { context: what.into(), source: errno(error) }
}

/// As [`host`], for the standard library's errors.
pub fn host_io(what: &'static str) -> impl Fn(io::Error) -> EngineError {
    move |source| EngineError::Host { context: what.into(), source }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
