//! Numbers and text as bytes: LEB128, zigzag for differences, length before text.

/// What a reader ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad(pub &'static str);

/// Appends `value`, seven bits a byte, lowest first.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a difference; small ones of either sign are short.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, (value << 1 ^ value >> 63) as u64);
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads from a record; every length is checked against what is there.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn u8(&mut self) -> Result<u8, Bad> {
        let (&byte, rest) =
            self.0.split_first().ok_or(Bad("a record is shorter than it must be"))?;
        self.0 = rest;
        Ok(byte)
    }

    pub fn u64(&mut self) -> Result<u64, Bad> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7F);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Bad("a number is longer than 64 bits"))
    }

    pub fn signed(&mut self) -> Result<i64, Bad> {
        let value = self.u64()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, Bad> {
        T::try_from(self.u64()?).map_err(|_| Bad("a number is out of its range"))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Bad> {
        let length = self.u64()?;
        let length = usize::try_from(length).ok().filter(|length| *length <= self.0.len());
        let length = length.ok_or(Bad("a text is longer than its record"))?;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(bytes)
    }

    pub fn text(&mut self) -> Result<&'a str, Bad> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Bad("a text is not UTF-8"))
    }
}
