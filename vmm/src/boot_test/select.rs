//! From paths to cases: which tests, on which engines, how often, and which share of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::TestFile;
use super::machine;
use crate::cli::TestArgs;
use crate::error::Error;
use crate::spec::EngineChoice;

/// A test on an engine, once.
#[derive(Clone, Debug)]
pub struct Case {
    pub test: Arc<TestFile>,
    pub engine: EngineChoice,
    /// From 1; 0: it is run once only.
    pub round: u32,
}

impl Case {
    /// `NAME [ENGINE]`, with `#ROUND` of several.
    pub fn name(&self) -> String {
        let round = if self.round == 0 { String::new() } else { format!(" #{}", self.round) };
        format!("{} [{}]{round}", self.test.name(), self.engine_name())
    }

    pub fn engine_name(&self) -> &'static str {
        self.engine.name()
    }
}

/// The cases to run, in a fixed order: by path, engine, round.
pub fn cases(args: &TestArgs) -> Result<Vec<Case>, Error> {
    let mut files = Vec::new();
    for path in &args.paths {
        collect(path, true, &mut files)?;
    }
    files.sort();
    files.dedup();
    if files.is_empty() {
        return Err(Error::Usage("no boot tests there: a test is a file ending in .toml".into()));
    }
    let rounds: Vec<u32> = match args.repeat {
        1 => vec![0],
        rounds => (1..=rounds).collect(),
    };
    let mut cases = Vec::new();
    for file in files {
        let test = Arc::new(TestFile::load(&file)?);
        for engine in test.engines() {
            // Said now, with file and line, rather than by each case.
            machine::check(&test, engine)?;
            for &round in &rounds {
                cases.push(Case { test: test.clone(), engine, round });
            }
        }
    }
    let wanted = |case: &Case| {
        let name = case.name();
        args.filter.iter().all(|filter| name.contains(filter.as_str()))
    };
    cases.retain(wanted);
    if let Some(shard) = args.shard {
        let mine = |index: usize| index % shard.of as usize == shard.index as usize - 1;
        let kept = cases.into_iter().enumerate().filter(|(index, _)| mine(*index));
        cases = kept.map(|(_, case)| case).collect();
    } else if cases.is_empty() {
        return Err(Error::Usage("no test's name contains the text of --filter".into()));
    }
    Ok(cases)
}

/// Files named directly, and all `.toml` below directories.
fn collect(path: &Path, named: bool, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |error| Error::file("read", path, error);
    if std::fs::metadata(path).map_err(failed)?.is_dir() {
        for entry in std::fs::read_dir(path).map_err(failed)? {
            collect(&entry.map_err(failed)?.path(), false, files)?;
        }
    } else if named || path.extension().is_some_and(|extension| extension == "toml") {
        files.push(path.to_owned());
    }
    Ok(())
}
