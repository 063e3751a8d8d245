//! The process manager: starts programs out of files, gives them descriptors through VFS, collects
//! their statuses, ends them on Ctrl-C. The bookkeeping is the library's; here are the calls.
//!
//! When it dies the programs run on; its next instance takes up where it was, see `xinim_pm::kept`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod image;
mod spawn;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use image::Images;
use xinim_abi::error::{Error, Result};
use xinim_abi::event::{Obituary, cause};
use xinim_abi::info;
use xinim_abi::interface::{Reply, error_message};
use xinim_abi::ipc::{Message, bits};
use xinim_abi::object::{Handle, Rights};
use xinim_abi::services::chardev::chardev;
use xinim_abi::services::pm::pm::{self, Call};
use xinim_abi::services::pm::signal;
use xinim_abi::services::vfs::vfs;
use xinim_abi::start::role;
use xinim_keep::Ticket;
use xinim_pm::identity::{GROUPS_MAX, Identity, Triple};
use xinim_pm::kept::{Records, Restored, Starting};
use xinim_pm::status;
use xinim_pm::table::{Answer, State, Table};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::ipc::{Endpoint, Service};
use xinim_rt::keep::{self, KeptArea};
use xinim_rt::server::{self, ClientWindows, Request, Server, answer};
use xinim_rt::{fs, log, start, sys};
use zerocopy::IntoBytes;

xinim_rt::program!(main);

/// The kept journal, and its length.
const JOURNAL: u64 = 1;
const JOURNAL_LEN: u64 = 1 << 20;
/// Our notification bit for Ctrl-C.
const INTERRUPT_BIT: u32 = 0;
/// User and group without any rights of their own.
const NOBODY: u32 = 65534;
/// Largest signal number of a `Kill`.
const SIGNAL_MAX: u32 = 64;

fn main() -> i32 {
    let (Ok(endpoint), Some(resource)) = (server::own_endpoint(), start::handle(role::RESOURCE))
    else {
        log!("no endpoint or no authority to create processes");
        return 1;
    };
    let journal = keep::journal(JOURNAL, JOURNAL_LEN).map(|(journal, _)| journal);
    if let Err(error) = &journal {
        log!("no memory to keep state in: {error}");
    }
    let mut records = Records::new(journal.ok(), start::pid());
    let restored = match records.restore() {
        Ok(restored) => Some(restored),
        Err(Error::NoEnt) => None,
        Err(error) => {
            log!("the kept state makes no sense ({error}) and is not taken up");
            records.clear();
            None
        }
    };
    let mut pm = Pm {
        endpoint: Endpoint::from_handle(OwnedHandle::from_raw(endpoint)),
        resource,
        windows: ClientWindows::new(),
        table: Table::default(),
        processes: BTreeMap::new(),
        identities: BTreeMap::new(),
        images: Images::default(),
        rs: Service::new("rs"),
        vfs: Service::new("vfs:user"),
        tty: Service::new("tty"),
        subscribed: false,
        records,
        waiting: BTreeMap::new(),
    };
    if let Some(restored) = restored {
        pm.go_on(restored);
    }
    server::run(&mut pm)
}

fn tell_vfs(pid: u32, identity: &Identity) -> Result<()> {
    let (uid, gid) = (identity.uids.effective, identity.gids.effective);
    let count = identity.groups.len() as u32;
    fs::request(identity.groups.as_bytes(), &vfs::Identify { pid, uid, gid, count }).map(drop)
}

/// As whom a program acts that is not known here: VFS knows. If not, as nobody.
fn ask_vfs(pid: u32) -> Identity {
    let ask = || -> Result<Identity> {
        let (found, groups) = fs::who_is(pid)?;
        let (uids, gids) = (Triple::all(found.uid), Triple::all(found.gid));
        Ok(Identity { uids, gids, groups: groups.into() })
    };
    ask().unwrap_or_else(|_| Identity {
        uids: Triple::all(NOBODY),
        gids: Triple::all(NOBODY),
        ..Identity::default()
    })
}

struct Pm {
    /// Our own; also what programs get, minted.
    endpoint: Endpoint,
    resource: Handle,
    windows: ClientWindows,
    table: Table,
    /// Process handles of running programs.
    processes: BTreeMap<u32, OwnedHandle>,
    /// As whom programs run; others are root.
    identities: BTreeMap<u32, Identity>,
    images: Images,
    /// What programs are given; the badge says "program".
    rs: Service,
    vfs: Service,
    tty: Service,
    /// The terminal tells us of Ctrl-C.
    subscribed: bool,
    records: Records<KeptArea>,
    /// Numbered requests that wait, by their tokens.
    waiting: BTreeMap<u64, Ticket>,
}

impl Pm {
    fn dispatch(&mut self, request: &Request) -> Result<Option<Message>> {
        let caller = request.sender;
        if request.badge == 0 && !self.identities.contains_key(&caller) {
            // A program of our predecessor's.
            self.identities.insert(caller, ask_vfs(caller));
        }
        Ok(match Call::decode(&request.message)? {
            Call::Connect(c) => {
                let window = request.handle(c.window);
                self.windows.attach(caller, window, self.endpoint.raw())?;
                Some(pm::Connected {}.encode())
            }
            Call::Spawn(c) => {
                let ticket = Ticket::of(caller, request.message.tag);
                let pid = self.spawn(caller, c.len, ticket)?;
                Some(pm::Spawned { pid }.encode())
            }
            Call::Wait(c) => match self.table.wait(caller, c.pid, c.poll, request.token) {
                Some(result) => {
                    let (pid, status) = result?;
                    Some(pm::Ended { pid, status }.encode())
                }
                None => {
                    if let Some(ticket) = Ticket::of(caller, request.message.tag) {
                        self.waiting.insert(request.token.0, ticket);
                    }
                    None
                }
            },
            Call::Kill(c) => {
                self.may_kill(caller, c.pid)?;
                self.kill(c.pid, c.signal)?;
                Some(pm::Killed {}.encode())
            }
            Call::Foreground(c) => {
                self.table.set_foreground(caller, c.pid)?;
                if c.pid != 0 && !self.subscribed {
                    self.subscribe();
                }
                Some(pm::ForegroundSet {}.encode())
            }
            Call::SetIds(c) => {
                let new = Triple { real: c.real, effective: c.effective, saved: c.saved };
                let mut identity = self.identity(caller);
                match c.group {
                    true => identity.set_gids(new)?,
                    false => identity.set_uids(new)?,
                }
                self.identify(caller, identity)?;
                Some(pm::IdsSet {}.encode())
            }
            Call::GetIds(c) => {
                let identity = self.identity(if c.pid == 0 { caller } else { c.pid });
                let ids = if c.group { identity.gids } else { identity.uids };
                if let Ok(window) = self.windows.get(caller) {
                    window.copy_in(0, identity.groups.as_bytes())?;
                }
                let Triple { real, effective, saved } = ids;
                let groups = identity.groups.len() as u32;
                Some(pm::Ids { real, effective, saved, groups }.encode())
            }
            Call::SetGroups(c) => {
                if c.count as usize > GROUPS_MAX {
                    return Err(Error::Inval);
                }
                let mut groups = vec![0u32; c.count as usize];
                self.windows.get(caller)?.copy_out(0, groups.as_mut_bytes())?;
                let mut identity = self.identity(caller);
                identity.set_groups(&groups)?;
                self.identify(caller, identity)?;
                Some(pm::GroupsSet {}.encode())
            }
        })
    }

    fn identity(&self, pid: u32) -> Identity {
        self.identities.get(&pid).cloned().unwrap_or_default()
    }

    /// The program acts as somebody else from now on, also on files.
    fn identify(&mut self, pid: u32, identity: Identity) -> Result<()> {
        if !self.table.is_running(pid) {
            return Err(Error::Perm); // a service
        }
        tell_vfs(pid, &identity)?;
        self.identities.insert(pid, identity);
        Ok(())
    }

    fn may_kill(&self, caller: u32, pid: u32) -> Result<()> {
        match self.identity(caller).may_kill(&self.identity(pid)) {
            true => Ok(()),
            false => Err(Error::Perm),
        }
    }

    fn kill(&mut self, pid: u32, signal: u32) -> Result<()> {
        if signal > SIGNAL_MAX {
            return Err(Error::Inval);
        }
        let Some(process) = self.processes.get(&pid) else {
            if self.table.contains(pid) {
                return Ok(()); // a zombie
            }
            let found = sys::info::<info::ProcessInfo>(info::Kind::Process, pid.into());
            let service = found.is_ok_and(|process| process.pid == pid);
            return Err(if service { Error::Perm } else { Error::Srch });
        };
        if signal != 0 {
            sys::process_kill(process.raw(), signal.into())?;
        }
        Ok(())
    }

    /// Asks the terminal to tell us of Ctrl-C. Without a terminal there is none.
    fn subscribe(&mut self) {
        let subscribe = || -> Result<()> {
            let endpoint = self.endpoint.mint(Rights::NOTIFY | Rights::TRANSFER, 0)?;
            let bit = INTERRUPT_BIT;
            self.tty
                .call(&chardev::Subscribe { cookie: 0, bit, endpoint: endpoint.raw() })
                .map(drop)
        };
        match subscribe() {
            Ok(()) => self.subscribed = true,
            Err(error) => log!("no Ctrl-C: {error}"),
        }
    }

    fn died(&mut self, obituary: &Obituary) {
        let pid = obituary.pid;
        self.windows.forget(pid);
        self.identities.remove(&pid);
        if !self.table.contains(pid) {
            // A service: its next instance starts programs of its own (init its shell), and the
            // old ones would stand in the way.
            self.end_family(pid);
        }
        if self.processes.remove(&pid).is_some() && obituary.cause == cause::FAULT {
            log!(
                "program {pid}: exception {} at {:#x}, rip {:#x}",
                obituary.vector,
                obituary.address,
                obituary.registers.rip
            );
        }
        self.ended(pid, status::of(obituary));
        self.records.forget(pid);
        self.waiting.retain(|_, ticket| ticket.pid != pid);
    }

    /// A program or parent is no more; answers are sent when that is kept.
    fn ended(&mut self, pid: u32, status: u32) {
        let mut answers = Vec::new();
        for Answer { token, result } in self.table.died(pid, status) {
            let message = match result {
                Ok((pid, status)) => pm::Ended { pid, status }.encode(),
                Err(error) => error_message(error),
            };
            self.stage();
            let ticket = self.waiting.remove(&token.0);
            self.records.note(ticket, &message);
            answers.push((token, message));
        }
        self.keep();
        for (token, message) in answers {
            // A caller that is gone does not care.
            let _ = sys::reply(token, &message);
        }
    }

    fn stage(&mut self) {
        self.records.update(&self.table, &self.identities, self.subscribed);
    }

    /// What is so now outlives us.
    fn keep(&mut self) {
        self.stage();
        if let Err(error) = self.records.commit() {
            log!("the state is not kept over a crash any more: {error}");
        }
    }

    /// Takes up what the last instance left.
    fn go_on(&mut self, restored: Restored) {
        let Restored { manager, table, identities, starting, subscribed } = restored;
        (self.table, self.identities) = (table, identities);
        let mut parents = Vec::new();
        for (pid, process) in self.table.iter().collect::<Vec<_>>() {
            if process.state == State::Running {
                self.adopt(pid);
            }
            if process.parent != 0 && !self.table.contains(process.parent) {
                parents.push(process.parent);
            }
        }
        if let Some(starting) = starting.filter(|starting| !self.table.contains(starting.pid)) {
            self.finish_start(starting);
        }
        self.end_unknown(manager);
        parents.sort_unstable();
        parents.dedup();
        // Parents that are services.
        for parent in parents {
            if sys::watch(parent, self.endpoint.raw(), parent.into()).is_err() {
                self.end_family(parent);
                self.ended(parent, 0);
            }
        }
        if subscribed {
            self.subscribe();
        }
        self.keep();
    }

    /// One that has ended is in our obituaries.
    fn adopt(&mut self, pid: u32) {
        match sys::process_adopt(self.resource, pid, self.endpoint.raw(), 0) {
            Ok(Some(handle)) => {
                self.processes.insert(pid, OwnedHandle::from_raw(handle));
            }
            Ok(None) => {}
            Err(error) => {
                log!("program {pid} is lost: {error}");
                self.ended(pid, 128 + signal::KILL);
            }
        }
    }

    /// The last instance died while it started this one.
    fn finish_start(&mut self, starting: Starting) {
        let Starting { pid, parent, ticket } = starting;
        let found = sys::info::<info::ProcessInfo>(info::Kind::Process, pid.into());
        let unborn = found.is_ok_and(|found| found.pid == pid && found.threads == 0);
        if unborn {
            return; // one of those that `end_unknown` ends
        }
        self.table.add(pid, parent);
        self.identities.insert(pid, ask_vfs(pid));
        self.adopt(pid);
        self.stage();
        self.records.note(ticket, &pm::Spawned { pid }.encode());
    }

    /// Ends what `manager` made and did not live to start.
    fn end_unknown(&mut self, manager: u32) {
        let mut at = 0;
        while let Ok(found) = sys::info::<info::ProcessInfo>(info::Kind::Process, at) {
            at = u64::from(found.pid) + 1;
            if found.parent != manager || self.table.contains(found.pid) {
                continue;
            }
            let endpoint = self.endpoint.raw();
            if let Ok(Some(handle)) = sys::process_adopt(self.resource, found.pid, endpoint, 0) {
                let _ = sys::process_kill(handle, signal::KILL.into());
                drop(OwnedHandle::from_raw(handle));
            }
        }
    }

    fn end_family(&mut self, parent: u32) {
        for program in self.table.family(parent) {
            let _ = self.kill(program, signal::KILL);
        }
    }
}

impl Server for Pm {
    fn call(&mut self, request: Request) -> Option<Message> {
        let ticket = Ticket::of(request.sender, request.message.tag);
        if let Some(ticket) = ticket.filter(|_| request.message.tag.is_repeated())
            && let Some(answered) = self.records.answer(ticket)
        {
            return Some(answered);
        }
        let reply = match self.dispatch(&request) {
            Ok(reply) => reply,
            Err(error) => answer::<pm::Killed>(Err(error)),
        };
        self.stage();
        if let Some(message) = &reply {
            self.records.note(ticket, message);
        }
        self.keep();
        reply
    }

    fn notified(&mut self, raised: u64) {
        if raised & bits::OBITUARY != 0 {
            while let Ok(Some(obituary)) = sys::event_next(self.endpoint.raw()) {
                self.died(&obituary);
            }
        }
        if raised & (1 << INTERRUPT_BIT) != 0 {
            for pid in self.table.interrupted() {
                // It may have ended meanwhile.
                let _ = self.kill(pid, signal::INT);
            }
        }
        if raised & bits::PEER_UP != 0 && self.subscribed {
            // A new instance of the terminal knows nothing of us.
            self.tty.disconnect();
            self.subscribe();
        }
    }

    /// Nobody manages programs from now on: none outlives its manager.
    fn terminate(&mut self) -> i32 {
        for process in self.processes.values() {
            let _ = sys::process_kill(process.raw(), signal::TERM.into());
        }
        0
    }

    /// Everything is kept: the next instance adopts the programs.
    fn hand_over(&mut self) -> i32 {
        if self.records.are_kept() { 0 } else { self.terminate() }
    }
}
