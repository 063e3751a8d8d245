//! Users: what another than root may, and how a process becomes one. Each check runs in a child.

use alloc::format;

use xinim_rt::{fs, process};

use crate::World;
use crate::check::{Check, Entry, Must, make, same};
use crate::roles;

pub const CHECKS: &[Entry] = &[
    ("permissions", true, permissions),
    ("sticky directories", true, sticky),
    ("set-user-ID programs", true, set_user_id),
    ("umask", true, umask),
    ("root only", true, root_only),
];

fn permissions(world: &World) -> Check {
    fs::chmod(".", 0o755).must("chmod")?;
    make("private", b"x")?;
    fs::chmod("private", 0o600).must("chmod")?;
    make("public", b"x")?;
    fs::chmod("public", 0o644).must("chmod")?;
    make("theirs", b"x")?;
    fs::chown("theirs", true, 1000, 100).must("chown")?;
    fs::chmod("theirs", 0o600).must("chmod")?;
    fs::mkdir("closed", 0o700).must("mkdir")?;
    make("closed/f", b"")?;
    same("the child", roles::run(world, &["user-permissions"], &[(1, 1)])?, 0)
}

fn sticky(world: &World) -> Check {
    fs::chmod(".", 0o755).must("chmod")?;
    fs::mkdir("t", 0o777).must("mkdir")?;
    fs::chmod("t", 0o1777).must("chmod")?;
    make("t/roots", b"")?;
    fs::chmod("t/roots", 0o666).must("chmod")?;
    same("the child", roles::run(world, &["user-sticky"], &[(1, 1)])?, 0)
}

fn set_user_id(world: &World) -> Check {
    // A copy of this program, owned by user 1000, run by root and by user 2000.
    let program = fs::read_to_end(&world.program).must("program")?;
    make("copy", &program)?;
    fs::chmod(".", 0o755).must("chmod")?;
    fs::chown("copy", true, 1000, 100).must("chown")?;
    fs::chmod("copy", 0o4755).must("chmod")?;
    let copy = World { full: true, program: "./copy".into() };
    same("run by root", roles::run(&copy, &["ids", "0", "1000"], &[(1, 1)])?, 0)?;
    let program = ["as", "2000", "./copy", "--role", "ids", "2000", "1000"];
    same("run by another", roles::run(world, &program, &[(1, 1)])?, 0)?;
    fs::chmod("copy", 0o755).must("chmod")?;
    let program = ["as", "2000", "./copy", "--role", "ids", "2000", "2000"];
    same("without the bit", roles::run(world, &program, &[(1, 1)])?, 0)
}

fn umask(world: &World) -> Check {
    let old = fs::umask(0o077).must("umask")?;
    make("f", b"")?;
    fs::mkdir("d", 0o777).must("mkdir")?;
    let inherited = roles::run(world, &["umask", "63"], &[]);
    same("back", fs::umask(old).must("umask")?, 0o077)?;
    same("a file", fs::stat("f").must("stat")?.mode & 0o777, 0o600)?;
    same("a directory", fs::stat("d").must("stat")?.mode & 0o777, 0o700)?;
    same("a child's", inherited?, 0)
}

fn root_only(world: &World) -> Check {
    fs::chmod(".", 0o777).must("chmod")?;
    let own = format!("{}", process::id());
    same("the child", roles::run(world, &["user-root-only", &own], &[(1, 1)])?, 0)
}
