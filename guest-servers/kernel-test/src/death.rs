//! How processes end, and who hears of it.

use core::arch::asm;

use xinim_abi::error::Error;
use xinim_abi::event::{Obituary, cause};
use xinim_abi::info::{Kind, SystemInfo};
use xinim_abi::ipc::{Tag, bits};
use xinim_abi::object::{Protection, Rights};
use xinim_abi::syscall as nr;
use zerocopy::FromZeros;

use crate::check::{Checks, say};
use crate::spawn::{self, Arguments, Give};
use crate::sys::{self, call, close, endpoint, receive};

const CLIENT: Rights = Rights::SEND.union(Rights::TRANSFER).union(Rights::NOTIFY);

/// Waits for the next obituary.
pub fn obituary(supervisor: u64) -> Option<Obituary> {
    loop {
        if let Ok(Some(obituary)) = sys::event(supervisor) {
            return Some(obituary);
        }
        let r = receive(supervisor);
        if r.status().is_err() || r.words[0] & bits::OBITUARY == 0 {
            return None;
        }
    }
}

/// Waits for a child's end; its exit code if it exited.
pub fn exit_code(supervisor: u64) -> Option<i64> {
    let obituary = obituary(supervisor)?;
    if obituary.cause != cause::EXIT {
        say("  child ended by cause ", u64::from(obituary.cause));
        say("  vector ", obituary.vector);
        say("  address ", obituary.address);
        say("  rip ", obituary.registers.rip);
        return None;
    }
    if obituary.code != 42 {
        say("  child's exit code ", obituary.code as u64);
    }
    Some(obituary.code)
}

/// Creates an endpoint, sends it to the parent, takes one call and dies with it unanswered.
extern "C" fn dying_server(a: &Arguments) -> ! {
    let e = endpoint();
    let _ = sys::ipc(nr::CALL, a.handles[0], 0, Tag::new(1, 1), [0, 0, 0, 0, 0, e]);
    let r = receive(e);
    sys::exit(if r.status() == Ok(0) { 42 } else { 1 })
}

/// Calls the endpoint it was given; its exit code is the error it got.
extern "C" fn victim(a: &Arguments) -> ! {
    let r = sys::call_words(a.handles[0], 1, 2, 3);
    sys::exit(r.status().map_or_else(|error| error as u64, |_| 0))
}

extern "C" fn sleeper(_: &Arguments) -> ! {
    loop {
        sys::sleep_ms(1000);
    }
}

pub fn servers(c: &mut Checks) {
    let supervisor = endpoint();
    let e = endpoint();
    let server = spawn::child(supervisor, dying_server, &[], &[Give(e, CLIENT)]);
    let r = receive(e);
    let theirs = r.words[5];
    // Two callers before the server looks: one will be received, the other stays queued.
    let first = spawn::child(supervisor, victim, &[], &[Give(theirs, CLIENT)]);
    let second = spawn::child(supervisor, victim, &[], &[Give(theirs, CLIENT)]);
    sys::sleep_ms(20);
    c.equal(sys::reply(r.rdi, 0, 0).status(), Ok(0), "let it go");
    for _ in 0..3 {
        let died = Error::ServerDied as i64;
        let code = obituary(supervisor).map_or(0, |o| o.code);
        c.that(code == 42 || code == died, "received and queued callers are told");
    }
    let error = Err(Error::ServerDied);
    c.equal(sys::call_words(theirs, 1, 0, 0).status(), error, "at send");
    c.equal(sys::notify(theirs, 1), error, "notify");
    c.equal(receive(theirs).status(), error, "receive");
    for call_number in [nr::TIMER_SET, nr::EVENT_NEXT] {
        let got = call(call_number, &[theirs, 0, 0]);
        c.that(got == error || got == Ok(0), "a dead endpoint");
    }
    [server, first, second].into_iter().for_each(spawn::Child::forget);

    // An endpoint handed over dies with its new server, though a handle is kept.
    let handed = endpoint();
    let child = spawn::child(supervisor, sleeper, &[], &[]);
    c.equal(call(nr::ENDPOINT_OWNER, &[handed, child.process]), Ok(0), "hand over");
    c.equal(receive(handed).status(), Err(Error::Perm), "no longer ours");
    c.equal(sys::notify(handed, 1), Ok(0), "but alive");
    c.equal(child.kill(9), Ok(0), "kill");
    c.that(obituary(supervisor).is_some_and(|o| o.cause == cause::KILLED && o.code == 9), "killed");
    c.equal(sys::notify(handed, 1), error, "died with its server");
    c.equal(call(nr::ENDPOINT_OWNER, &[handed, child.process]), Err(Error::Srch), "a dead server");
    child.forget();

    // Closing the last handle that could receive tells those who wait.
    let closing = endpoint();
    let child = spawn::child(supervisor, victim, &[], &[Give(closing, CLIENT)]);
    sys::sleep_ms(10);
    c.equal(close(closing), Ok(0), "close with a caller queued");
    c.that(exit_code(supervisor) == Some(Error::ServerDied as i64), "told");
    child.forget();
    for handle in [supervisor, e, theirs, handed] {
        c.equal(close(handle), Ok(0), "close");
    }
}

pub fn obituaries(c: &mut Checks) {
    let supervisor = endpoint();
    let watcher = endpoint();
    let Ok(child) = spawn::prepare(supervisor, 1234) else { return c.that(false, "no child") };
    c.equal(call(nr::WATCH, &[child.pid, watcher, 99]), Ok(0), "watch");
    c.equal(call(nr::WATCH, &[0xFFFF, watcher, 99]), Err(Error::Srch), "nobody");
    c.equal(call(nr::WATCH, &[1 << 40, watcher, 99]), Err(Error::Srch), "no pid");
    let mut watches = 0;
    while call(nr::WATCH, &[child.pid, watcher, 100 + watches]) == Ok(0) && watches < 1000 {
        watches += 1;
    }
    c.that((10..1000).contains(&watches), "watches are bounded");
    let before = sys::now();
    let _ = child.start(victim, 8, &[], &[]).and_then(close);
    let o = obituary(supervisor).unwrap_or_default();
    c.that(o.cookie == 1234 && u64::from(o.pid) == child.pid, "who");
    c.that(o.cause == cause::EXIT && o.code == Error::BadHandle as i64, "how");
    c.that((before..=sys::now()).contains(&o.time), "when");
    let o = obituary(watcher).unwrap_or_default();
    c.that(o.cookie == 99 && u64::from(o.pid) == child.pid, "the watcher hears too");
    c.equal(call(nr::EVENT_NEXT, &[watcher, 0, 4096]), Err(Error::Fault), "bad pointer");
    c.equal(call(nr::EVENT_NEXT, &[watcher, 0x40_0000, 8]), Err(Error::Inval), "short buffer");
    c.that((0..watches).all(|n| obituary(watcher).is_some_and(|o| o.cookie == 100 + n)), "order");
    c.that(matches!(sys::event(watcher), Ok(None)), "no more");
    c.equal(child.kill(1), Ok(0), "killing the dead");
    c.equal(call(nr::THREAD_CREATE, &[child.process, 0, 0, 0, 1, 0]), Err(Error::Srch), "dead");
    c.equal(
        spawn::map(child.process, spawn::bundle(), 0x1000, 0, 4096, Protection::READ),
        Err(Error::Srch),
        "map into the dead",
    );
    c.equal(call(nr::HANDLE_GIVE, &[child.process, supervisor, 0]), Err(Error::Srch), "give");
    c.equal(call(nr::WATCH, &[child.pid, watcher, 1]), Err(Error::Srch), "watch the dead");
    child.forget();
    // A process that never had a thread.
    let Ok(child) = spawn::prepare(supervisor, 5) else { return c.that(false, "no child") };
    c.equal(child.kill(3), Ok(0), "kill before the start");
    c.that(obituary(supervisor).is_some_and(|o| o.cookie == 5 && o.code == 3), "heard of");
    child.forget();
    c.equal(close(supervisor), Ok(0), "close");
    c.equal(close(watcher), Ok(0), "close");
}

/// Whoever supervises a process may die before it: the next one adopts it.
pub fn orphans(c: &mut Checks) {
    let (first, second) = (endpoint(), endpoint());
    let adopt = |pid, e, cookie| call(nr::PROCESS_ADOPT, &[spawn::resource(), pid, e, cookie]);
    let living = spawn::child(first, sleeper, &[], &[]);
    let unheard = spawn::child(first, sleeper, &[], &[]);
    let ended = spawn::child(first, sleeper, &[], &[]);
    let heard = spawn::child(first, sleeper, &[], &[]);
    let fetched = spawn::child(first, sleeper, &[], &[]);
    c.equal(heard.kill(2), Ok(0), "ends, and is heard of");
    c.equal(fetched.kill(3), Ok(0), "ends, and its obituary is fetched");
    c.that(
        [2, 3].map(|code| obituary(first).is_some_and(|o| o.code == code)) == [true; 2],
        "fetched",
    );
    c.equal(adopt(living.pid, second, 1), Err(Error::Perm), "it has a supervisor");
    c.equal(unheard.kill(4), Ok(0), "ends while its supervisor lives, who does not look");
    c.equal(close(first), Ok(0), "the supervisor's endpoint dies");
    c.equal(ended.kill(5), Ok(0), "ends without a supervisor");
    let handle = adopt(living.pid, second, 7);
    c.that(handle.is_ok_and(|handle| handle != 0), "adopt one that lives");
    c.equal(adopt(living.pid, second, 8), Err(Error::Perm), "once");
    c.equal(adopt(heard.pid, second, 9), Err(Error::Srch), "the next one was asked for");
    for (child, code) in [(&fetched, 3), (&unheard, 4), (&ended, 5)] {
        c.equal(adopt(child.pid, second, 9), Ok(0), "adopt one that has ended");
        let heard = obituary(second);
        c.that(heard.is_some_and(|o| o.cookie == 9 && o.code == code), "its obituary");
        c.that(matches!(sys::event(second), Ok(None)), "one");
        c.equal(adopt(child.pid, second, 9), Err(Error::Srch), "that is told once");
    }
    let handle = handle.unwrap_or(0);
    c.equal(call(nr::PROCESS_KILL, &[handle, 6]), Ok(0), "the new handle is a handle");
    c.that(obituary(second).is_some_and(|o| o.cookie == 7 && o.code == 6), "heard of");
    c.equal(adopt(1 << 30, second, 1), Err(Error::Srch), "nobody");
    c.equal(call(nr::PROCESS_ADOPT, &[second, living.pid, second, 1]), Err(Error::BadHandle), "");
    c.equal(close(handle), Ok(0), "close");
    for child in [living, unheard, ended, heard, fetched] {
        child.forget();
    }
    c.equal(close(second), Ok(0), "close");
}

const KERNEL_TEXT: u64 = 0xFFFF_FFFF_8020_0000;
const DIRECT_MAP: u64 = 0xFFFF_8000_0020_0000;

/// Breaks one rule; which, says the argument.
extern "C" fn offender(a: &Arguments) -> ! {
    // SAFETY: none of it is sound, which is the point: the kernel must end this process.
    unsafe {
        match a.values[0] {
            0 => drop((KERNEL_TEXT as *const u64).read_volatile()),
            1 => (KERNEL_TEXT as *mut u64).write_volatile(0),
            2 => drop((DIRECT_MAP as *const u64).read_volatile()),
            3 => (DIRECT_MAP as *mut u64).write_volatile(0),
            4 => drop(core::ptr::without_provenance::<u64>(8).read_volatile()),
            5 => (offender as *const () as *mut u64).write_volatile(0),
            6 => asm!("jmp {}", in(reg) a as *const Arguments as u64),
            7 => asm!("jmp {}", in(reg) KERNEL_TEXT),
            8 => asm!("cli"),
            9 => asm!("hlt"),
            10 => asm!("in al, dx", in("dx") 0x80u16, out("al") _),
            11 => asm!("out dx, al", in("dx") 0xF4u16, in("al") 0u8),
            12 => asm!("mov {}, cr3", out(reg) _),
            13 => asm!("ud2"),
            14 => asm!("xor edx, edx", "xor ecx, ecx", "mov eax, 1", "div ecx", out("eax") _,
                out("ecx") _, out("edx") _),
            15 => asm!("int3"),
            16 => asm!("mov rsp, {}", "push rax", in(reg) 0x1000u64),
            17 => asm!("jmp {}", in(reg) 0x8000_0000_0000_0000u64),
            18 => asm!("wrmsr", in("ecx") 0xC000_0082u32, in("eax") 0, in("edx") 0),
            19 => asm!("lidt [{}]", in(reg) a),
            20 => asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop"),
            21 => asm!("mov ds, {0:x}", in(reg) 0x10u16),
            22 => (xinim_abi::kip::KIP_ADDRESS as *mut u64).write_volatile(0),
            23 => asm!("int 0x80"),
            24 => asm!("swapgs"),
            25 => asm!("iretq"),
            // Where `syscall` enters: any kernel address must do.
            26 => asm!("mov rcx, {}", "jmp {}", in(reg) u64::MAX, in(reg) KERNEL_TEXT + 0x1000),
            _ => (),
        }
    }
    sys::exit(99)
}

pub fn faults(c: &mut Checks) {
    let supervisor = endpoint();
    // Vectors that are right; where an emulating hypervisor may differ, several.
    let wanted: &[(u64, &[u64])] = &[
        (0, &[14]),
        (1, &[14]),
        (2, &[14]),
        (3, &[14]),
        (4, &[14]),
        (5, &[14]),
        (6, &[14]),
        (7, &[14]),
        (8, &[13]),
        (9, &[13]),
        (10, &[13]),
        (11, &[13]),
        (12, &[13]),
        (13, &[6]),
        (14, &[0]),
        (15, &[3]),
        (16, &[14]),
        (17, &[13, 14]),
        (18, &[13]),
        (19, &[13]),
        (20, &[1]),
        (21, &[13]),
        (22, &[14]),
        (23, &[13, 6]),
        (24, &[13, 6]),
        (25, &[13, 14, 12]),
        (26, &[14]),
    ];
    for &(number, vectors) in wanted {
        let child = spawn::child(supervisor, offender, &[number], &[]);
        let o = obituary(supervisor).unwrap_or_default();
        let ok = o.cause == cause::FAULT && vectors.contains(&o.vector);
        c.that(ok, "a fault ends the process");
        if !ok {
            say("  offence ", number);
            say("  cause ", u64::from(o.cause));
            say("  vector ", o.vector);
            say("  exit code ", o.code as u64);
        }
        match number {
            0 | 1 => c.equal(o.address, KERNEL_TEXT, "fault address"),
            4 => c.equal(o.address, 8, "fault address"),
            5 => c.that(o.error_code & 7 == 7, "write to a present user page"),
            _ => (),
        }
        let text = offender as *const () as u64;
        if matches!(number, 0..=5 | 8..=14) {
            c.that((text..text + 4096).contains(&o.registers.rip), "where");
        }
        child.forget();
    }
    c.equal(close(supervisor), Ok(0), "close");
}

pub fn system() -> SystemInfo {
    let mut info = SystemInfo::new_zeroed();
    let at = core::ptr::from_mut(&mut info) as u64;
    let _ = call(nr::INFO, &[Kind::System as u64, 0, at, size_of::<SystemInfo>() as u64]);
    info
}

/// How many of each kind there are.
pub fn objects(i: &SystemInfo) -> [u32; 6] {
    [i.processes, i.threads, i.endpoints, i.memory_objects, i.interrupts, i.devices]
}

pub fn leaks(c: &mut Checks) {
    let supervisor = endpoint();
    let mut before = system();
    for round in 0..30u64 {
        let child = spawn::child(supervisor, sleeper, &[], &[Give(supervisor, CLIENT)]);
        c.equal(child.kill(0), Ok(0), "kill");
        c.that(obituary(supervisor).is_some(), "obituary");
        child.forget();
        if round == 4 {
            // Slabs have grown to what is needed.
            before = system();
        }
    }
    let after = system();
    c.equal(after.frames_free, before.frames_free, "frames");
    c.equal(after.frames_kernel, before.frames_kernel, "kernel frames");
    c.that(objects(&after) == objects(&before), "objects");
    c.equal(close(supervisor), Ok(0), "close");
}
