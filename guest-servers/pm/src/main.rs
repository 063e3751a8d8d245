//! The process manager: starts programs out of files, gives them descriptors through VFS, collects
//! their statuses, ends them on Ctrl-C. The bookkeeping is the library's; here are the calls.
//!
//! When it dies the programs run on, as nobody's children; their statuses are lost.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod image;
mod spawn;

use alloc::collections::BTreeMap;
use alloc::vec;
use image::Images;
use xinim_abi::error::{Error, Result};
use xinim_abi::event::{Obituary, cause};
use xinim_abi::info;
use xinim_abi::interface::Reply;
use xinim_abi::ipc::{Message, bits};
use xinim_abi::object::{Handle, Rights};
use xinim_abi::services::chardev::chardev;
use xinim_abi::services::pm::pm::{self, Call};
use xinim_abi::services::pm::signal;
use xinim_abi::services::vfs::vfs;
use xinim_abi::start::role;
use xinim_pm::identity::{GROUPS_MAX, Identity, Triple};
use xinim_pm::status;
use xinim_pm::table::{Answer, Table};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::ipc::{self, Endpoint, Service};
use xinim_rt::server::{self, ClientWindows, Request, Server, answer};
use xinim_rt::{fs, log, start, sys};
use zerocopy::IntoBytes;

xinim_rt::program!(main);

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
    server::run(&mut Pm {
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
    })
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
                let pid = self.spawn(caller, c.len)?;
                Some(pm::Spawned { pid }.encode())
            }
            Call::Wait(c) => match self.table.wait(caller, c.pid, c.poll, request.token) {
                Some(result) => {
                    let (pid, status) = result?;
                    Some(pm::Ended { pid, status }.encode())
                }
                None => None,
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
            for program in self.table.family(pid) {
                let _ = self.kill(program, signal::KILL);
            }
        }
        if self.processes.remove(&pid).is_some() && obituary.cause == cause::FAULT {
            log!(
                "program {pid}: exception {} at {:#x}, rip {:#x}",
                obituary.vector,
                obituary.address,
                obituary.registers.rip
            );
        }
        for Answer { token, result } in self.table.died(pid, status::of(obituary)) {
            // A caller that is gone does not care.
            let _ = match result {
                Ok((pid, status)) => ipc::reply(token, &pm::Ended { pid, status }),
                Err(error) => ipc::reply_error(token, error),
            };
        }
    }
}

impl Server for Pm {
    fn call(&mut self, request: Request) -> Option<Message> {
        match self.dispatch(&request) {
            Ok(reply) => reply,
            Err(error) => answer::<pm::Killed>(Err(error)),
        }
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

    /// The system goes down: no program outlives its manager.
    fn terminate(&mut self) -> i32 {
        for process in self.processes.values() {
            let _ = sys::process_kill(process.raw(), signal::TERM.into());
        }
        0
    }
}
