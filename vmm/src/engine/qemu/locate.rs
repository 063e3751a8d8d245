//! Finds QEMU on this host.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub const PROGRAM: &str = "qemu-system-x86_64";
/// What to say when it is missing.
pub const MISSING: &str =
    "QEMU is not installed (no qemu-system-x86_64 in PATH; on Debian: apt install qemu-system-x86)";

/// The first executable of that name in `PATH`.
pub fn find() -> Option<PathBuf> {
    find_in(&std::env::var_os("PATH")?)
}

fn find_in(path: &std::ffi::OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|dir| dir.join(PROGRAM)).find(|program| executable(program))
}

fn executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// The version it reports, such as `7.2.22`.
pub fn version(program: &Path) -> Option<String> {
    let output =
        Command::new(program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
    parse_version(&String::from_utf8_lossy(&output.ok()?.stdout))
}

fn parse_version(text: &str) -> Option<String> {
    let version = text.lines().next()?.split_once("version ")?.1;
    Some(version.split([' ', '(']).next()?.to_owned()).filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let text = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright";
        assert_eq!(parse_version(text).as_deref(), Some("7.2.22"));
        assert_eq!(parse_version("QEMU emulator version 10.0.2").as_deref(), Some("10.0.2"));
        assert_eq!(parse_version(""), None);
        assert_eq!(parse_version("bash: not found"), None);
    }

    #[test]
    fn only_programs_count() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(PROGRAM);
        std::fs::create_dir(&program).unwrap();
        assert_eq!(find_in(dir.path().as_os_str()), None);
        std::fs::remove_dir(&program).unwrap();
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        assert_eq!(find_in(dir.path().as_os_str()), Some(program));
    }
}
