//! Runs cargo for the kernel and for the user programs, both at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::list::List;

/// The only target whose standard library a plain toolchain has; freestanding code for it
/// needs no other.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "guest";

/// Where the results are.
pub struct Built {
    pub kernel: PathBuf,
    /// In the order of the list.
    pub programs: Vec<PathBuf>,
}

pub fn build(root: &Path, target_dir: &Path, list: &List) -> Result<Built, String> {
    let kernel_dir = target_dir.join("kernel");
    let program_dir = target_dir.join("programs");
    let kernel_target = [(list.kernel.package.as_str(), list.kernel.binary.as_str())];
    let program_targets: BTreeSet<_> =
        list.program.iter().map(|p| (p.package.as_str(), p.binary.as_str())).collect();

    let kernel = start(root, &kernel_dir, &list.kernel.rustflags, kernel_target)?;
    let programs = if program_targets.is_empty() {
        None
    } else {
        Some(start(root, &program_dir, &list.programs.rustflags, program_targets)?)
    };
    let kernel = finish("the kernel", kernel);
    let programs = programs.map_or(Ok(()), |child| finish("the user programs", child));
    kernel.and(programs)?;

    let result = |dir: &Path, binary: &str| dir.join(TARGET).join(PROFILE).join(binary);
    Ok(Built {
        kernel: result(&kernel_dir, &list.kernel.binary),
        programs: list.program.iter().map(|p| result(&program_dir, &p.binary)).collect(),
    })
}

fn start<'a>(
    root: &Path,
    target_dir: &Path,
    rustflags: &[String],
    targets: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Child, String> {
    let root_text = root.to_str().ok_or("the path of the workspace is not UTF-8")?;
    let flags: Vec<_> = rustflags.iter().map(|f| f.replace("{root}", root_text)).collect();
    let mut command: Command = crate::cargo();
    command.args(["build", "--quiet", "--profile", PROFILE, "--target", TARGET]);
    command.arg("--target-dir").arg(target_dir);
    for (package, binary) in targets {
        command.args(["-p", package, "--bin", binary]);
    }
    command
        .current_dir(root)
        // Separated by 0x1F, so that a flag may contain spaces.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cargo does not start: {e}"))
}

fn finish(what: &str, child: Child) -> Result<(), String> {
    let output = child.wait_with_output().map_err(|e| format!("waiting for cargo: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("building {what} of the guest failed:\n{stderr}"))
}
