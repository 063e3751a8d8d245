//! Registers as data: what a register is called, where it is, what it holds after reset and what
//! a read or a write does to it.
//!
//! Masks and reset values are right-aligned in the register. A register occupies `width` bytes
//! from `offset`; two registers may share bytes only when one is read-only and the other
//! write-only (as RBR and THR of a 16550 do).

/// Which accesses reach the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ReadWrite,
    ReadOnly,
    WriteOnly,
}

/// What a read does besides returning the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRead {
    Nothing,
    /// The register, or the condition it reports, is cleared.
    Clears,
    /// The oldest element of a FIFO is removed.
    Pops,
}

/// A named run of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    /// Lowest bit.
    pub lsb: u8,
    /// Number of bits.
    pub bits: u8,
}

impl Field {
    /// One bit.
    pub const fn bit(lsb: u8, name: &'static str) -> Self {
        Self { name, lsb, bits: 1 }
    }

    /// `bits` bits from `lsb` upwards.
    pub const fn span(lsb: u8, bits: u8, name: &'static str) -> Self {
        Self { name, lsb, bits }
    }

    /// The field's value inside its register.
    pub const fn get(self, register: u64) -> u64 {
        (register >> self.lsb) & ones(self.bits)
    }
}

/// One register of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Byte offset in its block (BAR region, port range, configuration space, capability).
    pub offset: u32,
    pub name: &'static str,
    /// Bytes: 1, 2, 4 or 8.
    pub width: u8,
    /// Value after reset. Where it depends on the device's configuration, the value of the
    /// fixed bits.
    pub reset: u64,
    /// Bits a write changes.
    pub writable: u64,
    /// Bits a write of one clears.
    pub write_one_to_clear: u64,
    pub direction: Direction,
    pub on_read: OnRead,
    pub fields: &'static [Field],
    /// Where the specification defines it.
    pub section: &'static str,
}

impl Register {
    const fn new(
        offset: u32,
        name: &'static str,
        width: u8,
        direction: Direction,
        section: &'static str,
    ) -> Self {
        Self {
            offset,
            name,
            width,
            reset: 0,
            writable: 0,
            write_one_to_clear: 0,
            direction,
            on_read: OnRead::Nothing,
            fields: &[],
            section,
        }
    }

    /// Read-only, zero after reset.
    pub const fn ro(offset: u32, name: &'static str, width: u8, section: &'static str) -> Self {
        Self::new(offset, name, width, Direction::ReadOnly, section)
    }

    /// Read-write in all bits, zero after reset.
    pub const fn rw(offset: u32, name: &'static str, width: u8, section: &'static str) -> Self {
        let mut register = Self::new(offset, name, width, Direction::ReadWrite, section);
        register.writable = register.mask();
        register
    }

    /// Write-only in all bits.
    pub const fn wo(offset: u32, name: &'static str, width: u8, section: &'static str) -> Self {
        let mut register = Self::new(offset, name, width, Direction::WriteOnly, section);
        register.writable = register.mask();
        register
    }

    /// With this value after reset.
    pub const fn reset(mut self, value: u64) -> Self {
        self.reset = value;
        self
    }

    /// With only these bits writable.
    pub const fn writable(mut self, mask: u64) -> Self {
        self.writable = mask;
        self
    }

    /// With these bits write-one-to-clear; they leave the writable mask.
    pub const fn w1c(mut self, mask: u64) -> Self {
        self.write_one_to_clear = mask;
        self.writable &= !mask;
        self
    }

    /// With this side effect of reading.
    pub const fn on_read(mut self, effect: OnRead) -> Self {
        self.on_read = effect;
        self
    }

    /// With these named fields.
    pub const fn fields(mut self, fields: &'static [Field]) -> Self {
        self.fields = fields;
        self
    }

    /// Ones over the register's width.
    pub const fn mask(&self) -> u64 {
        ones(self.width.saturating_mul(8))
    }

    /// First offset behind the register.
    pub const fn end(&self) -> u32 {
        self.offset + self.width as u32
    }

    /// The register's content after `value` was written over `old`.
    pub const fn written(&self, old: u64, value: u64) -> u64 {
        let kept = old & !self.writable & !(value & self.write_one_to_clear);
        kept | (value & self.writable)
    }

    fn answers(&self, write: bool) -> bool {
        match self.direction {
            Direction::ReadWrite => true,
            Direction::ReadOnly => !write,
            Direction::WriteOnly => write,
        }
    }
}

/// The low `bits` bits set.
pub const fn ones(bits: u8) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

/// The register that covers `offset` for accesses of this direction; where only the other
/// direction has one (a write to a read-only register), that one.
pub fn find(table: &'static [Register], offset: u32, write: bool) -> Option<&'static Register> {
    let covers = |r: &&Register| r.offset <= offset && offset < r.end();
    table.iter().filter(covers).find(|r| r.answers(write)).or_else(|| table.iter().find(covers))
}

/// Registers that an access of `size` bytes at `offset` touches, in table order.
pub fn touched(
    table: &'static [Register],
    offset: u32,
    size: u8,
    write: bool,
) -> impl Iterator<Item = &'static Register> {
    let end = offset.saturating_add(u32::from(size));
    table.iter().filter(move |r| r.offset < end && offset < r.end() && r.answers(write))
}

/// What of a register an access of `size` bytes at `offset` of its table covers, if it touches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Bytes of the register below the access.
    pub skipped: u32,
    /// The access's value in its place in the register.
    pub value: u64,
    /// Ones over what is covered.
    pub mask: u64,
}

/// See [`Part`]; `value` is the access's, right-aligned.
pub fn part(register: &Register, offset: u32, size: u8, value: u64) -> Part {
    let skipped = offset.saturating_sub(register.offset).min(7);
    // Bytes of the access below the register.
    let shift = register.offset.saturating_sub(offset).min(7);
    let count = (u32::from(size) - shift).min(u32::from(register.width) - skipped);
    let mask = ones((count * 8) as u8) << (8 * skipped);
    Part { skipped, value: ((value >> (8 * shift)) << (8 * skipped)) & mask, mask }
}

#[cfg(test)]
#[path = "register_tests.rs"]
mod tests;
