//! QEMU's firmware configuration device (ports 0x510 and 0x511), with what tests ask it for: the
//! size of memory, the number of CPUs, and that there are no files.

use xinim_devices::device::{Access, Device, GuestError, Op, Outcome};

pub const PORT: u16 = 0x510;
pub const PORTS: u16 = 2;

const SIGNATURE: u16 = 0x00;
const ID: u16 = 0x01;
const RAM_SIZE: u16 = 0x03;
const CPUS: u16 = 0x05;
const MAX_CPUS: u16 = 0x0F;
const FILE_DIRECTORY: u16 = 0x19;

/// The device.
#[derive(Debug)]
pub struct FwCfg {
    // Fixed configuration
    memory: u64,
    // Volatile state
    content: Vec<u8>,
    offset: usize,
}

impl FwCfg {
    pub fn new(memory: u64) -> Self {
        Self { memory, content: Vec::new(), offset: 0 }
    }

    fn select(&mut self, key: u16) {
        self.offset = 0;
        self.content = match key {
            SIGNATURE => b"QEMU".to_vec(),
            // The traditional interface only.
            ID => vec![1, 0, 0, 0],
            RAM_SIZE => self.memory.to_le_bytes().to_vec(),
            CPUS | MAX_CPUS => vec![1, 0],
            FILE_DIRECTORY => vec![0; 4],
            _ => Vec::new(),
        };
    }
}

impl Device for FwCfg {
    fn name(&self) -> &str {
        "fw_cfg"
    }

    fn access(&mut self, access: Access) -> Outcome {
        match (access.offset, access.size, access.op) {
            (0, 2, Op::Write(key)) => {
                self.select(key as u16);
                Outcome::done()
            }
            (1, 1, Op::Read) => {
                let byte = self.content.get(self.offset).copied().unwrap_or(0);
                self.offset += 1;
                Outcome::value(u64::from(byte))
            }
            _ => Outcome::error(GuestError::NoRegister, access.size),
        }
    }

    fn reset(&mut self) {
        self.select(SIGNATURE);
    }
}
