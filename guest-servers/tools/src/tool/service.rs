//! `service list`, `service status|history|start|stop|restart NAME`,
//! `service kill [--wild|--hang] NAME`, `lspci`

use alloc::string::String;
use core::fmt::Write;

use xinim_os::{service_control as control, service_query as query};

use crate::Context;

const USAGE: &str = "usage: service list
       service status NAME
       service history [NAME]
       service start|stop|restart NAME
       service kill [--wild|--hang] NAME
kill ends the instance as a crash would: --wild makes it write through a wild pointer, --hang makes
it spin until its heartbeat is missed.";

pub fn run(c: &mut Context<'_>) -> i32 {
    let words: alloc::vec::Vec<&str> = c.args.iter().map(String::as_str).collect();
    let (operation, name) = match words.as_slice() {
        [] | ["list"] => return ask(c, query::LIST, ""),
        ["history"] => return ask(c, query::HISTORY, ""),
        ["history", name] => return ask(c, query::HISTORY, name),
        ["status", name] => return ask(c, query::STATUS, name),
        ["classes"] => return ask(c, query::CLASSES, ""),
        ["start", name] => (control::START, *name),
        ["stop", name] => (control::STOP, *name),
        ["restart", name] => (control::RESTART, *name),
        ["kill", "--wild", name] | ["kill", name, "--wild"] => (control::INJECT_FAULT, *name),
        ["kill", "--hang", name] | ["kill", name, "--hang"] => (control::INJECT_HANG, *name),
        ["kill", name] if !name.starts_with('-') => (control::KILL, *name),
        _ => return c.usage(USAGE),
    };
    if let Err(error) = c.os.service_control(operation, name) {
        c.problem(name, error);
    }
    0
}

/// Titles of the columns, where the text is a table.
fn titles(kind: u32) -> Option<&'static str> {
    match kind {
        query::LIST => Some("NAME\tSTATE\tPID\tRESTARTS\tPROGRAM\tLOCATION"),
        query::HISTORY => Some("TIME\tNAME\tCAUSE\tDETAIL\tDOWN"),
        query::CLASSES => Some("CLASS\tNAME"),
        query::FUNCTIONS => Some("LOCATION\tID\tCLASS\tDRIVER"),
        _ => None,
    }
}

fn ask(c: &mut Context<'_>, kind: u32, name: &str) -> i32 {
    match c.os.service_query(kind, name) {
        Ok(text) => match titles(kind) {
            Some(titles) => table(c, titles, &text),
            None => c.out.write(text.as_bytes()),
        },
        Err(error) => {
            c.problem(name, error);
            return 1;
        }
    }
    0
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
    ask(c, query::FUNCTIONS, "")
}
