//! Names of the tools.

use crate::Context;
use crate::tool::*;

/// Its status; [`Context::problem`]s make it 1 where it is 0.
pub type Tool = fn(&mut Context<'_>) -> i32;

const TOOLS: &[(&str, Tool)] = &[
    ("[", test::run),
    ("echo", echo::run),
    ("kill", kill::tool),
    ("printf", printf::run),
    ("test", test::run),
];

pub fn find(name: &str) -> Option<Tool> {
    TOOLS.iter().find(|(own, _)| *own == name).map(|(_, run)| *run)
}

pub fn names() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|(name, _)| *name)
}
