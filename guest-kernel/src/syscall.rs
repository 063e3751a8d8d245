//! System calls: from registers to the objects. Numbers, arguments and rights are documented in
//! `xinim_abi::syscall`.

use xinim_abi::error::{Error, Result, encode};
use xinim_abi::object::{DeviceMemoryFlags, Kind, MemoryFlags, Protection, Rights, SELF, USER_END};
use xinim_abi::syscall::{self as nr, control, limit, resource};
use xinim_kernel_logic::refs::Ref;

use crate::device::{self, Device};
use crate::endpoint::{self, Endpoint};
use crate::interrupt::{self, Interrupt};
use crate::memory_object::{self, MemoryObject};
use crate::object::{self, Capability, Object};
use crate::ports::{self, Ports};
use crate::process::{self, Cause, Process};
use crate::thread::{self, Start, Thread};
use crate::{info, ipc, log, physical, power, scheduler, space, time, user};

const PAGE: u64 = 4096;
const MAX_LOG_LINE: u64 = 1024;
const MAX_PORT_BYTES: u64 = 4096;
/// Most of the log that one call copies.
const MAX_LOG_READ: u64 = 4096;

/// Does what the thread asks for in its registers and puts the status there, unless it waits.
#[inline(always)]
pub fn dispatch(thread: Ref<Thread>) {
    let frame = &thread.get().frame;
    let rax = frame.rax.get();
    let handle = (rax >> 32) as u32;
    let status = match u64::from(rax as u32) {
        nr::CALL => match ipc::call(thread, handle) {
            Ok(()) => return,
            Err(error) => encode(Err(error)),
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
        8..=26 => call.object_call(number),
        32..=51 => call.memory_or_hardware(number),
        56..=59 => call.system(number),
        _ => Err(Error::NoSys),
    };
    Outcome::Status(encode(result))
}

impl Call {
    fn object_call(&self, number: u64) -> Result<u64> {
        let a = &self.a;
        match number {
            nr::ENDPOINT_CREATE => {
                let endpoint = endpoint::create(self.process)?;
                self.install_new(Object::Endpoint(endpoint), Rights::all(), 0)
            }
            nr::HANDLE_MINT => self.mint(),
            nr::HANDLE_CLOSE => object::close(self.process, handle(a[0])?).map(|()| 0),
            nr::HANDLE_GIVE => self.give(),
            nr::HANDLE_INFO => {
                let capability = self.capability(a[0])?;
                self.second(u64::from(capability.rights_word()));
                Ok(capability.object.kind() as u64)
            }
            nr::ENDPOINT_OWNER => {
                let endpoint = self.endpoint(a[0], Rights::RECEIVE)?;
                let process = self.other_process(a[1])?;
                if !endpoint.alive.get() {
                    return Err(Error::ServerDied);
                }
                endpoint::set_owner(endpoint, process);
                Ok(0)
            }
            nr::PROCESS_CREATE => self.process_create(),
            nr::PROCESS_LIMIT => self.process_limit(),
            nr::THREAD_CREATE => self.thread_create(),
            nr::THREAD_SET_TLS => {
                if a[0] >= USER_END {
                    return Err(Error::Inval);
                }
                self.thread.fs_base.set(a[0]);
                scheduler::load_fs_base(a[0]);
                Ok(0)
            }
            nr::TIMER_SET => {
                let endpoint = self.endpoint(a[0], Rights::RECEIVE)?;
                if !endpoint.alive.get() {
                    return Err(Error::ServerDied);
                }
                match a[1] {
                    u64::MAX => scheduler::cancel_timer(endpoint),
                    ns => scheduler::set_timer(endpoint, time::deadline(ns)),
                }
                Ok(0)
            }
            nr::WATCH => {
                let pid = u32::try_from(a[0]).map_err(|_| Error::Srch)?;
                let endpoint = self.endpoint(a[1], Rights::RECEIVE)?;
                if !endpoint.alive.get() {
                    return Err(Error::ServerDied);
                }
                process::watch(process::find(pid)?, endpoint, a[2])?;
                Ok(0)
            }
            nr::EVENT_NEXT => self.event_next(),
            _ => Err(Error::NoSys),
        }
    }

    fn memory_or_hardware(&self, number: u64) -> Result<u64> {
        let a = &self.a;
        match number {
            nr::MEMORY_CREATE => {
                let flags = flag_bits(a[1], MemoryFlags::from_bits)?;
                let memory = memory_object::create(Some(self.process), a[0], flags)?;
                let rights = Rights::READ
                    | Rights::WRITE
                    | Rights::EXECUTE
                    | Rights::TRANSFER
                    | Rights::MANAGE;
                self.install_new(Object::Memory(memory), rights, 0)
            }
            nr::MEMORY_MAP => self.memory_map(),
            nr::MEMORY_UNMAP => {
                let process = self.process_or_self(a[0])?;
                space::unmap(process, a[1], a[2]).map(|()| 0)
            }
            nr::MEMORY_INFO => {
                let memory = self.memory(a[0])?.0;
                self.second(u64::from(memory.flags.bits()));
                Ok(memory.length)
            }
            nr::MEMORY_DEVICE => {
                self.resource(a[0], resource::HARDWARE)?;
                self.memory_device()
            }
            nr::DEVICE_CREATE => {
                self.resource(a[0], resource::HARDWARE)?;
                let device = device::create(a[1], a[2])?;
                self.install_new(Object::Device(device), Rights::MANAGE | Rights::TRANSFER, 0)
            }
            nr::DEVICE_PIN => {
                let device = self.device(a[0])?;
                let (memory, rights) = self.memory(a[1])?;
                if !rights.intersects(Rights::READ | Rights::WRITE) {
                    return Err(Error::BadHandle);
                }
                let (address, bytes) = device::pin(device, memory, self.process, a[2])?;
                self.second(bytes);
                Ok(address)
            }
            nr::DEVICE_UNPIN => {
                let device = self.device(a[0])?;
                device::unpin(device, self.memory(a[1])?.0, self.process).map(|()| 0)
            }
            nr::DEVICE_RESET_DONE => {
                device::reset_done(self.device(a[0])?);
                Ok(0)
            }
            nr::IRQ_CREATE => {
                self.resource(a[0], resource::HARDWARE)?;
                let gsi = u32::try_from(a[1]).map_err(|_| Error::Inval)?;
                let interrupt = interrupt::create(self.process.pid, gsi, a[2])?;
                self.second(interrupt.message());
                let rights = Rights::MANAGE | Rights::TRANSFER;
                self.install_new(Object::Interrupt(interrupt), rights, 0)
            }
            nr::IRQ_BIND => {
                let interrupt = self.interrupt(a[0])?;
                let endpoint = self.endpoint(a[1], Rights::RECEIVE)?;
                interrupt::bind(interrupt, endpoint, a[2]).map(|()| 0)
            }
            nr::IRQ_ACK => {
                interrupt::acknowledge(self.interrupt(a[0])?);
                Ok(0)
            }
            nr::PORTS_CREATE => {
                self.resource(a[0], resource::HARDWARE)?;
                let ports = ports::create(a[1], a[2])?;
                self.install_new(Object::Ports(ports), Rights::MANAGE | Rights::TRANSFER, 0)
            }
            nr::PORTS_READ => self.ports(a[0])?.read(a[1], a[2]),
            nr::PORTS_WRITE => self.ports(a[0])?.write(a[1], a[2], a[3]).map(|()| 0),
            nr::PORTS_WRITE_BYTES => {
                let ports = self.ports(a[0])?;
                let mut bytes = [0; MAX_PORT_BYTES as usize];
                let bytes = self.read_user(a[2], a[3], &mut bytes)?;
                ports.write_bytes(a[1], bytes.iter().copied())?;
                Ok(bytes.len() as u64)
            }
            _ => Err(Error::NoSys),
        }
    }

    fn system(&self, number: u64) -> Result<u64> {
        let a = &self.a;
        match number {
            nr::LOG_WRITE => {
                let mut bytes = [0; MAX_LOG_LINE as usize];
                let bytes = self.read_user(a[0], a[1], &mut bytes)?;
                let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
                log::line(self.process.name_bytes(), text.iter().copied());
                Ok(0)
            }
            nr::LOG_READ => self.log_read(),
            nr::INFO => info::write(&self.process, a[0], a[1], a[2], a[3]),
            nr::SYSTEM_CONTROL => {
                self.resource(a[0], resource::POWER)?;
                match a[1] {
                    control::POWER_OFF => power::off(),
                    control::REBOOT => power::reboot(),
                    control::PANIC => panic!("asked for by system call"),
                    _ => Err(Error::Inval),
                }
            }
            _ => Err(Error::NoSys),
        }
    }

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

    fn mint(&self) -> Result<u64> {
        let original = self.capability(self.a[0])?;
        original.has(Rights::TRANSFER)?;
        let wanted = u32::try_from(self.a[1]).map_err(|_| Error::Inval)?;
        if wanted & !original.rights_word() != 0 {
            return Err(Error::BadHandle);
        }
        let badge = self.a[2];
        if badge != original.badge {
            let may = original.object.kind() == Kind::Endpoint
                && original.rights.contains(Rights::RECEIVE);
            if !may {
                return Err(Error::BadHandle);
            }
        }
        let capability = Capability {
            object: original.object,
            rights: Rights::from_bits_truncate(wanted),
            extra: wanted & !Rights::all().bits(),
            badge,
        };
        object::install(self.process, capability).map(u64::from)
    }

    fn give(&self) -> Result<u64> {
        let process = self.other_process(self.a[0])?;
        let mut capability = self.capability(self.a[1])?;
        capability.has(Rights::TRANSFER)?;
        let wanted = u32::try_from(self.a[2]).map_err(|_| Error::Inval)?;
        if wanted & !capability.rights_word() != 0 {
            return Err(Error::BadHandle);
        }
        capability.rights = Rights::from_bits_truncate(wanted);
        capability.extra = wanted & !Rights::all().bits();
        object::install(process, capability).map(u64::from)
    }

    fn process_create(&self) -> Result<u64> {
        let a = &self.a;
        self.resource(a[0], resource::PROCESS)?;
        let endpoint = self.endpoint(a[1], Rights::RECEIVE)?;
        if !endpoint.alive.get() {
            return Err(Error::ServerDied);
        }
        let mut name = [0; 32];
        let len = a[4].min(31) as usize;
        user::read(&self.process, a[3], &mut name[..len])?;
        let process = process::create(self.process.pid, name)?;
        let created = process::watch(process, endpoint, a[2]).and_then(|()| {
            let rights = Rights::MANAGE | Rights::TRANSFER;
            object::install(self.process, Capability::new(Object::Process(process), rights))
        });
        if created.is_err() {
            process::abandon(process);
        }
        let pid = process.pid;
        Object::Process(process).release();
        self.second(u64::from(pid));
        created.map(u64::from)
    }

    fn process_limit(&self) -> Result<u64> {
        let [number, kind, value, ..] = self.a;
        let process = self.other_process(number)?;
        if process.started.get() {
            return Err(Error::Busy);
        }
        let small = u32::try_from(value).map_err(|_| Error::Inval);
        match kind {
            limit::PRIORITY => match small? {
                priority @ 0..=31 => process.priority_limit.set(priority),
                _ => return Err(Error::Inval),
            },
            limit::FRAMES => process.frame_limit.set(value),
            limit::HANDLES => match small? {
                handles @ 0..=4096 => process.handles.set_limit(handles),
                _ => return Err(Error::Inval),
            },
            limit::THREADS => process.thread_limit.set(small?),
            _ => return Err(Error::Inval),
        }
        Ok(0)
    }

    fn kill(&self) -> Result<u64> {
        // A dead process is as dead as was wanted.
        match self.managed(self.a[0])? {
            Object::Process(process) => {
                process::end(process, Cause::Killed(self.a[1] as i64));
                Ok(0)
            }
            _ => Err(Error::BadHandle),
        }
    }

    fn thread_create(&self) -> Result<u64> {
        let [number, entry, stack, argument, priority, fs_base] = self.a;
        let process = self.process_or_self(number)?;
        if entry >= USER_END || stack > USER_END || fs_base >= USER_END {
            return Err(Error::Inval);
        }
        if priority > u64::from(process.priority_limit.get()) {
            return Err(Error::Perm);
        }
        if process.thread_count.get() >= process.thread_limit.get() {
            return Err(Error::Limit);
        }
        let priority = priority as u32;
        let thread = thread::create(process, Start { entry, stack, argument, priority, fs_base })?;
        let rights = Rights::MANAGE | Rights::TRANSFER;
        let capability = Capability::new(Object::Thread(thread), rights);
        match object::install_new(self.process, capability) {
            Ok(number) => {
                process.started.set(true);
                scheduler::make_ready(thread);
                Ok(u64::from(number))
            }
            Err(error) => {
                thread::end(thread);
                Err(error)
            }
        }
    }

    fn event_next(&self) -> Result<u64> {
        let [number, address, len, ..] = self.a;
        let endpoint = self.endpoint(number, Rights::RECEIVE)?;
        let Some(event) = endpoint.events.first() else { return Ok(0) };
        // Written before it is taken, so that a bad pointer loses nothing.
        user::write_record(&self.process, address, len, &event.obituary.get())?;
        endpoint::next_event(endpoint);
        Ok(1)
    }

    fn memory_map(&self) -> Result<u64> {
        let [number, memory, address, offset, length, protection] = self.a;
        let process = self.process_or_self(number)?;
        let (memory, rights) = self.memory(memory)?;
        let protection = flag_bits(protection, Protection::from_bits)?;
        let needed = [
            (Protection::READ, Rights::READ),
            (Protection::WRITE, Rights::WRITE),
            (Protection::EXECUTE, Rights::EXECUTE),
        ];
        for (wanted, right) in needed {
            if protection.contains(wanted) && !rights.contains(right) {
                return Err(Error::BadHandle);
            }
        }
        space::map(process, memory, address, offset, length, protection).map(|()| 0)
    }

    fn memory_device(&self) -> Result<u64> {
        let [_, start, length, flags, ..] = self.a;
        let cache = flag_bits(flags, DeviceMemoryFlags::from_bits)?;
        let end = start.checked_add(length).ok_or(Error::Inval)?;
        let sane = length > 0 && end <= 1 << 46 && (start | length).is_multiple_of(PAGE);
        if !sane || cache == DeviceMemoryFlags::all() {
            return Err(Error::Inval);
        }
        if physical::is_ram(start, end) {
            return Err(Error::Access);
        }
        let memory = memory_object::create_device(start, length, cache)?;
        let rights = Rights::READ | Rights::WRITE | Rights::TRANSFER | Rights::MANAGE;
        self.install_new(Object::Memory(memory), rights, 0)
    }

    fn log_read(&self) -> Result<u64> {
        let [number, position, address, len, ..] = self.a;
        self.resource(number, resource::LOG)?;
        let ring = log::ring();
        let from = ring.clamp(position);
        let count = (ring.end() - from).min(len).min(MAX_LOG_READ);
        let mut bytes = [0; 256];
        let mut done = 0;
        while done < count {
            let here = (count - done).min(bytes.len() as u64) as usize;
            for (at, byte) in (from + done..).zip(&mut bytes[..here]) {
                *byte = ring.at(at);
            }
            user::write(&self.process, address.wrapping_add(done), &bytes[..here])?;
            done += here as u64;
        }
        self.second(from + count);
        Ok(count)
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
