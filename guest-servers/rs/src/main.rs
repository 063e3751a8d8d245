//! The Reincarnation Server: the first process, started by the kernel out of the bundle. It reads
//! the manifests there, starts the services in the order of their needs, and from then on
//! answers requests and obituaries. The decisions are the library's ([`Core`]); here are the
//! system calls.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod machine;

use alloc::vec::Vec;
use machine::System;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Reply, error_message};
use xinim_abi::ipc::{Message, bits};
use xinim_abi::object::Protection;
use xinim_abi::platform::{CMDLINE_HEARTBEAT, CMDLINE_RESTARTS_UNLIMITED};
use xinim_abi::services::rs::query;
use xinim_abi::services::rs::rs::{self, Call};
use xinim_manifest::{Catalog, HEARTBEATS, Manifest};
use xinim_rs::{Answer, Core, Host, Refusal, bundle};
use xinim_rt::memory::{Mapping, Memory};
use xinim_rt::server::{self, Request, Server};
use xinim_rt::time::Alarm;
use xinim_rt::{kip, log, start, sys};

xinim_rt::program!(main);

/// Where the manifests are in the bundle.
const MANIFESTS: &str = "etc/services/";
/// `restarts=unlimited`: crashes are forgiven after so many ms.
const STABLE_UNLIMITED: u32 = 200;
/// Longest manifest that is loaded.
const MANIFEST_MAX: usize = 64 * 1024;
/// Longest answer to a query.
const QUERY_MAX: u64 = 256 * 1024;

fn main() -> i32 {
    let mut system = match System::new() {
        Ok(system) => system,
        Err(error) => {
            log!("cannot begin: {error}");
            return 1;
        }
    };
    let core = Core::new(catalog(&system), start::pid());
    let endpoint = system.endpoint();
    let mut server = Rs { core, timer: Alarm::default(), system: &mut system };
    server.core.boot(server.system);
    server.arm();
    server::serve(endpoint, &mut server)
}

/// The manifests of the bundle. What is wrong with one goes to the log, and the system comes up
/// without it.
fn catalog(system: &System) -> Catalog {
    let mut manifests = Vec::new();
    for entry in bundle::entries(system.bundle()) {
        let label = entry.name.strip_prefix(MANIFESTS).and_then(|n| n.strip_suffix(".toml"));
        let Some(label) = label else { continue };
        let parsed = core::str::from_utf8(entry.data).map(|text| Manifest::parse(label, text));
        match parsed {
            Ok(Ok(manifest)) => manifests.push(manifest),
            Ok(Err(error)) => log!("{error}"),
            Err(_) => log!("{label}.toml: not UTF-8"),
        }
    }
    if let Some(most) = heartbeat() {
        for manifest in &mut manifests {
            manifest.heartbeat = manifest.heartbeat.min(most);
        }
    }
    if kip::cmdline().split_ascii_whitespace().any(|word| word == CMDLINE_RESTARTS_UNLIMITED) {
        for manifest in &mut manifests {
            manifest.restart.limit = u32::MAX;
            manifest.restart.stable = manifest.restart.stable.min(STABLE_UNLIMITED);
        }
    }
    let (catalog, errors) = Catalog::tolerant(manifests);
    for error in errors {
        log!("{error}");
    }
    catalog
}

/// The bound of heartbeats on the kernel's command line.
fn heartbeat() -> Option<u32> {
    let mut words = kip::cmdline().split_ascii_whitespace();
    let value = words.find_map(|word| word.strip_prefix(CMDLINE_HEARTBEAT))?;
    let bound = value.parse().ok().filter(|ms| HEARTBEATS.contains(ms));
    if bound.is_none() {
        log!("heartbeat={value}: not {} to {} (ms)", HEARTBEATS.start(), HEARTBEATS.end());
    }
    bound
}

struct Rs<'a> {
    core: Core,
    system: &'a mut System,
    timer: Alarm,
}

impl Rs<'_> {
    /// Sets the timer for the next deadline.
    fn arm(&mut self) {
        let next = self.core.next_deadline(self.system.now()).into_iter();
        if let Some(next) = next.chain(self.system.burial()).min() {
            self.timer.set(self.system.endpoint(), next);
        }
    }

    /// `None`: answered later, or already.
    fn dispatch(&mut self, request: &Request) -> Result<Option<Answer>> {
        let (badge, sender, token) = (request.badge, request.sender, request.token);
        let host = &mut *self.system;
        Ok(match Call::decode(&request.message)? {
            Call::Lookup(c) => self.core.lookup(host, badge, sender, token, &c.name, c.wait),
            Call::Standby(_) => self.core.stand_by(host, badge, sender, token),
            Call::Announce(_) => Some(self.core.announce(host, badge, sender)),
            Call::Control(c) => self.core.control(host, badge, sender, token, c.operation, &c.name),
            Call::Spawn(c) => self.core.spawn(host, badge, sender, token, &c.program),
            Call::AddFunction(c) => {
                // Now the core's.
                let _ = request.handle(c.device).into_raw();
                let _ = request.handle(c.pci).into_raw();
                Some(self.core.add_function(host, badge, sender, &c))
            }
            Call::Complain(c) => Some(self.core.complain(host, badge, sender, &c.name, c.code)),
            Call::Load(c) => {
                let text = request.handle(c.manifest);
                let program = self.system.add_program(request.handle(c.program))?;
                let text = Memory::from_handle(text)?.map(Protection::READ | Protection::WRITE)?;
                let bytes = text.to_vec(0, text.len().min(MANIFEST_MAX))?;
                let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
                let words = core::str::from_utf8(&bytes[..end]).map_err(|_| Error::Inval);
                let loaded = match words {
                    Ok(words) => {
                        self.core.load(self.system, badge, sender, &c.name, words, program)
                    }
                    Err(error) => {
                        self.system.drop_program(program);
                        Err(error.into())
                    }
                };
                let refused = refusal_text(loaded, &text)?;
                sys::reply(token, &rs::Loaded { refused }.encode())?;
                None
            }
            Call::Unload(c) => {
                let reason = Memory::from_handle(request.handle(c.reason))?;
                let reason = reason.map(Protection::READ | Protection::WRITE)?;
                let unloaded = self.core.unload(self.system, badge, sender, &c.name);
                let refused = refusal_text(unloaded, &reason)?;
                sys::reply(token, &rs::Unloaded { refused }.encode())?;
                None
            }
            Call::Update(c) => {
                let program = self.system.add_program(request.handle(c.program))?;
                if program == 0 {
                    return Err(Error::NoExec);
                }
                self.core.update(self.system, badge, sender, token, &c.name, program)
            }
            Call::FunctionsDone(_) => Some(self.core.functions_done(host, badge, sender)),
            Call::Keep(c) => {
                let (slot, limit) = self.core.keeper(badge, sender)?;
                self.system.keep(token, slot, c.key, c.len, limit)?;
                None
            }
            Call::Unkeep(c) => {
                let (slot, limit) = self.core.keeper(badge, sender)?;
                if limit == 0 {
                    return Err(Error::Perm);
                }
                self.system.unkeep(slot, c.key);
                sys::reply(token, &rs::Unkept {}.encode())?;
                None
            }
            Call::Shutdown(c) => self.core.shut_down(host, badge, sender, c.reboot),
            Call::Query(c) if c.kind == query::CORE => {
                let memory = Memory::from_handle(request.handle(c.memory))?;
                if !self.core.is_operator(badge, sender) {
                    return Err(Error::Perm);
                }
                let len = self.system.write_core(&c.name, &memory)?;
                sys::reply(token, &rs::QueryReply { len }.encode())?;
                None
            }
            Call::Query(c) => {
                let memory = Memory::from_handle(request.handle(c.memory))?;
                let room = memory.len().min(QUERY_MAX);
                let text = self.core.query(host, c.kind, &c.name, room as usize)?;
                let len = text.len() as u64;
                if len > 0 {
                    let mapping = memory.map_range(
                        0,
                        len.next_multiple_of(xinim_abi::object::PAGE_SIZE as u64),
                        Protection::READ | Protection::WRITE,
                    )?;
                    mapping.copy_in(0, text.as_bytes())?;
                }
                sys::reply(token, &rs::QueryReply { len }.encode())?;
                None
            }
        })
    }
}

impl Server for Rs<'_> {
    fn call(&mut self, request: Request) -> Option<Message> {
        let answer = self.dispatch(&request).unwrap_or_else(|error| Some(Answer::Error(error)));
        if matches!(answer, Some(Answer::Error(Error::Access | Error::Perm))) {
            self.core.count_refusal(request.badge, request.sender);
        }
        let message = answer.and_then(|answer| match answer {
            Answer::Announced => Some(rs::Announced {}.encode()),
            Answer::Started => Some(rs::Started {}.encode()),
            Answer::FunctionAdded => Some(rs::FunctionAdded {}.encode()),
            Answer::Updated { pid, rolled_back } => Some(rs::Updated { pid, rolled_back }.encode()),
            Answer::Complained => Some(rs::Complained {}.encode()),
            Answer::FunctionsDone => Some(rs::FunctionsDoneReply {}.encode()),
            Answer::Controlled { pid } => Some(rs::Controlled { pid }.encode()),
            Answer::Error(error) => Some(error_message(error)),
            // With a handle, which is closed behind the answer.
            Answer::Found { .. } | Answer::FoundRs | Answer::Spawned { .. } => {
                self.system.answer(request.token, answer);
                None
            }
        });
        self.arm();
        message
    }

    fn notified(&mut self, raised: u64) {
        if raised & bits::OBITUARY != 0 {
            while let Ok(Some(obituary)) = sys::event_next(self.system.endpoint()) {
                self.core.died(self.system, &obituary);
            }
            self.system.bury_later();
        }
        if raised & bits::TIMER != 0 {
            self.timer.rang();
            self.core.tick(self.system);
            self.system.bury();
        }
        self.arm();
    }
}

/// Writes why a manifest was refused to whoever brought it; how much.
fn refusal_text(result: core::result::Result<(), Refusal>, to: &Mapping) -> Result<u64> {
    match result {
        Ok(()) => Ok(0),
        Err(Refusal::Error(error)) => Err(error),
        Err(Refusal::Text(text)) => {
            let len = text.len().min(to.len());
            to.copy_in(0, &text.as_bytes()[..len])?;
            Ok(len as u64)
        }
    }
}

/// The reply to a request whose handle could not be made.
fn refusal(error: Error) -> Message {
    error_message(error)
}
