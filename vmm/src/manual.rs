//! Shell completions and man pages, from the same definitions as `--help`.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::Error;
use crate::output;

const NAME: &str = "xinim-vmm";

/// Prints the completion script.
pub fn completions(shell: Shell) -> Result<u8, Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
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

    /// Every command that is shown, with the name of its page.
    fn commands(command: &Command, name: &str, found: &mut Vec<(String, Command)>) {
        found.push((name.to_owned(), command.clone()));
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            commands(sub, &format!("{name}-{}", sub.get_name()), found);
        }
    }

    fn all() -> Vec<(String, Command)> {
        let mut found = Vec::new();
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        commands(&command, NAME, &mut found);
        assert!(found.len() > 30, "{}", found.len());
        found
    }

    /// Whoever reads a page or a completion finds every command and option, and what it is for.
    #[test]
    fn everything_is_explained() {
        for (name, command) in all() {
            assert!(command.get_about().is_some(), "{name} is not explained");
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let id = arg.get_id();
                // What its name says, where the command says the rest.
                let plain = arg.get_long().is_none() || id.as_str() == "json";
                assert!(plain || arg.get_help().is_some(), "{name}: {id} is not explained");
            }
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        pages(directory.path()).unwrap();
        for (name, command) in all() {
            let text = std::fs::read_to_string(directory.path().join(format!("{name}.1"))).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{name}: {text}");
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                if let Some(long) = arg.get_long() {
                    let option = long.replace('-', "\\-");
                    assert!(text.contains(&option), "{name}: no --{long} in\n{text}");
                }
            }
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
            for (name, command) in all().into_iter().skip(1) {
                assert!(script.contains(command.get_name()), "{shell}: {name}");
                for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                    let long = arg.get_long().unwrap_or_default();
                    assert!(script.contains(long), "{shell}: {name} --{long}");
                }
            }
        }
    }
}
