//! The host's own tools: file-system makers and checkers. scripts/test.sh installs them.

use std::path::Path;
use std::process::Command;

/// Runs a host tool; fails with its output unless it succeeds.
#[track_caller]
pub fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .env("MTOOLS_SKIP_CHECK", "1")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error} (scripts/test.sh installs it)"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {}\n{text}", output.status);
    text
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().expect("UTF-8 path")
}

/// Arguments of `--disk` for two FAT16 disks in `dir`: /dev/vda on virtio, /dev/sda on AHCI.
pub fn disk_on_each_bus(dir: &Path) -> [String; 2] {
    let images = ["a.img", "b.img"].map(|name| dir.join(name));
    images.iter().for_each(|image| fat_image(image, 32 << 20, 16));
    [arg(&images[0]).to_owned(), format!("{},bus=ahci", arg(&images[1]))]
}

/// An empty image file of `len` bytes with a FAT made by mkfs.fat (`width` 12, 16 or 32).
#[track_caller]
pub fn fat_image(path: &Path, len: u64, width: u32) {
    std::fs::File::create(path).and_then(|file| file.set_len(len)).expect("image");
    tool("mkfs.fat", &["-F", &width.to_string(), arg(path)]);
}

/// fsck.fat finds nothing to mend.
#[track_caller]
pub fn fsck_fat(path: &Path) {
    tool("fsck.fat", &["-n", "-v", arg(path)]);
}

/// Bytes that do not compress or repeat, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
