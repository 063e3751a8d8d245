//! Attempts that the kernel and the services must refuse with an error.

use xinim_abi::interface::Name;
use xinim_abi::ipc::{Message, ReplyToken, Tag, bits};
use xinim_abi::object::{DeviceMemoryFlags, Handle, MemoryFlags, PAGE_SIZE, Protection, Rights};
use xinim_abi::object::{SELF, USER_END};
use xinim_abi::services::pm::{pm, signal};
use xinim_abi::services::rs::rs;
use xinim_abi::services::vfs::vfs;
use xinim_abi::start::role;
use xinim_abi::syscall::{self, control};
use xinim_rt::{ipc, start, sys};

use super::{Attempt, denied};
use crate::raw;

pub const ATTEMPTS: &[(&str, &str, Attempt)] = &[
    ("forged-handles", "using forged handles", forged_handles),
    ("authority", "ports, interrupts, devices, device memory without authority", authority),
    ("power", "switching the machine off without authority", power),
    ("look-up", "looking up services it may not call", look_up),
    ("service-only", "acting as a service towards RS", act_as_service),
    ("admin", "the process manager's operations of VFS", act_as_manager),
    ("kill-service", "killing services as a process", kill_services),
    ("receive", "receiving on another's endpoint", receive),
    ("notify", "raising another's notification bits", notify),
    ("forged-notification", "a call that looks like a notification", forge_notification),
    ("rights", "widening the rights or badge of an endpoint's handle", widen),
    ("reply", "replying to another's callers", reply),
    ("foreign-handle", "sending forged handles in a message", send_forged),
    ("write-execute", "memory that is writable and executable", write_execute),
    ("bad-map", "mapping at kernel, misaligned and occupied addresses", bad_map),
    ("kernel-pointers", "kernel memory as a system call's buffer", kernel_pointers),
    ("kernel-thread", "a thread that starts in the kernel", kernel_thread),
    ("huge-memory", "more memory than there is", huge_memory),
    ("many-handles", "more handles than its limit", many_handles),
    ("garbage", "system calls with garbage", garbage),
];

/// Every one must be an error.
macro_rules! all_refused {
    ($($call:expr),* $(,)?) => { [$($call.is_err()),*].iter().all(|refused| *refused) };
}

fn vfs_handle() -> Handle {
    start::handle(role::VFS).unwrap_or(0)
}

fn pm_handle() -> Handle {
    start::handle(role::PM).unwrap_or(0)
}

/// Endpoints of others: a program's three, a service's one.
fn peers() -> impl Iterator<Item = Handle> {
    [start::rs(), vfs_handle(), pm_handle()].into_iter().filter(|handle| *handle != 0)
}

/// Numbers that are not handles of this process: `generation << 12 | index`.
pub(super) fn forged() -> impl Iterator<Item = Handle> {
    let own: alloc::vec::Vec<Handle> = start::all_handles().iter().map(|h| h.handle).collect();
    let low = (1..40u32).flat_map(|index| [0, 1, 2, 7].map(|g| g << 12 | index));
    let high = [0xFFF, 0x1000, 0xFFFF_F000, 0x7FFF_FFFF, u32::MAX];
    low.chain(high)
        .filter(move |handle| !own.contains(handle) && sys::handle_info(*handle).is_err())
}

fn forged_handles() -> bool {
    forged().all(|handle| {
        let flags = Protection::READ;
        all_refused![
            sys::process_kill(handle, 9),
            sys::memory_map(SELF, handle, 0x4000_0000_0000, 0, PAGE_SIZE as u64, flags),
            sys::memory_info(handle),
            sys::ports_read(handle, 0, 1),
            sys::irq_ack(handle),
            sys::notify(handle, 1),
            sys::ipc_call(handle, &Message::default()),
            sys::handle_mint(handle, u32::MAX, 0),
            sys::handle_close(handle),
        ]
    })
}

/// With each handle this process has, and with none.
fn authority() -> bool {
    let own = start::all_handles().iter().map(|h| h.handle);
    own.chain([SELF]).all(|handle| {
        let mut buffer = [0; 64];
        all_refused![
            sys::ports_create(handle, 0x3F8, 8),
            sys::irq_create_gsi(handle, 4, 0),
            sys::irq_create_msi(handle),
            sys::device_create(handle, 8, 0),
            sys::memory_device(handle, 0xFEE0_0000, 4096, DeviceMemoryFlags::empty()),
            sys::memory_device(handle, 0, 4096, DeviceMemoryFlags::CACHED),
            sys::process_create(handle, handle, 0, "intruder"),
            sys::log_read(handle, 0, &mut buffer),
        ]
    })
}

fn power() -> bool {
    let own = start::all_handles().iter().map(|h| h.handle);
    own.chain([SELF]).all(|handle| {
        all_refused![
            sys::system_control(handle, control::POWER_OFF),
            sys::system_control(handle, control::REBOOT),
            sys::system_control(handle, control::PANIC),
        ]
    })
}

fn look_up() -> bool {
    may_not_find(&["rs", "pci", "ramfs", "devfs", "procfs", "virtio-blk", "virtio-console", "init"])
}

/// RS tells us of none of these.
pub(super) fn may_not_find(labels: &[&str]) -> bool {
    labels.iter().all(|label| {
        let Ok(name) = Name::new(label) else { return false };
        denied(ipc::call(start::rs(), &rs::Lookup { name, wait: false }))
    })
}

/// RS takes no PCI functions from us, nor that there are no more.
pub(super) fn may_not_announce_functions() -> bool {
    let Ok(endpoint) = sys::endpoint_create() else { return false };
    let function = rs::AddFunction {
        location: 8,
        id: 0x1042_1AF4,
        class: 0x01_0000,
        device: endpoint,
        pci: endpoint,
    };
    denied(ipc::call(start::rs(), &function))
        && denied(ipc::call(start::rs(), &rs::FunctionsDone {}))
}

fn act_as_service() -> bool {
    let Ok(program) = Name::new("fs-fat") else { return false };
    denied(ipc::call(start::rs(), &rs::Announce {}))
        && denied(ipc::call(start::rs(), &rs::Spawn { program }))
        && may_not_announce_functions()
}

fn act_as_manager() -> bool {
    let pid = start::pid();
    let inherit = vfs::Inherit { parent: 1, child: pid, count: 1 };
    denied(ipc::call(vfs_handle(), &inherit))
        && denied(ipc::call(vfs_handle(), &vfs::OpenFor { parent: pid, path_len: 1 }))
}

/// Services have the lowest process ids; RS is 1.
fn kill_services() -> bool {
    (1..8).all(|pid| {
        let kill = ipc::call(pm_handle(), &pm::Kill { pid, signal: signal::KILL });
        kill.is_err()
    })
}

fn receive() -> bool {
    peers().all(|handle| {
        all_refused![
            sys::receive_poll(handle),
            sys::event_next(handle),
            sys::timer_set(handle, 1),
            sys::endpoint_owner(handle, SELF),
            sys::watch(1, handle, 0),
        ]
    })
}

fn notify() -> bool {
    peers().all(|handle| {
        let all = [bits::TERMINATE, bits::INJECT_FAULT, bits::INJECT_HANG, bits::OBITUARY, 1];
        all.into_iter().all(|bit| sys::notify(handle, bit).is_err())
    })
}

/// Answered like any other call that means nothing, by a server that lives on.
fn forge_notification() -> bool {
    let shape = Message { tag: Tag::NOTIFICATION, words: [u64::MAX; 6] };
    peers().all(|handle| {
        let answered = |message: &Message| sys::ipc_call(handle, message).is_ok();
        answered(&shape) && answered(&Message::default())
    })
}

fn widen() -> bool {
    peers().all(|handle| {
        let Ok((_, before)) = sys::handle_info(handle) else { return false };
        // A handle with at most the old rights is no success; one with more is.
        let narrow = match sys::handle_mint(handle, u32::MAX, 0) {
            Ok(minted) => sys::handle_info(minted).is_ok_and(|(_, now)| before.contains(now)),
            Err(_) => true,
        };
        let send = Rights::SEND.bits();
        narrow
            && all_refused![
                sys::handle_mint(handle, send, 1),
                sys::handle_mint(handle, send, 0x0101),
                sys::handle_mint(handle, send, u64::MAX),
            ]
    })
}

fn reply() -> bool {
    let tokens = (1..64u64).chain((1..64).map(|n| n << 32 | 1)).chain([u64::MAX, 1 << 63]);
    let mut tokens = tokens.map(ReplyToken);
    tokens.all(|token| sys::reply(token, &Message::default()).is_err())
}

fn send_forged() -> bool {
    let handles = || forged().take(20);
    handles().all(|handle| {
        let words = [0, 0, 0, 0, u64::from(handle), u64::from(handle)];
        let one = Message { tag: Tag::new(rs::INTERFACE << 8 | 3, 1), words };
        let two = Message { tag: Tag::new(rs::INTERFACE << 8 | 3, 2), words };
        all_refused![sys::ipc_call(start::rs(), &one), sys::ipc_call(start::rs(), &two)]
    })
}

pub(super) const FREE_ADDRESS: u64 = 0x4000_0000_0000;

fn write_execute() -> bool {
    let page = PAGE_SIZE as u64;
    let Ok(memory) = sys::memory_create(page, MemoryFlags::empty()) else { return false };
    let both = Protection::WRITE | Protection::EXECUTE;
    all_refused![
        sys::memory_map(SELF, memory, FREE_ADDRESS, 0, page, both),
        sys::memory_map(SELF, memory, FREE_ADDRESS, 0, page, both | Protection::READ),
    ]
}

fn bad_map() -> bool {
    let page = PAGE_SIZE as u64;
    let Ok(memory) = sys::memory_create(page, MemoryFlags::empty()) else { return false };
    let map = |address, offset, len| {
        sys::memory_map(SELF, memory, address, offset, len, Protection::READ)
    };
    let text = bad_map as *const () as u64 & !(page - 1);
    all_refused![
        map(0xFFFF_8000_0000_0000, 0, page),
        map(0xFFFF_FFFF_8000_0000, 0, page),
        map(0x8000_0000_0000, 0, page),
        map(USER_END - page, 0, 4 * page),
        map(USER_END, 0, page),
        map(0, 0, page),
        map(FREE_ADDRESS + 1, 0, page),
        map(text, 0, page),
        map(xinim_abi::kip::KIP_ADDRESS, 0, page),
        map(FREE_ADDRESS, 0, 2 * page),
        map(FREE_ADDRESS, page, page),
        map(FREE_ADDRESS, u64::MAX - page + 1, page),
        map(FREE_ADDRESS, 0, u64::MAX - page + 1),
        map(u64::MAX - page + 1, 0, page),
    ]
}

fn kernel_pointers() -> bool {
    let targets = [
        0xFFFF_FFFF_8020_0000u64,
        0xFFFF_8000_0000_0000,
        USER_END,
        u64::MAX - 8,
        0x8000_0000_0000,
        0,
        FREE_ADDRESS,
        xinim_abi::kip::KIP_ADDRESS,
        kernel_pointers as *const () as u64,
    ];
    let Ok(endpoint) = sys::endpoint_create() else { return false };
    targets.into_iter().all(|target| {
        // SAFETY: the buffers are not memory that Rust knows; refusing them is what is tested.
        let info = unsafe { raw::call(syscall::INFO, [1, 0, target, 4096, 0, 0]) };
        // SAFETY: as above. The text of this program may be read, so that is no attempt.
        let log = target == kernel_pointers as *const () as u64
            || target == xinim_abi::kip::KIP_ADDRESS
            // SAFETY: as above.
            || unsafe { raw::call(syscall::LOG_WRITE, [target, 64, 0, 0, 0, 0]) }.is_err();
        // SAFETY: as above; no obituary waits, so at most a 0 comes back and nothing is written.
        let event =
            unsafe { raw::call(syscall::EVENT_NEXT, [endpoint.into(), target, 4096, 0, 0, 0]) };
        info.is_err() && log && !matches!(event, Ok(1))
    })
}

fn kernel_thread() -> bool {
    let stack = 0u64;
    match sys::thread_create(SELF, 0xFFFF_FFFF_8020_0000, stack, 0, 8) {
        Err(_) => true,
        Ok(_) => {
            // Accepted: then its first instruction must end this process.
            sys::thread_sleep(xinim_rt::time::now_ns() + 1_000_000_000);
            false
        }
    }
}

fn huge_memory() -> bool {
    let Ok(info) = sys::info::<xinim_abi::info::SystemInfo>(xinim_abi::info::Kind::System, 0)
    else {
        return false;
    };
    let more = (info.frames_total + 1) * PAGE_SIZE as u64;
    let none = MemoryFlags::empty();
    all_refused![
        sys::memory_create(more, none),
        sys::memory_create(more, MemoryFlags::CONTIGUOUS),
        sys::memory_create(1 << 40, MemoryFlags::LARGE),
        sys::memory_create(1 << 62, none),
        sys::memory_create(u64::MAX, none),
        sys::memory_create(u64::MAX - 4095, none),
        sys::memory_create(0, none),
    ]
}

fn many_handles() -> bool {
    // The limit is 256 unless a manifest says otherwise; the table itself ends at 4096.
    (0..5000).any(|_| sys::endpoint_create().is_err())
}

/// Survival is the point: of this process, and of everything that `service list` shows.
fn garbage() -> bool {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..400 {
        let number = next() % 70;
        let harmless = !matches!(
            number,
            syscall::RECEIVE
                | syscall::REPLY_WAIT
                | syscall::PROCESS_EXIT
                | syscall::THREAD_EXIT
                | syscall::THREAD_CREATE
                | syscall::THREAD_SLEEP
                | syscall::THREAD_SET_TLS
                | syscall::MEMORY_UNMAP
                | syscall::HANDLE_CLOSE
                | syscall::INFO
        );
        if harmless {
            // High and low numbers, so that some pass the first checks.
            let mut args = [(); 6].map(|()| next() >> (next() % 64));
            args[0] |= 1 << 20;
            let handle = (next() >> (next() % 32)) << 32 | 1 << 52;
            // SAFETY: none of the calls left unmaps or writes memory of this process through a
            // handle that it has: bit 20 of the number makes it no handle of ours.
            let _ = unsafe { raw::call(number | handle, args) };
        }
    }
    // SAFETY: there are no such calls.
    let unknown = [70u64, 100, 0xFFFF, 0xFFFF_FFFF].map(|n| unsafe { raw::call(n, [0; 6]) });
    unknown.iter().all(|result| result.is_err())
}
