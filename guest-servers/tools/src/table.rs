//! Names of the tools.

use crate::Context;
use crate::tool::*;

/// Its status; [`Context::problem`]s make it 1 where it is 0.
pub type Tool = fn(&mut Context<'_>) -> i32;

const TOOLS: &[(&str, Tool)] = &[
    ("[", test::run),
    ("basename", simple::basename),
    ("blkbench", blkbench::run),
    ("cat", cat::run),
    ("chmod", chmod::run),
    ("clear", simple::clear),
    ("cmp", text::cmp),
    ("cp", copy::cp),
    ("date", processes::date),
    ("dd", dd::run),
    ("df", filesystems::df),
    ("dirname", simple::dirname),
    ("dmesg", processes::dmesg),
    ("echo", echo::run),
    ("env", simple::env),
    ("false", simple::false_),
    ("free", processes::free),
    ("grep", grep::run),
    ("head", text::head),
    ("hexdump", hexdump::run),
    ("id", simple::id),
    ("kill", kill::tool),
    ("ln", link::run),
    ("ls", ls::run),
    ("lspci", service::lspci),
    ("mkdir", simple::mkdir),
    ("mount", filesystems::mount),
    ("mv", copy::mv),
    ("poweroff", simple::poweroff),
    ("printf", printf::run),
    ("ps", processes::ps),
    ("pwd", simple::pwd),
    ("readlink", simple::readlink),
    ("reboot", simple::reboot),
    ("rm", remove::run),
    ("rmdir", simple::rmdir),
    ("seq", text::seq),
    ("service", service::run),
    ("sha256sum", sha256sum::run),
    ("sleep", simple::sleep),
    ("sort", text::sort),
    ("stat", stat::run),
    ("sync", simple::sync),
    ("sysinfo", processes::sysinfo),
    ("tail", text::tail),
    ("tee", text::tee),
    ("test", test::run),
    ("touch", simple::touch),
    ("tr", tr::run),
    ("true", simple::true_),
    ("umount", filesystems::umount),
    ("uname", simple::uname),
    ("uniq", text::uniq),
    ("uptime", processes::uptime),
    ("wc", text::wc),
    ("yes", simple::yes),
];

pub fn find(name: &str) -> Option<Tool> {
    TOOLS.iter().find(|(own, _)| *own == name).map(|(_, run)| *run)
}

pub fn names() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
