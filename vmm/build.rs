//! Builds the guest (kernel and user programs) inside the same workspace and packs the system
//! image that `src/image.rs` embeds. What goes in is listed in `configs/bundle.toml`.
//!
//! Cargo is run again for each of two target directories, because the kernel is compiled with
//! flags of its own; `--target` is given although it is the host's, so that those flags reach
//! the guest's code only and not its build scripts and procedural macros. Both directories live
//! beside the VMM's own profiles and are shared by them: a debug and a release VMM carry the
//! same guest, built once.
//!
//! `XINIM_NO_GUEST=1` skips all this and embeds nothing, for working on the VMM alone.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[path = "src/cpio.rs"]
#[allow(dead_code)]
mod cpio;
#[path = "build/guest.rs"]
mod guest;
#[path = "build/list.rs"]
mod list;
#[path = "build/manifests.rs"]
mod manifests;
#[path = "build/pack.rs"]
mod pack;

/// What the image is made of, relative to the workspace.
const SOURCES: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "configs",
    "guest-drivers",
    "guest-kernel",
    "guest-servers",
    "shared-abi",
    "vmm/build.rs",
    "vmm/build",
    "vmm/src/cpio.rs",
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let root = PathBuf::from(env("CARGO_MANIFEST_DIR")?).join("..");
    let root = root.canonicalize().map_err(|e| format!("workspace: {e}"))?;
    let out = PathBuf::from(env("OUT_DIR")?).join("image");
    std::fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;

    println!("cargo::rerun-if-env-changed=XINIM_NO_GUEST");
    let (kernel, bundle) = if std::env::var_os("XINIM_NO_GUEST").is_some_and(|v| v == "1") {
        println!("cargo::rerun-if-changed=build.rs");
        (Vec::new(), Vec::new())
    } else {
        for source in SOURCES {
            println!("cargo::rerun-if-changed={}", root.join(source).display());
        }
        let list = list::read(&root.join("configs/bundle.toml"))?;
        manifests::check(&root, &list)?;
        let built = guest::build(&root, &guest_target_dir()?, &list)?;
        let kernel = read(&built.kernel)?;
        (kernel, pack::bundle(&root, &list, &built.programs)?)
    };
    write(&out.join("xinim-kernel"), &kernel)?;
    write(&out.join("xinim.cpio"), &bundle)
}

/// `target/guest` where `OUT_DIR` is the usual `target/<profile>/build/<package>/out`.
fn guest_target_dir() -> Result<PathBuf, String> {
    let out = PathBuf::from(env("OUT_DIR")?);
    let build = out.ancestors().find(|dir| dir.file_name().is_some_and(|name| name == "build"));
    let target = build.and_then(Path::parent).and_then(Path::parent);
    Ok(target.map_or(out.join("guest"), |target| target.join("guest")))
}

fn env(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("{name} is not set; this is run by cargo"))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, data: &[u8]) -> Result<(), String> {
    std::fs::write(path, data).map_err(|e| format!("{}: {e}", path.display()))
}

/// A cargo that knows nothing of the build it runs in, except its job slots.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    let inherited = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in inherited {
        let of_outer_build = matches!(
            name.as_str(),
            "RUSTFLAGS"
                | "CARGO_ENCODED_RUSTFLAGS"
                | "RUSTC_WRAPPER"
                | "RUSTC_WORKSPACE_WRAPPER"
                | "RUSTDOC"
                | "RUSTC_LINKER"
                | "CLIPPY_ARGS"
                | "CLIPPY_CONF_DIR"
                | "LLVM_PROFILE_FILE"
        );
        let of_outer_config = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_FEATURE_"];
        if of_outer_build || of_outer_config.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}
