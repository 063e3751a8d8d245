//! The gate, by hand, and the calls the tests use most.

use core::arch::asm;

use xinim_abi::error::{Result, decode};
use xinim_abi::event::Obituary;
use xinim_abi::ipc::Tag;
use xinim_abi::kip::{GATE_ADDRESS, KIP_ADDRESS, KernelInfoPage};
use xinim_abi::syscall::{self as nr, control};
use zerocopy::FromZeros;

use crate::spawn;

/// Registers after a system call: rax and rdx.
#[inline]
pub fn raw2(number: u64, a: [u64; 6]) -> (u64, u64) {
    raw_at(GATE_ADDRESS, number, a)
}

/// The same through another gate (the benchmark has one that does nothing).
#[inline]
pub fn raw_at(gate: u64, number: u64, a: [u64; 6]) -> (u64, u64) {
    let (mut rax, mut rdx) = (number, a[2]);
    // SAFETY: the gate is the kernel's; the kernel touches only memory that the arguments name.
    unsafe {
        asm!("call {gate}", gate = in(reg) gate, inout("rax") rax, in("rdi") a[0],
            in("rsi") a[1], inout("rdx") rdx, in("r10") a[3], in("r8") a[4], in("r9") a[5],
            out("rcx") _, out("r11") _);
    }
    (rax, rdx)
}

/// A call with fewer arguments than six.
pub fn call(number: u64, arguments: &[u64]) -> Result<u64> {
    call2(number, arguments).map(|(value, _)| value)
}

pub fn call2(number: u64, arguments: &[u64]) -> Result<(u64, u64)> {
    let mut a = [0; 6];
    a[..arguments.len()].copy_from_slice(arguments);
    let (rax, rdx) = raw2(number, a);
    decode(rax).map(|value| (value, rdx))
}

/// The same by a `syscall` instruction, as foreign programs do it.
pub fn raw_syscall(number: u64, first: u64) -> u64 {
    let mut rax = number;
    // SAFETY: as for `raw2`.
    unsafe {
        asm!("syscall", inout("rax") rax, in("rdi") first, out("rcx") _, out("r11") _);
    }
    rax
}

/// Everything that IPC passes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Registers {
    pub rax: u64,
    pub rdi: u64,
    pub tag: u64,
    pub words: [u64; 6],
    pub badge: u64,
    pub sender: u64,
}

/// An IPC system call; the registers come back as the kernel left them.
#[inline]
pub fn ipc(number: u64, endpoint: u64, rdi: u64, tag: Tag, words: [u64; 6]) -> Registers {
    ipc_at(GATE_ADDRESS, number, endpoint, rdi, tag, words)
}

/// The same through another gate.
#[inline]
pub fn ipc_at(
    gate: u64,
    number: u64,
    endpoint: u64,
    rdi: u64,
    tag: Tag,
    words: [u64; 6],
) -> Registers {
    let mut r =
        Registers { rax: number | endpoint << 32, rdi, tag: tag.0, words, badge: 0, sender: 0 };
    // SAFETY: the gate is the kernel's; it changes registers only, all of which are named.
    unsafe {
        asm!(
            "call {gate}",
            gate = in(reg) gate,
            inout("rax") r.rax, inout("rdi") r.rdi, inout("rsi") r.tag,
            inout("rdx") r.words[0], inout("r10") r.words[1], inout("r8") r.words[2],
            inout("r9") r.words[3], inout("r12") r.words[4], inout("r13") r.words[5],
            out("r14") r.badge, out("r15") r.sender, out("rcx") _, out("r11") _,
        );
    }
    r
}

impl Registers {
    pub fn status(&self) -> Result<u64> {
        decode(self.rax)
    }
}

/// CALL with two words.
pub fn call_words(endpoint: u64, op: u16, a: u64, b: u64) -> Registers {
    ipc(nr::CALL, endpoint, 0, Tag::new(op, 0), [a, b, 0, 0, 0, 0])
}

pub fn receive(endpoint: u64) -> Registers {
    ipc(nr::RECEIVE, endpoint, 0, Tag(0), [0; 6])
}

pub fn poll(endpoint: u64) -> Registers {
    ipc(nr::RECEIVE, endpoint, nr::RECEIVE_POLL, Tag(0), [0; 6])
}

pub fn reply(token: u64, op: u16, a: u64) -> Registers {
    ipc(nr::REPLY, 0, token, Tag::new(op, 0), [a, 0, 0, 0, 0, 0])
}

pub fn notify(endpoint: u64, bits: u64) -> Result<u64> {
    ipc(nr::NOTIFY, endpoint, bits, Tag(0), [0; 6]).status()
}

/// NOTIFY_WAIT: bits at `target`, then what waits at `endpoint`.
pub fn notify_wait(endpoint: u64, target: u64, bits: u64) -> Registers {
    ipc(nr::NOTIFY_WAIT, endpoint, bits, Tag(target), [0; 6])
}

pub fn event(endpoint: u64) -> Result<Option<Obituary>> {
    let mut obituary = Obituary::new_zeroed();
    let address = core::ptr::from_mut(&mut obituary) as u64;
    let got = call(nr::EVENT_NEXT, &[endpoint, address, size_of::<Obituary>() as u64])?;
    Ok((got == 1).then_some(obituary))
}

pub fn endpoint() -> u64 {
    call(nr::ENDPOINT_CREATE, &[]).unwrap_or(0)
}

pub fn close(handle: u64) -> Result<u64> {
    call(nr::HANDLE_CLOSE, &[handle])
}

pub fn sleep_ms(ms: u64) {
    let _ = call(nr::THREAD_SLEEP, &[now() + ms * 1_000_000]);
}

pub fn log(text: &str) {
    let _ = call(nr::LOG_WRITE, &[text.as_ptr() as u64, text.len() as u64]);
}

pub fn exit(code: u64) -> ! {
    loop {
        let _ = call(nr::PROCESS_EXIT, &[code]);
    }
}

pub fn power_off() -> ! {
    let _ = call(nr::SYSTEM_CONTROL, &[spawn::resource(), control::POWER_OFF]);
    exit(1)
}

pub fn kip() -> &'static KernelInfoPage {
    // SAFETY: the kernel maps the page here in every process, for ever.
    unsafe { &*(KIP_ADDRESS as *const KernelInfoPage) }
}

/// The number behind `NAME=` on the kernel command line, else 0.
pub fn word_value(name: &str) -> u64 {
    let line = &kip().cmdline;
    let words = line.split(|&b| b == b' ' || b == 0);
    let digits =
        |word: &'static [u8]| word.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(number);
    words.filter_map(digits).next().unwrap_or(0)
}

fn number(digits: &[u8]) -> u64 {
    digits
        .iter()
        .fold(0, |sum, d| sum.wrapping_mul(10).wrapping_add(u64::from(d.wrapping_sub(b'0'))))
}

/// CPUs that run threads.
pub fn cpus() -> u64 {
    u64::from(kip().cpus)
}

/// Whether the kernel command line has this word.
pub fn has_word(word: &str) -> bool {
    let line = &kip().cmdline;
    let len = line.iter().position(|&b| b == 0).unwrap_or(line.len());
    line[..len].split(|&b| b == b' ').any(|w| w == word.as_bytes())
}

pub fn tsc() -> u64 {
    // SAFETY: every x86_64 CPU has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds since boot.
pub fn now() -> u64 {
    let k = kip();
    ((u128::from(tsc() - k.tsc_base) * u128::from(k.tsc_mult)) >> k.tsc_shift) as u64
}
