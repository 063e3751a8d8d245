//! Characters of short names: code page 437, which is what most makers of FAT volumes mean.
//!
//! Long names are Unicode and do not pass here. A file whose name fits into eight and three
//! characters may have no long one, though, even with letters beyond ASCII.

use lamfat::OemCpConverter;

/// The upper half of code page 437.
const UPPER: &str = "\
ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{A0}";

#[derive(Clone, Copy, Debug)]
pub struct Cp437;

impl OemCpConverter for Cp437 {
    fn decode(&self, oem: u8) -> char {
        if oem.is_ascii() {
            return char::from(oem);
        }
        UPPER.chars().nth(usize::from(oem) - 128).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    fn encode(&self, unicode: char) -> Option<u8> {
        if unicode.is_ascii() {
            return Some(unicode as u8);
        }
        let at = UPPER.chars().position(|upper| upper == unicode)?;
        u8::try_from(at + 128).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        assert_eq!(UPPER.chars().count(), 128);
        for oem in 0..=255 {
            assert_eq!(Cp437.encode(Cp437.decode(oem)), Some(oem));
        }
        assert_eq!((Cp437.decode(0x81), Cp437.decode(0x8E)), ('ü', 'Ä'));
        assert_eq!(Cp437.encode('中'), None);
    }
}
