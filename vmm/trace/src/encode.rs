//! Events as the records of a binary trace.
//!
//! ```text
//! "XINIMTRC"  version (u32)  length (u32) of a JSON object about the file, the object
//! record ...                     length of the rest (LEB128), tag, fields
//! ```
//! | tag | record | fields |
//! |---|---|---|
//! | 1 | a device gets a number | number, name |
//! | 2 | a register table gets a number | number, its registers ([`crate::tables`]) |
//! | 3 | a guest process gets a number | number, pid, name |
//! | 4 | events were lost here | how many |
//! | 5 | the end | events written, events lost |
//! | 16 + kind | an event | time since the last one (signed), device, vCPU + 1 (or 0), \
//!   then with a vCPU the instruction pointer less the last one's; process + 1 (or 0); \
//!   bytes that belong to it; the kind's own ([`crate::code`]) |
//!
//! All numbers but those said otherwise are LEB128. Readers skip records they do not know.

use std::collections::HashMap;

use xinim_abi::hw::register::Register;
use xinim_devices::device::Process;
use xinim_devices::trace::Event;

use crate::code;
use crate::tables::put_table;
use crate::wire::{put, put_bytes, put_signed};

pub const MAGIC: &[u8; 8] = b"XINIMTRC";
pub const VERSION: u32 = 1;

/// Tags of records.
pub mod tag {
    pub const DEVICE: u8 = 1;
    pub const TABLE: u8 = 2;
    pub const PROCESS: u8 = 3;
    pub const LOST: u8 = 4;
    pub const END: u8 = 5;
    pub const EVENT: u8 = 16;
}

/// What has been defined so far, and what differences count from.
#[derive(Default)]
pub struct Encoder {
    devices: Vec<Box<str>>,
    /// By address and length.
    tables: HashMap<(usize, usize), u64>,
    processes: HashMap<u32, (Process, u64)>,
    process_count: u64,
    time: u64,
    rip: u64,
    body: Vec<u8>,
    rest: Vec<u8>,
}

/// What stands before the first record.
pub fn header(about: &serde_json::Value) -> Vec<u8> {
    let about = about.to_string();
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((about.len() as u32).to_le_bytes());
    out.extend(about.as_bytes());
    out
}

fn record(out: &mut Vec<u8>, tag: u8, parts: [&[u8]; 2]) {
    put(out, 1 + parts[0].len() as u64 + parts[1].len() as u64);
    out.push(tag);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// A record of numbers only.
pub fn numbers(out: &mut Vec<u8>, tag: u8, numbers: &[u64]) {
    let mut body = Vec::new();
    numbers.iter().for_each(|number| put(&mut body, *number));
    record(out, tag, [&body, &[]]);
}

impl Encoder {
    /// Appends the event, behind definitions of what it is the first to need.
    pub fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        let device = self.device(event.device, out);
        let process = event.origin.process.map_or(0, |process| self.process(process, out) + 1);
        let (mut body, mut rest) = (std::mem::take(&mut self.body), std::mem::take(&mut self.rest));
        body.clear();
        rest.clear();
        let origin = &event.origin;
        put_signed(&mut body, origin.time_ns.wrapping_sub(self.time) as i64);
        self.time = origin.time_ns;
        put(&mut body, device);
        put(&mut body, origin.vcpu.map_or(0, |vcpu| u64::from(vcpu) + 1));
        if origin.vcpu.is_some() {
            put_signed(&mut body, origin.rip.wrapping_sub(self.rip) as i64);
            self.rip = origin.rip;
        }
        put(&mut body, process);
        put_bytes(&mut body, event.data);
        let code = code::put(&event.kind, &mut rest, |decode| self.table(decode.table, out));
        record(out, tag::EVENT + code, [&body, &rest]);
        (self.body, self.rest) = (body, rest);
    }

    fn device(&mut self, name: &str, out: &mut Vec<u8>) -> u64 {
        // A machine has a handful: comparing is faster than hashing.
        if let Some(index) = self.devices.iter().position(|known| **known == *name) {
            return index as u64;
        }
        let index = self.devices.len() as u64;
        self.devices.push(name.into());
        let mut body = Vec::new();
        put(&mut body, index);
        put_bytes(&mut body, name.as_bytes());
        record(out, tag::DEVICE, [&body, &[]]);
        index
    }

    fn process(&mut self, process: Process, out: &mut Vec<u8>) -> u64 {
        match self.processes.get(&process.pid) {
            Some((known, number)) if *known == process => return *number,
            _ => {}
        }
        let number = self.process_count;
        self.process_count += 1;
        self.processes.insert(process.pid, (process, number));
        let mut body = Vec::new();
        put(&mut body, number);
        put(&mut body, process.pid.into());
        put_bytes(&mut body, &process.name);
        record(out, tag::PROCESS, [&body, &[]]);
        number
    }

    fn table(&mut self, table: &'static [Register], out: &mut Vec<u8>) -> u64 {
        let next = self.tables.len() as u64;
        let key = (table.as_ptr() as usize, table.len());
        *self.tables.entry(key).or_insert_with(|| {
            let mut body = Vec::new();
            put(&mut body, next);
            put_table(&mut body, table);
            record(out, tag::TABLE, [&body, &[]]);
            next
        })
    }
}
