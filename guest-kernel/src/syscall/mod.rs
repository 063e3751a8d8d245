//! System calls: from registers to the objects. Numbers, arguments and rights are documented in
//! `xinim_abi::syscall`.

mod memory;
mod objects;
mod system;

use xinim_abi::error::{Error, Result, encode};
use xinim_abi::object::{Rights, SELF};
use xinim_abi::syscall as nr;
use xinim_kernel_logic::refs::Ref;

use crate::device::Device;
use crate::endpoint::Endpoint;
use crate::interrupt::Interrupt;
use crate::memory_object::MemoryObject;
use crate::object::{self, Capability, Object};
use crate::ports::Ports;
use crate::process::{self, Cause, Process};
use crate::thread::{self, Thread};
use crate::{ipc, scheduler, time, user};

/// Does what the thread asks for in its registers and puts the status there, unless it waits.
#[inline(always)]
pub fn dispatch(thread: Ref<Thread>) {
    let frame = &thread.get().frame;
    let rax = frame.rax.get();
    let handle = (rax >> 32) as u32;
    let status = match u64::from(rax as u32) {
        nr::CALL => match ipc::call(thread, handle) {
            Ok(()) => return,
            Err(error) => {
                count_refusal(&thread.process, &error);
                encode(Err(error))
            }
        },
        nr::REPLY_WAIT => match ipc::reply_wait(thread, handle, frame.rdi.get()) {
            Ok(()) => return,
            Err(error) => encode(Err(error)),
        },
        number => match other(thread, number, handle) {
            Outcome::Status(status) => status,
            Outcome::Waits => return,
        },
    };
    thread.set_status(status);
}

enum Outcome {
    Status(u64),
    /// The thread waits, or its registers are set already, or it is gone.
    Waits,
}

/// The arguments of a call and who makes it.
struct Call {
    thread: Ref<Thread>,
    process: Ref<Process>,
    a: [u64; 6],
}

#[inline(never)]
fn other(thread: Ref<Thread>, number: u64, handle: u32) -> Outcome {
    let f = &thread.get().frame;
    let a = [f.rdi.get(), f.rsi.get(), f.rdx.get(), f.r10.get(), f.r8.get(), f.r9.get()];
    let call = Call { thread, process: thread.process, a };
    let result = match number {
        nr::NULL => Ok(0),
        nr::RECEIVE => match ipc::receive(thread, handle, a[0]) {
            Ok(()) => return Outcome::Waits,
            Err(error) => Err(error),
        },
        nr::REPLY => ipc::reply(thread, a[0]),
        nr::NOTIFY => ipc::notify(thread, handle, a[0]),
        nr::NOTIFY_WAIT => match ipc::notify_wait(thread, handle, a[0], a[1]) {
            Ok(()) => return Outcome::Waits,
            Err(error) => Err(error),
        },
        nr::PROCESS_EXIT => {
            process::end(thread.process, Cause::Exit(a[0] as i64));
            return Outcome::Waits;
        }
        nr::THREAD_EXIT => {
            thread::exit(thread);
            return Outcome::Waits;
        }
        nr::THREAD_SLEEP => {
            // The status that it will find when it runs again.
            thread.set_status(0);
            match a[0] {
                0 => scheduler::yield_now(thread),
                ns => scheduler::sleep(thread, time::deadline(ns)),
            }
            return Outcome::Waits;
        }
        nr::PROCESS_KILL => {
            let result = call.kill();
            if !thread.process.alive.get() {
                return Outcome::Waits;
            }
            result
        }
        nr::PROBE => call.probe(handle),
        8..=26 | nr::PROCESS_ADOPT | nr::THREAD_PRIORITY => call.object_call(number),
        32..=51 => call.memory_or_hardware(number),
        56..=60 => call.system(number),
        _ => Err(Error::NoSys),
    };
    if let Err(error) = &result {
        count_refusal(&thread.process, error);
    }
    Outcome::Status(encode(result))
}

/// Whoever tries what it may not is to be seen.
#[cold]
fn count_refusal(process: &Process, error: &Error) {
    if matches!(error, Error::Perm | Error::Access | Error::BadHandle | Error::Fault | Error::NoSys)
    {
        process.refused.set(process.refused.get().wrapping_add(1));
    }
}

impl Call {
    /// Sets the second result.
    fn second(&self, value: u64) {
        self.thread.frame.rdx.set(value);
    }

    fn capability(&self, number: u64) -> Result<Capability> {
        object::lookup(self.process, handle(number)?)
    }

    fn install_new(&self, object: Object, rights: Rights, extra: u32) -> Result<u64> {
        let capability = Capability { object, rights, extra, badge: 0 };
        object::install_new(self.process, capability).map(u64::from)
    }

    fn resource(&self, number: u64, needed: u32) -> Result<()> {
        let capability = self.capability(number)?;
        match capability.object {
            Object::Resource if capability.extra & needed == needed => Ok(()),
            _ => Err(Error::BadHandle),
        }
    }

    fn endpoint(&self, number: u64, rights: Rights) -> Result<Ref<Endpoint>> {
        let capability = self.capability(number)?;
        capability.has(rights)?;
        match capability.object {
            Object::Endpoint(endpoint) => Ok(endpoint),
            _ => Err(Error::BadHandle),
        }
    }

    fn memory(&self, number: u64) -> Result<(Ref<MemoryObject>, Rights)> {
        let capability = self.capability(number)?;
        match capability.object {
            Object::Memory(memory) => Ok((memory, capability.rights)),
            _ => Err(Error::BadHandle),
        }
    }

    fn managed(&self, number: u64) -> Result<Object> {
        let capability = self.capability(number)?;
        capability.has(Rights::MANAGE)?;
        Ok(capability.object)
    }

    fn device(&self, number: u64) -> Result<Ref<Device>> {
        match self.managed(number)? {
            Object::Device(device) => Ok(device),
            _ => Err(Error::BadHandle),
        }
    }

    fn interrupt(&self, number: u64) -> Result<Ref<Interrupt>> {
        match self.managed(number)? {
            Object::Interrupt(interrupt) => Ok(interrupt),
            _ => Err(Error::BadHandle),
        }
    }

    fn ports(&self, number: u64) -> Result<Ref<Ports>> {
        match self.managed(number)? {
            Object::Ports(ports) => Ok(ports),
            _ => Err(Error::BadHandle),
        }
    }

    /// A living process named by a handle.
    fn other_process(&self, number: u64) -> Result<Ref<Process>> {
        match self.managed(number)? {
            Object::Process(process) if process.alive.get() => Ok(process),
            Object::Process(_) => Err(Error::Srch),
            _ => Err(Error::BadHandle),
        }
    }

    fn process_or_self(&self, number: u64) -> Result<Ref<Process>> {
        if number == u64::from(SELF) { Ok(self.process) } else { self.other_process(number) }
    }

    /// Copies `len` bytes of the caller's memory into `buffer`, which bounds them.
    fn read_user<'b>(&self, address: u64, len: u64, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
        let len = usize::try_from(len).map_err(|_| Error::Inval)?;
        let bytes = buffer.get_mut(..len).ok_or(Error::Inval)?;
        user::read(&self.process, address, bytes)?;
        Ok(bytes)
    }
}

/// A handle number; what does not fit is none.
fn handle(number: u64) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::BadHandle)
}

/// Flags of 32 bits, all known.
fn flag_bits<T>(bits: u64, from_bits: impl Fn(u32) -> Option<T>) -> Result<T> {
    u32::try_from(bits).ok().and_then(from_bits).ok_or(Error::Inval)
}
