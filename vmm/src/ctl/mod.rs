//! The control socket: `run --control PATH` serves it, `xinim-vmm ctl PATH COMMAND` talks to it.
//!
//! A stream socket, for the user who started the machine only (mode 0600, and who connects is
//! asked for). One JSON object a line each way, answers in the order of the requests:
//!
//! ```text
//! -> {"command":"attach","disk":"/data/b.img,cache=none","port":2}
//! <- {"ok":true,"name":"disk1"}
//! -> {"command":"resize","name":"disk7","size":"1G"}
//! <- {"ok":false,"error":"there is no disk7"}
//! ```
//!
//! | command | members | answer |
//! |---|---|---|
//! | `info` | | `engine`, `disks`, `nets` (see [`protocol`]) |
//! | `attach` | `disk` as `--disk` takes it; `port` (optional) | `name` |
//! | `detach` | `name` | |
//! | `insert` | `name`, `disk` | |
//! | `eject` | `name`; `force` (optional) | |
//! | `resize` | `name`; `size` as in `new:SIZE` | |
//! | `link` | `name`; `up` | |
//! | `trace` | `on`; `file` as given to `--trace` (optional: all) | |
//! | `traces` | | `traces`: file, format, filter, on, events, lost |
//! | `stats` | | sums since the first time it was asked: `time_ns`, `devices`, `exits`, `processes`, `services` |
//! | `fault-add` | `rule` as `--fault` takes it | `id` |
//! | `fault-list` | | `faults`: `id`, `rule`, `matches`, `hits` |
//! | `fault-remove` | `id` | |
//! | `fault-clear` | | |
//! | `inject` | `process`, `kind` ([`InjectionKind`](xinim_machine::control::InjectionKind)); `seed`, `wait` in ms (optional) | `done` |
//! | `threads` | | `threads`: pid, process, state, priority, system-calls, ticks, waits-for, bits, stack |
//! | `quit` | | the machine is ended at once, as by Ctrl-A x |
//!
//! A relative path in `disk` counts from the directory of the machine's process; `ctl` makes paths
//! absolute. Lines of more than 64 KiB and more than 8 connections at a time are refused.

pub mod client;
pub mod protocol;
pub mod server;
