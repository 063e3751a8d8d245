//! Reads `configs/bundle.toml`: which programs are built how, and where they go in the bundle.

use std::path::Path;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub kernel: Kernel,
    pub programs: Programs,
    /// Directories that are empty at first.
    pub directories: Vec<String>,
    #[serde(rename = "program", default)]
    pub program: Vec<Program>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    pub package: String,
    pub binary: String,
    /// `{root}` stands for the workspace.
    pub rustflags: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Programs {
    pub rustflags: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    pub package: String,
    pub binary: String,
    /// In the bundle, without a leading slash.
    pub path: String,
    /// More names in the same directory (symbolic links), for programs that look at theirs.
    #[serde(default)]
    pub names: Vec<String>,
}

pub fn read(path: &Path) -> Result<List, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}
