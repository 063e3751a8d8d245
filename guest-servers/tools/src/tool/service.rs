//! `service list|statistics|alerts|graph`, `service status|history|restarts|start|stop|restart NAME`,
//! `service dump|core NAME`, `service kill [--wild|--hang|--block] NAME`, `service load|unload|update`, `lspci`

use alloc::string::String;
use core::fmt::Write;

use xinim_os::{Error, base_name, read_file, service_control as control, service_query as query};

use crate::Context;

const USAGE: &str = "usage: service [--json] list|statistics|alerts
       service [--json] history|restarts [NAME]
       service graph [--dot]
       service status NAME
       service start|stop|restart NAME
       service kill [--wild|--hang|--block] NAME
       service dump NAME
       service core NAME > FILE
       service load FILE.toml [PROGRAM]
       service unload NAME
       service update NAME PROGRAM
       service batch
kill ends the instance as a crash would: --wild makes it write through a wild pointer, --hang makes
it spin and --block sleep until its heartbeat is missed. dump kills it and keeps a core, as every
fault does; core writes the newest one, an ELF file. update replaces a running service's program
and goes back to the old one when the new one fails in its first second. restarts says what the times
down were made of (us). batch reads commands from standard input: kill, wild, hang, block, start,
stop or restart NAME; list; counts; settle (wait until all run and their spares stand by);
mark TEXT; wait MS; run PROGRAM.";

pub fn run(c: &mut Context<'_>) -> i32 {
    let words: alloc::vec::Vec<&str> = c.args.iter().map(String::as_str).collect();
    let json = words.first() == Some(&"--json");
    let show = if json { as_json } else { as_table };
    let (operation, name) = match &words[usize::from(json)..] {
        [] | ["list"] => return ask(c, query::LIST, "", show),
        ["batch"] => return super::service_batch::run(c),
        ["statistics"] => return ask(c, query::STATISTICS, "", show),
        ["alerts"] => return ask(c, query::ALERTS, "", show),
        ["history"] => return ask(c, query::HISTORY, "", show),
        ["history", name] => return ask(c, query::HISTORY, name, show),
        ["restarts"] => return ask(c, query::RESTARTS, "", show),
        ["restarts", name] => return ask(c, query::RESTARTS, name, show),
        ["classes"] => return ask(c, query::CLASSES, "", show),
        ["graph"] => return ask(c, query::GRAPH, "", show),
        ["graph", "--dot"] => return ask(c, query::GRAPH, "", as_dot),
        ["status", name] => return ask(c, query::STATUS, name, as_it_is),
        ["core", name] => return core(c, name),
        ["load", file] => return load(c, file, None),
        ["load", file, program] => return load(c, file, Some(program)),
        ["unload", name] => return unload(c, name),
        ["update", name, program] => return update(c, name, program),
        ["start", name] => (control::START, *name),
        ["stop", name] => (control::STOP, *name),
        ["restart", name] => (control::RESTART, *name),
        ["kill", "--wild", name] | ["kill", name, "--wild"] => (control::INJECT_FAULT, *name),
        ["kill", "--hang", name] | ["kill", name, "--hang"] => (control::INJECT_HANG, *name),
        ["kill", "--block", name] | ["kill", name, "--block"] => (control::INJECT_BLOCK, *name),
        ["dump", name] if !name.starts_with('-') => (control::DUMP, *name),
        ["kill", name] if !name.starts_with('-') => (control::KILL, *name),
        _ => return c.usage(USAGE),
    };
    if let Err(error) = c.os.service_control(operation, name) {
        c.problem(name, error);
    }
    0
}

/// The newest core, to standard output.
fn core(c: &mut Context<'_>, name: &str) -> i32 {
    match c.os.service_core(name) {
        Ok(bytes) => c.out.write(&bytes),
        Err(Error::NoEnt) => c.problem(name, "there is no core"),
        Err(error) => c.problem(name, error),
    }
    0
}

/// A file's bytes; what goes wrong is reported.
fn read(c: &mut Context<'_>, path: &str) -> Option<alloc::vec::Vec<u8>> {
    let file = c.open_input(path)?;
    match read_file(c.os, file.fd) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            c.problem(path, error);
            None
        }
    }
}

fn load(c: &mut Context<'_>, file: &str, program: Option<&str>) -> i32 {
    let Some(name) = base_name(file).strip_suffix(".toml") else {
        return c.usage("load: the manifest's file is called NAME.toml");
    };
    let Some(text) = read(c, file) else { return 1 };
    let program = match program.map(|path| read(c, path)) {
        None => alloc::vec::Vec::new(),
        Some(Some(bytes)) => bytes,
        Some(None) => return 1,
    };
    match c.os.service_load(name, &text, &program) {
        Ok(None) => {}
        Ok(Some(reason)) => c.problem(file, reason),
        Err(error) => c.problem(file, error),
    }
    0
}

fn unload(c: &mut Context<'_>, name: &str) -> i32 {
    let unloaded = match c.os.service_unload(name) {
        // Asked to end first, if it runs.
        Err(Error::Busy) => {
            c.os.service_control(control::STOP, name).and_then(|_| c.os.service_unload(name))
        }
        other => other,
    };
    match unloaded {
        Ok(None) => {}
        Ok(Some(reason)) => c.problem(name, reason),
        Err(Error::Perm) => c.problem(name, "was not loaded, it is part of the system image"),
        Err(error) => c.problem(name, error),
    }
    0
}

fn update(c: &mut Context<'_>, name: &str, program: &str) -> i32 {
    let Some(bytes) = read(c, program) else { return 1 };
    match c.os.service_update(name, &bytes) {
        Ok(false) => {}
        Ok(true) => c.problem(name, "the new program failed; the old one runs again"),
        Err(Error::Busy) => c.problem(name, "does not run, or is being updated"),
        Err(error) => c.problem(name, error),
    }
    0
}

/// Titles of the columns.
fn titles(kind: u32) -> &'static str {
    match kind {
        query::LIST => "NAME\tSTATE\tPID\tRESTARTS\tPROGRAM\tLOCATION",
        query::HISTORY => "TIME\tNAME\tCAUSE\tDETAIL\tDOWN",
        query::RESTARTS => "TIME\tNAME\tPROCESS\tHEARD\tWAITED\tLAUNCH\tUP\tDOWN",
        query::CLASSES => "CLASS\tNAME",
        query::FUNCTIONS => "LOCATION\tID\tCLASS\tDRIVER",
        query::ALERTS => "TIME\tALERT",
        query::GRAPH => "NAME\tRELATION\tTARGET",
        query::STATISTICS => {
            "NAME\tSTATE\tPID\tCRASHES\tRESTARTS\tDOWN\tLONGEST\tDETECTION\tCPU\tMEMORY\tHEARTBEAT\t\
             REFUSED\tCAUSES"
        }
        _ => "",
    }
}

fn ask(c: &mut Context<'_>, kind: u32, name: &str, show: fn(&mut Context<'_>, u32, &str)) -> i32 {
    match c.os.service_query(kind, name) {
        Ok(text) => show(c, kind, &text),
        Err(error) => {
            c.problem(name, error);
            return 1;
        }
    }
    0
}

fn as_it_is(c: &mut Context<'_>, _kind: u32, text: &str) {
    c.out.write(text.as_bytes());
}

fn as_table(c: &mut Context<'_>, kind: u32, text: &str) {
    table(c, titles(kind), text);
}

/// An array with an object for each line; every value is a string.
fn as_json(c: &mut Context<'_>, kind: u32, text: &str) {
    let mut out = String::from("[");
    for (number, line) in text.lines().enumerate() {
        out.push_str(if number == 0 { "\n" } else { ",\n" });
        let fields = titles(kind).split('\t').zip(line.split('\t'));
        for (column, (title, field)) in fields.enumerate() {
            let before = if column == 0 { "  {" } else { ", " };
            let _ = write!(out, "{before}{}: {}", quoted(&title.to_lowercase()), quoted(field));
        }
        out.push('}');
    }
    out.push_str(if text.is_empty() { "]\n" } else { "\n]\n" });
    c.out.write(out.as_bytes());
}

/// A string of JSON (RFC 8259, 7) and of DOT.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            c if c < ' ' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The graph for Graphviz.
fn as_dot(c: &mut Context<'_>, _kind: u32, text: &str) {
    let _ = writeln!(c.out, "digraph services {{");
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (Some(from), Some(kind), Some(to)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let style = match kind {
            "needs" => "style=bold",
            "wants" => "style=solid",
            "notify" => "style=dotted, dir=back",
            "calls" => "style=dashed",
            _ => "style=dashed, color=gray",
        };
        let (from, to) = (quoted(from), quoted(to));
        let _ = writeln!(c.out, "  {from} -> {to} [label={}, {style}];", quoted(kind));
    }
    let _ = writeln!(c.out, "}}");
}

/// Tab-separated lines, each column as wide as its widest field.
fn table(c: &mut Context<'_>, titles: &str, text: &str) {
    let mut widths = alloc::vec::Vec::new();
    let lines = || core::iter::once(titles).chain(text.lines());
    for line in lines() {
        for (column, field) in line.split('\t').enumerate() {
            let width = field.chars().count();
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    for line in lines() {
        let mut shown = String::new();
        for (field, width) in line.split('\t').zip(&widths) {
            let _ = write!(shown, "{field:width$}  ");
        }
        let _ = writeln!(c.out, "{}", shown.trim_end());
    }
}

/// PCI functions and who drives them.
pub fn lspci(c: &mut Context<'_>) -> i32 {
    ask(c, query::FUNCTIONS, "", as_table)
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn strings_are_quoted() {
        assert_eq!(quoted("a \"b\"\\\t"), "\"a \\\"b\\\"\\\\\\u0009\"");
    }
}
