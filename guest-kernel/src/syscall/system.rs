//! Log, information, power.

use xinim_abi::error::{Error, Result};
use xinim_abi::object::Rights;
use xinim_abi::syscall::{self as nr, control, resource};

use super::Call;
use crate::{info, log, power, trace, user};

const MAX_LOG_LINE: usize = 1024;
/// Most of the log that one call copies.
const MAX_LOG_READ: u64 = 4096;

impl Call {
    pub(super) fn system(&self, number: u64) -> Result<u64> {
        let a = &self.a;
        match number {
            nr::LOG_WRITE => {
                let mut bytes = [0; MAX_LOG_LINE];
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
            nr::TRACE_RING => {
                let (memory, rights) = self.memory(a[0])?;
                if !rights.contains(Rights::READ | Rights::WRITE) {
                    return Err(Error::BadHandle);
                }
                trace::set_ring(&self.process, memory)
            }
            _ => Err(Error::NoSys),
        }
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
