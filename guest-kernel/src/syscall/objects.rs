//! Handles, endpoints, processes, threads, timers, obituaries.

use xinim_abi::error::{Error, Result};
use xinim_abi::info::pulse;
use xinim_abi::object::{Kind, Rights, USER_END};
use xinim_abi::syscall::{self as nr, limit, resource};

use super::{Call, handle};
use crate::endpoint;
use crate::object::{self, Capability, Object};
use crate::process::{self, Cause};
use crate::thread::{self, Start, State};
use crate::{info, scheduler, time, user};

impl Call {
    pub(super) fn object_call(&self, number: u64) -> Result<u64> {
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
                process::watch(process::find(pid)?, endpoint, a[2], false)?;
                Ok(0)
            }
            nr::THREAD_PRIORITY => self.thread_priority(),
            nr::EVENT_NEXT => self.event_next(),
            nr::PROCESS_ADOPT => self.process_adopt(),
            _ => Err(Error::NoSys),
        }
    }

    pub(super) fn probe(&self, number: u32) -> Result<u64> {
        let [bits, address, len, ..] = self.a;
        let endpoint = self.endpoint(number.into(), Rights::RECEIVE)?;
        let Some(owner) = endpoint.owner.get() else { return Err(Error::ServerDied) };
        let waits = endpoint.receiver().is_some();
        let pending = !waits && endpoint.bits.get() & bits != 0;
        if (pending || owner.thread_count.get() > 1) && address != 0 {
            user::write_record(&self.process, address, len, &info::pulse(&owner))?;
        }
        if waits {
            return Ok(pulse::WAITING);
        }
        endpoint::notify(endpoint, bits);
        Ok(if pending { pulse::PENDING } else { pulse::RAISED })
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
        let created = process::watch(process, endpoint, a[2], true).and_then(|()| {
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

    fn process_adopt(&self) -> Result<u64> {
        let a = &self.a;
        self.resource(a[0], resource::PROCESS)?;
        let pid = u32::try_from(a[1]).map_err(|_| Error::Srch)?;
        let endpoint = self.endpoint(a[2], Rights::RECEIVE)?;
        if !endpoint.alive.get() {
            return Err(Error::ServerDied);
        }
        match endpoint::adopt(endpoint, pid, a[3]) {
            Ok(Some(process)) => {
                let rights = Rights::MANAGE | Rights::TRANSFER;
                let capability = Capability::new(Object::Process(process), rights);
                object::install(self.process, capability).map(u64::from)
            }
            Ok(None) => Ok(0),
            Err(Error::Srch) if process::find(pid).is_ok() => Err(Error::Perm),
            Err(error) => Err(error),
        }
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
            limit::PINNED => process.pinned_limit.set(value),
            _ => return Err(Error::Inval),
        }
        Ok(0)
    }

    pub(super) fn kill(&self) -> Result<u64> {
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

    fn thread_priority(&self) -> Result<u64> {
        let Object::Thread(thread) = self.managed(self.a[0])? else {
            return Err(Error::BadHandle);
        };
        if thread.state.get() == State::Dead {
            return Err(Error::Srch);
        }
        if self.a[1] > u64::from(thread.process.priority_limit.get()) {
            return Err(Error::Perm);
        }
        scheduler::set_priority(thread, self.a[1] as u32);
        Ok(0)
    }

    fn event_next(&self) -> Result<u64> {
        let [number, address, len, ..] = self.a;
        let endpoint = self.endpoint(number, Rights::RECEIVE)?;
        let Some(event) = endpoint.events.first() else {
            endpoint::next_event(endpoint);
            return Ok(0);
        };
        // Written before it is taken, so that a bad pointer loses nothing.
        user::write_record(&self.process, address, len, &event.obituary.get())?;
        endpoint::next_event(endpoint);
        Ok(1)
    }
}
