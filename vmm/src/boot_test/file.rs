//! A boot test as written: one TOML file (docs/boot-tests.md has every key).
//!
//! Reading it checks everything that can be checked without booting: keys, regular expressions,
//! trace assertions, files named, and, through the run's own command line, the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::expect::Expected;
use super::script::Step;
use super::trace::{Assertion, Rule};
use crate::config::{Text, describe_toml_error};
use crate::error::Error;
use crate::spec::{EngineChoice, Size, Timeout};

/// A test is written by hand; more than this is some other file.
const FILE_MAX: u64 = 1 << 20;
/// Of a test that does not say.
const TIMEOUT_DEFAULT: &str = "60s";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TestFile {
    /// Where it was read; its directory is where its paths count from.
    #[serde(skip)]
    pub path: PathBuf,
    pub name: Option<String>,
    /// For the reader of the file, and of a report that it failed.
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub engines: Vec<Text<EngineChoice>>,
    #[serde(default = "timeout_default")]
    pub timeout: Text<Timeout>,
    /// Read by the child itself (`--config-in-test`), so that a mistake is told with its line.
    #[serde(default)]
    pub machine: toml::Table,
    #[serde(default)]
    pub options: Vec<String>,
    #[serde(default)]
    pub disk: Vec<MadeDisk>,
    pub exec: Option<String>,
    pub stdin: Option<String>,
    pub stdin_file: Option<PathBuf>,
    #[serde(default)]
    pub console: Vec<Step>,
    #[serde(default)]
    pub expect: Expectations,
    #[serde(default)]
    pub file: Vec<FileCheck>,
    #[serde(default)]
    pub trace: Vec<Text<Assertion>>,
    /// Whether a trace is kept with a failure; by default, whenever there is `--keep`.
    pub keep_trace: Option<bool>,
    #[serde(default)]
    pub fault: Vec<String>,
}

fn timeout_default() -> Text<Timeout> {
    // The constant is a time-out; there is a test.
    Text(TIMEOUT_DEFAULT.parse().unwrap_or(Timeout(std::time::Duration::from_secs(60))))
}

/// A disk made for the test.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MadeDisk {
    /// What `[[file]]` calls it; `disk0`, ... by default.
    pub name: Option<String>,
    /// Of a new disk.
    pub size: Option<String>,
    /// Which `mkfs.FORMAT` of the guest formats it.
    pub format: Option<String>,
    /// Options of that mkfs.
    #[serde(default)]
    pub format_options: String,
    /// An image file of the host, which is copied.
    pub from: Option<PathBuf>,
    /// Path on the disk -> content; put there by the guest.
    #[serde(default)]
    pub files: BTreeMap<String, Content>,
    /// Options of `--disk`.
    #[serde(default)]
    pub options: String,
}

/// Of a file on a made disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    File(HostFile),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFile {
    pub from: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Expectations {
    /// Of `xinim-vmm run`; 0 by default. A console script without it ends the machine itself.
    pub status: Option<u8>,
    pub stdout: Option<Expected>,
    pub stderr: Option<Expected>,
    /// COM1.
    pub console: Option<Expected>,
}

/// A file looked at afterwards: on a disk of the test, or in its scratch directory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileCheck {
    pub disk: Option<String>,
    pub path: String,
    #[serde(default)]
    pub absent: bool,
    pub content: Option<Expected>,
}

impl TestFile {
    pub fn load(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::file("read", path, source);
        let broken = |why: &str| Error::Config { file: path.into(), line: 1, why: why.into() };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if metadata.len() > FILE_MAX {
            return Err(broken("is larger than 1 MiB and hardly a test"));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let mut test: Self =
            toml::from_str(&text).map_err(|error| describe_toml_error(&text, path, &error))?;
        test.path = path.to_owned();
        test.check().map_err(|why| broken(&why))?;
        Ok(test)
    }

    /// What no single key can say about itself.
    fn check(&mut self) -> Result<(), String> {
        if self.exec.is_some() && !self.console.is_empty() {
            return Err("a test has either exec or a console script".into());
        }
        if self.exec.is_none() && (self.stdin.is_some() || self.stdin_file.is_some()) {
            return Err("stdin goes with exec; a console script sends by itself".into());
        }
        if self.exec.is_none() && self.expect.stdout.is_some() {
            return Err("without exec there is no stdout; what COM1 said is expect.console".into());
        }
        if self.stdin.is_some() && self.stdin_file.is_some() {
            return Err("stdin and stdin-file exclude each other".into());
        }
        if !self.disk.is_empty() && self.machine.contains_key("disk") {
            return Err("disks are either all in [[disk]] or all in machine.disk".into());
        }
        for key in ["console", "exec", "timeout", "engine", "trace", "control"] {
            if self.machine.contains_key(key) {
                return Err(format!(
                    "machine.{key} is the test's own business; see the keys of a \
                                    boot test"
                ));
            }
        }
        let name = self.disk.iter().enumerate().map(|(index, disk)| disk.name(index));
        let names: Vec<String> = name.collect();
        let directory = self.directory();
        for (index, disk) in self.disk.iter_mut().enumerate() {
            disk.check().map_err(|why| format!("disk {}: {why}", names[index]))?;
            disk.locate(&directory);
        }
        for check in &mut self.file {
            check.check(&names).map_err(|why| format!("file {}: {why}", check.path))?;
        }
        let expectations = [&mut self.expect.stdout, &mut self.expect.stderr];
        let checks = self.file.iter_mut().map(|check| &mut check.content);
        let all = expectations.into_iter().chain([&mut self.expect.console]).chain(checks);
        for expected in all.flatten() {
            expected.load(&directory)?;
        }
        if let Some(path) = &mut self.stdin_file {
            *path = directory.join(&*path);
        }
        Ok(())
    }

    pub fn directory(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).to_owned()
    }

    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| super::stem(&self.path))
    }

    /// Engines to run on; each makes a case.
    pub fn engines(&self) -> Vec<EngineChoice> {
        if self.engines.is_empty() {
            return vec![EngineChoice::Auto];
        }
        self.engines.iter().map(|engine| engine.0).collect()
    }

    pub fn strict(&self) -> bool {
        self.trace.iter().any(|assertion| matches!(assertion.0, Assertion::StrictClean))
    }

    /// Whether the checker has to say what is broken, so that assertions can count it.
    pub fn counts_violations(&self) -> bool {
        let counts = |assertion: &Assertion| {
            matches!(assertion, Assertion::Device { rule: Rule::Broken { .. }, .. })
        };
        self.trace.iter().any(|assertion| counts(&assertion.0))
    }

    /// Whether the assertions need the trace itself.
    pub fn reads_trace(&self) -> bool {
        self.trace.iter().any(|assertion| !matches!(assertion.0, Assertion::StrictClean))
    }
}

impl MadeDisk {
    pub fn name(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("disk{index}"))
    }

    /// Length of a new disk; `None`: `from` decides.
    pub fn bytes(&self) -> Option<u64> {
        let size = self.size.as_ref()?.parse::<Size>().ok()?;
        size.of_disk().ok()
    }

    fn check(&self) -> Result<(), String> {
        match (&self.size, &self.from) {
            (Some(size), None) => {
                let size = size.parse::<Size>().and_then(Size::of_disk);
                size.map_err(|why| format!("size {why}"))?;
            }
            (None, Some(_)) if self.format.is_some() => {
                return Err("a copy of an image is not formatted again".into());
            }
            (None, Some(_)) => {}
            _ => return Err("needs either size or from".into()),
        }
        let word = |byte: u8| byte.is_ascii_alphanumeric();
        if let Some(format) = &self.format
            && (format.is_empty() || !format.bytes().all(word))
        {
            return Err(format!("`{format}` is no file system"));
        }
        if self.from.is_none() && self.format.is_none() && !self.files.is_empty() {
            return Err("files need a format to put them into".into());
        }
        match self.files.keys().find(|path| !plain(path)) {
            Some(path) => Err(format!("`{path}` must begin with / and lead nowhere else")),
            None => Ok(()),
        }
    }

    fn locate(&mut self, directory: &Path) {
        let files = self.files.values_mut().filter_map(|content| match content {
            Content::File(file) => Some(&mut file.from),
            Content::Text(_) => None,
        });
        for path in files.chain(&mut self.from) {
            *path = directory.join(&*path);
        }
    }
}

impl FileCheck {
    fn check(&self, disks: &[String]) -> Result<(), String> {
        match &self.disk {
            Some(disk) if !disks.contains(disk) => {
                return Err(format!("there is no [[disk]] named {disk}"));
            }
            Some(_) if !plain(&self.path) => {
                return Err("must begin with / and lead nowhere else".into());
            }
            None if !plain(&format!("/{}", self.path)) => {
                return Err("is a path below the scratch directory".into());
            }
            _ => {}
        }
        match (self.absent, &self.content) {
            (true, Some(_)) => Err("cannot be absent and have content".into()),
            (false, None) => Err("says neither content nor absent".into()),
            _ => Ok(()),
        }
    }
}

/// Absolute, without `..`, empty components, quotes or line ends (it passes through a shell).
fn plain(path: &str) -> bool {
    let safe = |c: char| !c.is_control() && c != '\'';
    let component = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.chars().all(safe) && path.strip_prefix('/').is_some_and(|p| p.split('/').all(component))
}
