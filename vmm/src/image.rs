//! The system image inside this program: the kernel and the bundle that the build script built
//! (see `build.rs`); `image list`, which says what is in them, and `image extract`, which writes them
//! out for other loaders and for cpio.

use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};
use xinim_kvm::bundle::members;

use crate::error::Error;
use crate::output;

static KERNEL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/image/xinim-kernel"));
static BUNDLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/image/xinim.cpio"));

/// The embedded kernel; an error if this program was built without an image.
pub fn kernel() -> Result<Bytes, Error> {
    embedded(KERNEL)
}

/// The embedded bundle.
pub fn bundle() -> Result<Bytes, Error> {
    embedded(BUNDLE)
}

fn embedded(bytes: &'static [u8]) -> Result<Bytes, Error> {
    if bytes.is_empty() {
        return Err(Error::Usage(
            "this xinim-vmm was built without a system image (XINIM_NO_GUEST); give one with \
             --kernel and --bundle"
                .into(),
        ));
    }
    // Where it lies in this program: copied into the guest only.
    Ok(Bytes::from_static(bytes))
}

/// Kind of a file in a mode.
const S_IFMT: usize = 0o170_000;
const S_IFLNK: usize = 0o120_000;

/// Prints the kernel and every file of the bundle.
pub fn list(as_json: bool) -> Result<(), Error> {
    let (kernel, bundle) = (kernel()?, bundle()?);
    output::either(as_json, || list_json(&kernel, &bundle), || list_text(&kernel, &bundle))
}

/// What a symbolic link leads to.
fn target(mode: usize, data: &[u8]) -> Option<String> {
    (mode & S_IFMT == S_IFLNK).then(|| String::from_utf8_lossy(data).into_owned())
}

fn list_json(kernel: &[u8], bundle: &[u8]) -> Value {
    let entry = |(path, mode, data): (&str, usize, &[u8])| {
        json!({
            "path": path,
            "mode": mode,
            "bytes": data.len(),
            "target": target(mode, data),
        })
    };
    json!({
        "kernel": { "bytes": kernel.len() },
        "bundle": { "bytes": bundle.len(), "files": members(bundle).map(entry).collect::<Value>() },
    })
}

fn list_text(kernel: &[u8], bundle: &[u8]) -> String {
    let mut text =
        format!("kernel {} bytes, bundle {} bytes; in the bundle:\n", kernel.len(), bundle.len());
    for (path, mode, data) in members(bundle) {
        let link = target(mode, data).map_or(String::new(), |target| format!(" -> {target}"));
        text.push_str(&format!("{mode:06o} {:>9} {path}{link}\n", data.len()));
    }
    text
}

/// Writes `xinim-kernel` and `xinim.cpio` into `dir`, which is made if missing.
pub fn extract(dir: &Path) -> Result<(), Error> {
    let (kernel, bundle) = (kernel()?, bundle()?);
    std::fs::create_dir_all(dir).map_err(|e| Error::file("create the directory", dir, e))?;
    for (name, data) in [("xinim-kernel", kernel), ("xinim.cpio", bundle)] {
        let path = dir.join(name);
        std::fs::write(&path, data).map_err(|e| Error::file("write", &path, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::{Align, CpioWriter};

    #[test]
    fn what_is_in_a_bundle_is_listed() {
        let mut bundle = CpioWriter::new();
        bundle.file("sbin/rs", 0o755, b"program", Align::Page).unwrap();
        bundle.symlink("bin/cp", "tools").unwrap();
        let bundle = bundle.finish();
        let text = list_text(b"1234", &bundle);
        assert!(text.starts_with("kernel 4 bytes, bundle "), "{text}");
        for line in ["100755         7 sbin/rs", "120777         5 bin/cp -> tools", "040755"] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        let value = list_json(b"1234", &bundle);
        let files = value["bundle"]["files"].as_array().unwrap();
        let rs = files.iter().find(|file| file["path"] == "sbin/rs").unwrap();
        assert_eq!((&rs["mode"], &rs["bytes"]), (&0o100_755.into(), &7.into()));
        assert_eq!(value["kernel"]["bytes"], 4);
    }
}
