//! One `KVM_RUN` and what it ended with.
//!
//! kvm-ioctls hands out the data of a port exit without its operand size, and its exit borrows
//! the vCPU; the engine needs both the size and the registers, so [`Runner`] reads the shared
//! `kvm_run` page itself, at this one place.

use std::io;
use std::sync::atomic::AtomicU8;

use kvm_bindings::{
    KVM_EXIT_IO_OUT, KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_SINGLESTEP, KVM_SYSTEM_EVENT_RESET,
    KVM_SYSTEM_EVENT_SHUTDOWN, kvm_guest_debug, kvm_run,
};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd};

use crate::dump::CpuState;

/// Why a vCPU came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `count` operands of `size` bytes wait at [`Runner::port_value`].
    Port {
        port: u16,
        size: u8,
        count: u32,
        write: bool,
    },
    /// `value` is what a write carries; a read waits for [`Runner::set_mmio_value`].
    Mmio {
        address: u64,
        size: u8,
        write: bool,
        value: u64,
    },
    /// A signal, or an exit asked for.
    Interrupted,
    /// Triple fault.
    Shutdown,
    /// The guest asked KVM itself to power off (`false`) or reset (`true`).
    SystemEvent {
        reset: bool,
    },
    InternalError {
        suberror: u32,
    },
    FailEntry {
        reason: u64,
    },
    /// A halt that KVM did not keep to itself; nothing to do but run on.
    Halt,
    /// A breakpoint, watchpoint or single step: vector (1 or 3), address, DR6.
    Debug {
        exception: u32,
        pc: u64,
        dr6: u64,
    },
    /// Any other exit, by number.
    Other(u32),
}

/// A vCPU and its shared page.
pub struct Runner {
    fd: VcpuFd,
    sync: bool,
    /// Offset of the data of a port exit, from the last one.
    port_data: usize,
    port_size: u8,
}

impl Runner {
    /// `sync`: whether KVM can leave the registers in the shared page on every exit.
    pub fn new(mut fd: VcpuFd, sync: bool) -> Self {
        if sync {
            fd.set_sync_valid_reg(SyncReg::Register);
        }
        Self { fd, sync, port_data: 0, port_size: 0 }
    }

    /// The descriptor, for everything but running.
    pub fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// Where another thread may ask for an exit. Valid as long as the runner.
    pub fn immediate_exit(&mut self) -> *const AtomicU8 {
        (&raw mut self.fd.get_kvm_run().immediate_exit).cast::<AtomicU8>().cast_const()
    }

    /// Another thread may have asked for an exit: that has been heard.
    pub fn clear_immediate_exit(&mut self) {
        self.fd.set_kvm_immediate_exit(0);
    }

    /// Completes an access under way, without running an instruction: only then do the registers
    /// mean anything.
    pub fn complete(&mut self) -> io::Result<Exit> {
        self.fd.set_kvm_immediate_exit(1);
        let exit = self.run();
        self.fd.set_kvm_immediate_exit(0);
        exit
    }

    /// All registers; `None` where KVM would not tell.
    pub fn state(&self) -> Option<CpuState> {
        let general = self.fd.get_regs().ok()?;
        let special = self.fd.get_sregs().ok()?;
        Some(CpuState { general, special, fpu: self.fd.get_fpu().ok()? })
    }

    /// Sets general registers and FPU.
    pub fn set_state(&mut self, state: &CpuState) -> Option<()> {
        self.fd.set_regs(&state.general).ok()?;
        self.fd.set_fpu(&state.fpu).ok()
    }

    /// The instruction pointer now.
    pub fn rip_now(&self) -> u64 {
        self.fd.get_regs().map_or(0, |registers| registers.rip)
    }

    /// What to stop for. Interrupts are kept out of a single step where KVM can do that.
    pub fn debug(&mut self, debug: &kvm_guest_debug) {
        let mut calm = *debug;
        if debug.control & KVM_GUESTDBG_SINGLESTEP != 0 {
            calm.control |= KVM_GUESTDBG_BLOCKIRQ;
        }
        if self.fd.set_guest_debug(&calm).is_err() {
            // Without, then; what KVM refuses altogether does not stop, which gdb sees.
            let _ = self.fd.set_guest_debug(debug);
        }
    }

    /// The instruction pointer at the last exit.
    pub fn rip(&self) -> u64 {
        if self.sync {
            self.fd.sync_regs().regs.rip
        } else {
            self.fd.get_regs().map_or(0, |registers| registers.rip)
        }
    }

    /// Enters the guest until it needs something.
    pub fn run(&mut self) -> io::Result<Exit> {
        let exit = match self.fd.run() {
            Ok(VcpuExit::IoIn(..) | VcpuExit::IoOut(..)) => None,
            Ok(VcpuExit::MmioRead(address, data)) => {
                Some(Exit::Mmio { address, size: data.len() as u8, write: false, value: 0 })
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                let mut bytes = [0; 8];
                let size = data.len().min(8);
                bytes[..size].copy_from_slice(&data[..size]);
                let value = u64::from_le_bytes(bytes);
                Some(Exit::Mmio { address, size: size as u8, write: true, value })
            }
            Ok(VcpuExit::Intr) => Some(Exit::Interrupted),
            Ok(VcpuExit::Shutdown) => Some(Exit::Shutdown),
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => {
                Some(Exit::SystemEvent { reset: false })
            }
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => {
                Some(Exit::SystemEvent { reset: true })
            }
            Ok(VcpuExit::FailEntry(reason, _)) => Some(Exit::FailEntry { reason }),
            Ok(VcpuExit::Hlt) => Some(Exit::Halt),
            Ok(VcpuExit::Debug(debug)) => {
                Some(Exit::Debug { exception: debug.exception, pc: debug.pc, dr6: debug.dr6 })
            }
            Ok(_) => None,
            Err(error) => match error.errno() {
                libc::EINTR | libc::EAGAIN => Some(Exit::Interrupted),
                code => return Err(io::Error::from_raw_os_error(code)),
            },
        };
        Ok(exit.unwrap_or_else(|| self.exit_from_page()))
    }

    /// The exits whose details kvm-ioctls leaves out.
    fn exit_from_page(&mut self) -> Exit {
        let run: &kvm_run = self.fd.get_kvm_run();
        match run.exit_reason {
            kvm_bindings::KVM_EXIT_IO => {
                // SAFETY: the exit reason says that KVM filled this field of the union.
                let io = unsafe { run.__bindgen_anon_1.io };
                self.port_data = io.data_offset as usize;
                self.port_size = io.size;
                Exit::Port {
                    port: io.port,
                    size: io.size,
                    count: io.count,
                    write: u32::from(io.direction) == KVM_EXIT_IO_OUT,
                }
            }
            kvm_bindings::KVM_EXIT_INTERNAL_ERROR => {
                // SAFETY: as above.
                let internal = unsafe { run.__bindgen_anon_1.internal };
                Exit::InternalError { suberror: internal.suberror }
            }
            other => Exit::Other(other),
        }
    }

    fn port_operand(&mut self, index: u32) -> *mut u8 {
        let offset = self.port_data + index as usize * usize::from(self.port_size);
        // SAFETY: KVM placed `count` operands at this offset of the page it shares with us, whose
        // mapping is larger than the structure at its start; callers stay below `count`.
        unsafe { (&raw mut *self.fd.get_kvm_run()).cast::<u8>().add(offset) }
    }

    /// Operand `index` (below the exit's count) of a port write.
    pub fn port_value(&mut self, index: u32) -> u64 {
        let mut bytes = [0u8; 8];
        let size = usize::from(self.port_size).min(8);
        let operand = self.port_operand(index);
        // SAFETY: `size` bytes at the operand belong to it; see `port_operand`.
        unsafe { std::ptr::copy_nonoverlapping(operand, bytes.as_mut_ptr(), size) };
        u64::from_le_bytes(bytes)
    }

    /// Answers operand `index` (below the exit's count) of a port read.
    pub fn set_port_value(&mut self, index: u32, value: u64) {
        let bytes = value.to_le_bytes();
        let size = usize::from(self.port_size).min(8);
        let operand = self.port_operand(index);
        // SAFETY: as in `port_value`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), operand, size) };
    }

    /// Answers a read of device memory.
    pub fn set_mmio_value(&mut self, value: u64) {
        // SAFETY: called after an MMIO exit, for which KVM uses this field of the union.
        let mmio = unsafe { &mut self.fd.get_kvm_run().__bindgen_anon_1.mmio };
        mmio.data = value.to_le_bytes();
    }
}
