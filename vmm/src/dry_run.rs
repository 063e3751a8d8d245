//! `--engine qemu --dry-run`: the QEMU command line of a machine, to be pasted into a shell.
//!
//! Where a run inherits descriptors, the line names files and standard streams instead. It
//! boots the same machine, and QEMU's monitor shares the terminal (Ctrl-A c).

use std::path::PathBuf;

use xinim_machine::MachineSpec;

use crate::config::RunConfig;
use crate::engine::qemu::args::{Outside, arguments, escape, shell_quote};
use crate::engine::qemu::locate;
use crate::engine::qemu::net::own_netdev;
use crate::error::Error;
use crate::spec::ConsoleSpec;

/// Where the line has the embedded image extracted.
const IMAGE_DIR: &str = "xinim-image";

pub fn command_line(config: &RunConfig, spec: &MachineSpec) -> Result<String, Error> {
    let embedded = config.kernel.is_none();
    let in_image = |name: &str| format!("{IMAGE_DIR}/{name}");
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let outside = Outside {
        options: config.qemu,
        kernel: config.kernel.as_ref().map_or_else(|| in_image("xinim-kernel"), text),
        bundle: match &config.bundle {
            Some(path) => Some(text(path)),
            None => embedded.then(|| in_image("xinim.cpio")),
        },
        com1: com1(&config.console),
        debug: "file,id=debug,path=/dev/stderr".into(),
        link: config
            .exec
            .is_some()
            .then(|| "socket,id=link,path=xinim-link.socket,server=on,wait=off".into()),
        netdevs: (0..).zip(&spec.nets).map(|(index, net)| own_netdev(index, net)).collect(),
        qmp: None,
        control: None,
        log: spec.traces.first().map(|trace| trace.path.to_string_lossy().into_owned()),
    };
    let program = locate::find().map_or_else(|| locate::PROGRAM.into(), |path| text(&path));
    let mut words = vec![program];
    words.extend(arguments(spec, &outside));
    if config.console == ConsoleSpec::Stdio {
        words.extend(["-mon".into(), "chardev=com1".into()]);
    }
    let words: Vec<String> = words.iter().map(|word| shell_quote(word)).collect();
    let line = words.join(" ");
    if !embedded {
        return Ok(line);
    }
    let this = std::env::current_exe().map_or("xinim-vmm".into(), |path| text(&path));
    Ok(format!("{} image extract {IMAGE_DIR} && {line}", shell_quote(&this)))
}

fn com1(console: &ConsoleSpec) -> String {
    match console {
        ConsoleSpec::Stdio => "stdio,id=com1,mux=on,signal=off".into(),
        ConsoleSpec::None => "null,id=com1".into(),
        ConsoleSpec::File(path) => format!("file,id=com1,path={}", escape(path)),
        ConsoleSpec::Unix(path) => {
            format!("socket,id=com1,path={},server=on,wait=off", escape(path))
        }
    }
}
