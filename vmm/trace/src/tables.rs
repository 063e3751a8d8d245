//! Register tables read from a file, as the models' own: static, each kept once.
//!
//! An event refers to its register table for as long as the program runs. Equal definitions give
//! the same table, and what hostile files can make us keep is bounded.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use xinim_abi::hw::register::{Direction, Field, Register};

use crate::wire::{Bad, Input, put, put_bytes};

/// Bytes of all definitions together.
const KEPT_MAX: usize = 8 << 20;
/// Registers of a table: E1000 has some 400.
const REGISTERS_MAX: u64 = 8192;
const FIELDS_MAX: u64 = 64;

#[derive(Default)]
struct Kept {
    tables: HashMap<Vec<u8>, &'static [Register]>,
    bytes: usize,
}

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

/// The definition: registers with offset, width, direction, name and fields.
pub fn put_table(out: &mut Vec<u8>, table: &[Register]) {
    put(out, table.len() as u64);
    for register in table {
        put(out, register.offset.into());
        let direction = match register.direction {
            Direction::ReadWrite => 0,
            Direction::ReadOnly => 1,
            Direction::WriteOnly => 2,
        };
        out.extend([register.width, direction]);
        put_bytes(out, register.name.as_bytes());
        put(out, register.fields.len() as u64);
        for field in register.fields {
            out.extend([field.lsb, field.bits]);
            put_bytes(out, field.name.as_bytes());
        }
    }
}

/// The table of a definition.
pub fn get_table(definition: &[u8]) -> Result<&'static [Register], Bad> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(table) = kept.tables.get(definition) {
        return Ok(table);
    }
    if kept.bytes + definition.len() > KEPT_MAX {
        return Err(Bad("the register tables are larger than any trace's"));
    }
    let parsed = parse(&mut Input(definition))?;
    let table: &'static [Register] = Box::leak(parsed.into_iter().map(leak).collect());
    kept.bytes += definition.len();
    kept.tables.insert(definition.to_vec(), table);
    Ok(table)
}

struct Parsed<'a> {
    offset: u32,
    width: u8,
    direction: Direction,
    name: &'a str,
    fields: Vec<(u8, u8, &'a str)>,
}

fn parse<'a>(input: &mut Input<'a>) -> Result<Vec<Parsed<'a>>, Bad> {
    let count = input.u64()?;
    if count > REGISTERS_MAX {
        return Err(Bad("a register table is larger than any device's"));
    }
    let mut table = Vec::new();
    for _ in 0..count {
        let offset: u32 = input.narrow()?;
        let width = input.u8()?;
        if !matches!(width, 1 | 2 | 4 | 8) || offset.checked_add(width.into()).is_none() {
            return Err(Bad("a register is not where or what a register can be"));
        }
        let direction = match input.u8()? {
            0 => Direction::ReadWrite,
            1 => Direction::ReadOnly,
            2 => Direction::WriteOnly,
            _ => return Err(Bad("a register has no known direction")),
        };
        let name = input.text()?;
        let count = input.u64()?;
        if count > FIELDS_MAX {
            return Err(Bad("a register has more fields than bits"));
        }
        let mut fields = Vec::new();
        for _ in 0..count {
            let (lsb, bits) = (input.u8()?, input.u8()?);
            if lsb > 63 || bits == 0 || lsb + bits.min(64) > 64 {
                return Err(Bad("a field lies outside its register"));
            }
            fields.push((lsb, bits, input.text()?));
        }
        table.push(Parsed { offset, width, direction, name, fields });
    }
    Ok(table)
}

fn leak_text(text: &str) -> &'static str {
    Box::leak(text.replace(char::is_control, "?").into_boxed_str())
}

fn leak(parsed: Parsed<'_>) -> Register {
    let field = |(lsb, bits, name): (u8, u8, &str)| Field { name: leak_text(name), lsb, bits };
    let fields: Vec<Field> = parsed.fields.into_iter().map(field).collect();
    let mut register = Register::rw(parsed.offset, leak_text(parsed.name), parsed.width, "");
    register.direction = parsed.direction;
    register.fields(Box::leak(fields.into_boxed_slice()))
}
