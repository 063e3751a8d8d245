//! Shell completions and man pages, from the same definitions as `--help`.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::Error;

const NAME: &str = "xinim-vmm";

/// Prints the completion script.
pub fn completions(shell: Shell) -> Result<u8, Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    print!("{}", String::from_utf8_lossy(&script));
    Ok(0)
}

/// Writes `xinim-vmm.1`, `xinim-vmm-run.1`, ...
pub fn pages(directory: &Path) -> Result<u8, Error> {
    std::fs::create_dir_all(directory)
        .map_err(|e| Error::file("create the directory", directory, e))?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    page(directory, &command, NAME)?;
    Ok(0)
}

fn page(directory: &Path, command: &Command, name: &str) -> Result<(), Error> {
    let path = directory.join(format!("{name}.1"));
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone().display_name(name.to_owned()))
        .title(name.to_uppercase())
        .render(&mut text)
        .and_then(|()| std::fs::write(&path, &text))
        .map_err(|e| Error::file("write", &path, e))?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        page(directory, sub, &format!("{name}-{}", sub.get_name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        pages(directory.path()).unwrap();
        for name in ["xinim-vmm", "xinim-vmm-run", "xinim-vmm-test", "xinim-vmm-ctl-attach"] {
            let text = std::fs::read_to_string(directory.path().join(format!("{name}.1"))).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{name}: {text}");
        }
        let main = std::fs::read_to_string(directory.path().join("xinim-vmm.1")).unwrap();
        assert!(main.contains("134"), "the exit statuses are in it");
    }

    #[test]
    fn completions_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["doctor", "timeout", "junit"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
