//! Memory objects, mappings, and the hardware: devices, interrupts, ports.

use xinim_abi::error::{Error, Result};
use xinim_abi::object::{DeviceMemoryFlags, MemoryFlags, Protection, Rights};
use xinim_abi::syscall::{self as nr, resource};
use zerocopy::IntoBytes;

use super::{Call, flag_bits};
use crate::object::Object;
use crate::{device, interrupt, memory_object, physical, ports, space, user};

const PAGE: u64 = 4096;
const MAX_PORT_BYTES: usize = 4096;
/// Grants copied at a time, and bytes of one.
const GRANT_BATCH: usize = 16;
const GRANT_SIZE: u64 = 24;

impl Call {
    pub(super) fn memory_or_hardware(&self, number: u64) -> Result<u64> {
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
            nr::DEVICE_CONFINE => {
                self.resource(a[0], resource::HARDWARE)?;
                device::confine(self.device(a[1])?);
                Ok(0)
            }
            nr::DEVICE_GRANTS => {
                self.resource(a[0], resource::HARDWARE)?;
                self.device_grants()
            }
            nr::DEVICE_RELEASED => {
                self.resource(a[0], resource::HARDWARE)?;
                device::released(self.device(a[1])?);
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
                let mut bytes = [0; MAX_PORT_BYTES];
                let bytes = self.read_user(a[2], a[3], &mut bytes)?;
                ports.write_bytes(a[1], bytes.iter().copied())?;
                Ok(bytes.len() as u64)
            }
            _ => Err(Error::NoSys),
        }
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

    fn device_grants(&self) -> Result<u64> {
        let [_, number, address, len, ..] = self.a;
        let device = self.device(number)?;
        let mut runs = [[0u64; 3]; GRANT_BATCH];
        let (mut filled, mut done) = (0, 0u64);
        let room = len / GRANT_SIZE;
        let flush = |runs: &[[u64; 3]], before: u64| {
            let at = address.wrapping_add(before * GRANT_SIZE);
            user::write(&self.process, at, runs.as_bytes())
        };
        device::grants(device, |start, bytes, pid| {
            if done + filled as u64 == room {
                return Err(Error::Limit);
            }
            runs[filled] = [start, bytes, pid.into()];
            filled += 1;
            if filled == GRANT_BATCH {
                flush(&runs, done)?;
                done += filled as u64;
                filled = 0;
            }
            Ok(())
        })?;
        flush(&runs[..filled], done)?;
        Ok(done + filled as u64)
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
}
