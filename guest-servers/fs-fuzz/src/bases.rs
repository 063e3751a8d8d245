//! The images that get damaged: made by the host's tools (guest-servers/fuzz/make-bases.sh), kept without
//! their zeros.
//!
//! ```text
//! "XINIMSP1", length u32, then: offset u32, length u32, bytes      all little-endian, in order
//! ```

use std::sync::OnceLock;

const MAGIC: &[u8] = b"XINIMSP1";

/// A sound image.
pub struct Base {
    pub bytes: Vec<u8>,
    /// Start and length of the parts that are not empty.
    extents: Vec<(usize, usize)>,
}

impl Base {
    /// From the packed form, which is part of this crate: damage to it is our mistake.
    fn unpack(packed: &[u8]) -> Self {
        let word = |at: usize| {
            let bytes = packed[at..at + 4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes) as usize
        };
        assert!(packed.starts_with(MAGIC), "not a packed image");
        let mut base = Self { bytes: vec![0; word(8)], extents: Vec::new() };
        let mut at = 12;
        while at < packed.len() {
            let (start, len) = (word(at), word(at + 4));
            base.bytes[start..start + len].copy_from_slice(&packed[at + 8..at + 8 + len]);
            base.extents.push((start, len));
            at += 8 + len;
        }
        base
    }

    /// Where the n-th byte of the parts that are not empty stands, modulo their length.
    pub fn place(&self, n: usize) -> usize {
        let total: usize = self.extents.iter().map(|extent| extent.1).sum();
        let mut n = n % total.max(1);
        for &(start, len) in &self.extents {
            if n < len {
                return start + n;
            }
            n -= len;
        }
        0
    }
}

macro_rules! bases {
    ($($(#[$doc:meta])* $name:ident: $($file:literal),*;)*) => {$(
        $(#[$doc])*
        pub fn $name() -> &'static [Base] {
            static BASES: OnceLock<Vec<Base>> = OnceLock::new();
            BASES.get_or_init(|| {
                vec![$(Base::unpack(include_bytes!(concat!("../bases/", $file, ".packed")))),*]
            })
        }
    )*};
}

bases! {
    /// ext4 with extents, an index, without checksums and with; ext3 with a journal to be replayed; ext2.
    ext: "ext4", "ext4-csum", "ext3-dirty", "ext2";
    fat: "fat12", "fat16", "fat32";
    minix: "minix1", "minix2", "minix3";
    iso: "rockridge", "joliet", "plain";
    partitions: "gpt", "mbr", "fat12", "ext2", "rockridge";
}
