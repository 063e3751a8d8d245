//! `breakout` as a service: `service load NAME.toml /bin/breakout`, the manifest's `args` say what it does.
//!
//! ```text
//! all       tries everything, one attempt an instance (with restart = { policy = "always", stable = 0 });
//!           what came of each is in the kernel's log, the last instance stays
//! memory    takes memory until it is refused, and ends of that
//! spin      takes the processor
//! flood     asks RS without end, with several threads
//! quits MS  is up, and dies after that many milliseconds
//! silent    never says that it is up
//! idle      does nothing
//! (none)    in a disk driver's place (service update virtio-blk /bin/breakout): serves a disk and lies about
//!           what it has done; in the place of ahci it never says anything of it
//! ```

use alloc::format;
use alloc::vec::Vec;
use core::hint::black_box;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Name, error_message};
use xinim_abi::ipc::Message;
use xinim_abi::object::{Handle, Protection};
use xinim_abi::services::block::{COMPLETION_BIT, ENTRIES, Text, block, index};
use xinim_abi::services::rs::{control, query, rs};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::memory::{Mapping, Memory};
use xinim_rt::server::{self, Request, Server, answer};
use xinim_rt::{ipc, log, start, sys, time};

use super::{Attempt, BROKE_OUT, calls, denied, faults, limits, load};

/// What only a service can try.
pub const ATTEMPTS: &[(&str, &str, Attempt)] = &[
    ("others", "looking up services that its manifest does not list", || {
        calls::may_not_find(&OTHERS)
    }),
    ("spawn", "starting instances of services", || denied(spawn())),
    ("functions", "announcing PCI functions", calls::may_not_announce_functions),
    ("control", "starting, stopping and killing services", control_others),
    ("load", "loading, unloading and updating services", load_others),
    ("shut-down", "shutting the system down", shut_down),
    ("complain", "complaining about services that it does not use", complain),
    ("keep", "memory kept beyond its manifest", keep),
    ("cores", "reading another service's memory", cores),
];

/// As a service, everything but what is about a program's handles.
const LISTS: [&[(&str, &str, Attempt)]; 4] =
    [faults::ATTEMPTS, calls::ATTEMPTS, limits::ATTEMPTS, ATTEMPTS];
const OF_PROGRAMS: [&str; 3] = ["service-only", "admin", "kill-service"];

const OTHERS: [&str; 8] =
    ["vfs", "pm", "pci", "ramfs", "devfs", "virtio-console", "virtio-blk", "init"];
/// Threads of a flood, and their priority: its manifest's is the limit.
const FLOODERS: usize = 4;
const STACK: usize = 16 << 10;
/// Bytes taken at a time.
const PIECE: usize = 64 << 10;
/// What the lying disk says it has.
const SECTORS: u64 = 16 << 11;
const TRANSFER: u32 = 64 << 10;
const DOORBELL: u32 = 0;
/// Rings it is attached to, the newest.
const RINGS: usize = 8;

pub fn main(words: &[&str]) -> i32 {
    match words {
        ["all"] => everything(),
        ["silent"] => sys_sleep(),
        ["memory"] => up_and(memory),
        ["spin"] => up_and(|| {
            loop {
                black_box(time::now_ns());
            }
        }),
        ["flood"] => up_and(flood),
        ["quits", ms] => {
            let ms = ms.parse().unwrap_or(0);
            up_and(|| {
                time::sleep_ns(ms * 1_000_000);
                1
            })
        }
        ["idle"] => server::run(&mut Idle),
        [] if start::handle(xinim_abi::start::role::DEVICE).is_some() => {
            server::run(&mut Liar { rings: Vec::new(), mute: None })
        }
        _ => {
            log!("breakout: args are all, memory, spin, flood, quits MS, silent or idle");
            1
        }
    }
}

fn up_and(then: impl FnOnce() -> i32) -> i32 {
    if server::announce().is_err() { 1 } else { then() }
}

fn sys_sleep() -> i32 {
    loop {
        sys::thread_sleep(u64::MAX);
    }
}

struct Idle;

impl Server for Idle {
    fn call(&mut self, _request: Request) -> Option<Message> {
        Some(error_message(Error::NoSys))
    }
}

/// One attempt in this instance, the next in the next.
fn everything() -> i32 {
    let attempts = || {
        let all = LISTS.iter().flat_map(|list| list.iter());
        all.filter(|(name, ..)| !OF_PROGRAMS.contains(name))
    };
    let Some((_, what, attempt)) = attempts().nth(start::incarnation() as usize) else {
        log!("breakout: over, {} attempts", attempts().count());
        server::run(&mut Idle);
    };
    up_and(|| {
        // The processor refuses some of them by ending this.
        log!("breakout: tries {what}");
        match attempt() {
            true => {
                log!("breakout: refused: {what}");
                0
            }
            false => {
                log!("breakout: NOT REFUSED: {what}");
                BROKE_OUT
            }
        }
    })
}

fn name(label: &str) -> Name {
    Name::new(label).unwrap_or_default()
}

fn spawn() -> Result<rs::Spawned> {
    ipc::call(start::rs(), &rs::Spawn { program: name("fs-fat") })
}

fn control_others() -> bool {
    let operations = [
        control::START,
        control::STOP,
        control::RESTART,
        control::KILL,
        control::INJECT_FAULT,
        control::INJECT_HANG,
        control::INJECT_BLOCK,
        control::DUMP,
    ];
    operations.iter().all(|&operation| {
        ["rs", "vfs", "pm", "devfs", "init"].iter().all(|label| {
            denied(ipc::call(start::rs(), &rs::Control { operation, name: name(label) }))
        })
    })
}

fn load_others() -> bool {
    denied(xinim_rt::rs::load("intruder", b"control = true", &[]))
        && denied(xinim_rt::rs::unload("intruder"))
        && denied(xinim_rt::rs::update("vfs", &[0; 8192]))
}

fn shut_down() -> bool {
    [true, false].iter().all(|&reboot| denied(ipc::call(start::rs(), &rs::Shutdown { reboot })))
}

fn complain() -> bool {
    ["vfs", "pm", "devfs", "init"]
        .iter()
        .all(|label| denied(xinim_rt::rs::complain(name(label), 1)))
}

fn keep() -> bool {
    [4096, 1 << 40, u64::MAX].iter().all(|&len| {
        let kept = ipc::call(start::rs(), &rs::Keep { key: 1, len });
        matches!(kept, Err(Error::Limit))
    })
}

fn cores() -> bool {
    let Ok(memory) = Memory::create(query::CORE_MAX, xinim_abi::object::MemoryFlags::empty())
    else {
        return false;
    };
    OTHERS.iter().all(|label| {
        let rights = xinim_abi::object::Rights::READ
            | xinim_abi::object::Rights::WRITE
            | xinim_abi::object::Rights::TRANSFER;
        let Ok(shared) = memory.handle().mint(rights, 0) else { return false };
        let asked = rs::Query { kind: query::CORE, name: name(label), memory: shared.raw() };
        denied(ipc::call(start::rs(), &asked))
    })
}

/// Ends by the allocation that fails.
fn memory() -> i32 {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(alloc::vec![1; PIECE]);
        if taken.len().is_multiple_of(16) {
            log!("breakout: has {} MiB", (taken.len() * PIECE) >> 20);
        }
    }
}

fn flood() -> i32 {
    let ask = load::work("rs").unwrap_or(|| {});
    for _ in 1..FLOODERS {
        let priority = xinim_abi::syscall::priority::USER;
        let _ = xinim_rt::thread::spawn(STACK, priority, move || {
            loop {
                ask();
            }
        });
    }
    loop {
        ask();
    }
}

/// A client's ring, and where it is told of completions.
struct Ring {
    memory: Mapping,
    notify: OwnedHandle,
}

/// A disk whose driver claims to have completed more than was asked.
struct Liar {
    rings: Vec<Ring>,
    /// It only listens; not known before it is first asked for something.
    mute: Option<bool>,
}

impl Server for Liar {
    fn call(&mut self, request: Request) -> Option<Message> {
        use block::Call;
        match block::Call::decode(&request.message) {
            Ok(Call::Info(_)) => answer(Ok(block::InfoReply {
                sectors: SECTORS,
                block_size: 512,
                flags: 0,
                max_bytes: TRANSFER,
                depth: 8,
                instance: 1,
            })),
            Ok(Call::Limits(_)) => answer(Ok(block::LimitsReply {
                physical_block: 512,
                discard_granule: 0,
                max_discard: 0,
                max_zeroes: 0,
                rotation: 0,
            })),
            Ok(Call::Identity(_)) => answer(Ok(block::IdentityReply { text: Text::default() })),
            Ok(Call::Units(_)) => answer(Ok(block::UnitsReply { present: 1, generation: 1 })),
            Ok(Call::Subscribe(_)) => answer(Ok(block::Subscribed { generation: 1 })),
            Ok(Call::Claim(_)) => answer(Ok(block::Claimed {})),
            Ok(Call::Attach(c)) => answer(self.attach(&request, c.ring, c.notify)),
            Ok(_) => answer::<block::Claimed>(Err(Error::NotSup)),
            Err(error) => Some(error_message(error)),
        }
    }

    fn notified(&mut self, _bits: u64) {
        let mute = *self.mute.get_or_insert_with(|| stands_for("ahci"));
        for ring in self.rings.iter().filter(|_| !mute) {
            let _ = ring.memory.store_u32(index::CQ_TAIL, 3 * ENTRIES);
            let _ = sys::notify(ring.notify.raw(), 1 << COMPLETION_BIT);
        }
    }
}

/// Is this the process of that service?
fn stands_for(label: &str) -> bool {
    let list = xinim_rt::rs::query(query::LIST, "").unwrap_or_default();
    let pid = format!("{}", start::pid());
    list.lines().any(|line| {
        let mut words = line.split('\t');
        words.next() == Some(label) && words.nth(1) == Some(&pid)
    })
}

impl Liar {
    fn attach(
        &mut self,
        request: &Request,
        ring: Handle,
        notify: Handle,
    ) -> Result<block::Attached> {
        let (ring, notify) = (request.handle(ring), request.handle(notify));
        let memory = Memory::from_handle(ring)?.map(Protection::READ | Protection::WRITE)?;
        if self.rings.len() == RINGS {
            self.rings.remove(0);
        }
        self.rings.push(Ring { memory, notify });
        Ok(block::Attached { bit: DOORBELL })
    }
}
