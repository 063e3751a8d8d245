//! Reader of program files: ELF64, little-endian, x86_64, ET_EXEC (System V gABI, chapter 4 and 5).

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const PT_LOAD: u32 = 1;

/// A PT_LOAD segment; `offset + file_size` is inside the file and `address + memory_size` does
/// not overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub address: u64,
    pub file_size: u64,
    pub memory_size: u64,
    pub writable: bool,
    pub executable: bool,
}

pub struct Program<'a> {
    file: &'a [u8],
    pub entry: u64,
    headers: u64,
    count: u16,
}

fn u16_at(file: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(file.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(file.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(file: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(file.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

impl<'a> Program<'a> {
    /// `None`: not a program this kernel loads.
    pub fn parse(file: &'a [u8]) -> Option<Self> {
        let header = file.get(..HEADER)?;
        // Magic, 64-bit, little-endian, version 1.
        let known = header[..7] == [0x7F, b'E', b'L', b'F', 2, 1, 1]
            && u16_at(header, 16)? == 2
            && u16_at(header, 18)? == 62
            && usize::from(u16_at(header, 54)?) == PROGRAM_HEADER;
        known.then_some(())?;
        let program = Self {
            file,
            entry: u64_at(header, 24)?,
            headers: u64_at(header, 32)?,
            count: u16_at(header, 56)?,
        };
        // Every header must be readable, and every segment sane.
        for number in 0..program.count {
            program.header(number)?;
        }
        Some(program)
    }

    /// `Some(None)`: another kind of segment.
    fn header(&self, number: u16) -> Option<Option<Segment>> {
        let at = usize::try_from(self.headers)
            .ok()?
            .checked_add(usize::from(number) * PROGRAM_HEADER)?;
        let kind = u32_at(self.file, at)?;
        if kind != PT_LOAD {
            return Some(None);
        }
        let flags = u32_at(self.file, at.checked_add(4)?)?;
        let segment = Segment {
            offset: u64_at(self.file, at + 8)?,
            address: u64_at(self.file, at + 16)?,
            file_size: u64_at(self.file, at + 32)?,
            memory_size: u64_at(self.file, at + 40)?,
            executable: flags & 1 != 0,
            writable: flags & 2 != 0,
        };
        let sane = segment.offset.checked_add(segment.file_size)? <= self.file.len() as u64
            && segment.file_size <= segment.memory_size
            && segment.address.checked_add(segment.memory_size)? < 1 << 47
            && (segment.address ^ segment.offset).is_multiple_of(4096);
        sane.then_some(Some(segment))
    }

    /// The PT_LOAD segments that hold anything.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        (0..self.count)
            .filter_map(|number| self.header(number).flatten())
            .filter(|segment| segment.memory_size > 0)
    }
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
