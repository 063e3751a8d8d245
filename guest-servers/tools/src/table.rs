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
    ("chgrp", owner::chgrp),
    ("chmod", chmod::run),
    ("chown", owner::chown),
    ("clear", simple::clear),
    ("cmp", text::cmp),
    ("cp", copy::cp),
    ("date", processes::date),
    ("dd", dd::run),
    ("df", filesystems::df),
    ("diff", diff::run),
    ("dirname", simple::dirname),
    ("dmesg", processes::dmesg),
    ("du", du::run),
    ("echo", echo::run),
    ("env", simple::env),
    ("false", simple::false_),
    ("find", find::run),
    ("flock", special::flock),
    ("free", processes::free),
    ("fstrim", special::fstrim),
    ("grep", grep::run),
    ("head", text::head),
    ("hexdump", hexdump::run),
    ("id", owner::id),
    ("kill", kill::tool),
    ("ln", link::run),
    ("ls", ls::run),
    ("lspci", service::lspci),
    ("mkdir", simple::mkdir),
    ("mkfifo", special::mkfifo),
    ("mknod", special::mknod),
    ("mount", filesystems::mount),
    ("mv", copy::mv),
    ("poweroff", simple::poweroff),
    ("printf", printf::run),
    ("ps", processes::ps),
    ("pwd", simple::pwd),
    ("readlink", simple::readlink),
    ("reboot", simple::reboot),
    ("recoverbench", recoverbench::run),
    ("rm", remove::run),
    ("rmdir", simple::rmdir),
    ("seq", text::seq),
    ("service", service::run),
    ("setpriv", owner::setpriv),
    ("sha256sum", sha256sum::run),
    ("sleep", simple::sleep),
    ("sort", text::sort),
    ("stat", stat::run),
    ("su", owner::su),
    ("sync", simple::sync),
    ("sysinfo", processes::sysinfo),
    ("tail", text::tail),
    ("tar", tar::run),
    ("tee", text::tee),
    ("test", test::run),
    ("touch", simple::touch),
    ("tr", tr::run),
    ("true", simple::true_),
    ("truncate", special::truncate),
    ("umount", filesystems::umount),
    ("uname", simple::uname),
    ("uniq", text::uniq),
    ("uptime", processes::uptime),
    ("wc", text::wc),
    ("whoami", owner::whoami),
    ("workload", workload::run),
    ("xargs", xargs::run),
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
