//! The system image inside this program: the kernel and the bundle that the build script built
//! (see `build.rs`), and `image extract`, which writes them out for other loaders and for cpio.

use std::path::Path;
use std::sync::Arc;

use crate::error::Error;

static KERNEL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/image/xinim-kernel"));
static BUNDLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/image/xinim.cpio"));

/// The embedded kernel; an error if this program was built without an image.
pub fn kernel() -> Result<Arc<[u8]>, Error> {
    embedded(KERNEL)
}

/// The embedded bundle.
pub fn bundle() -> Result<Arc<[u8]>, Error> {
    embedded(BUNDLE)
}

fn embedded(bytes: &'static [u8]) -> Result<Arc<[u8]>, Error> {
    if bytes.is_empty() {
        return Err(Error::Usage(
            "this xinim-vmm was built without a system image (XINIM_NO_GUEST); give one with \
             --kernel and --bundle"
                .into(),
        ));
    }
    Ok(bytes.into())
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
