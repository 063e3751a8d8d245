//! System calls, one function each; the contract is in [`xinim_abi::syscall`].

use core::arch::asm;

use xinim_abi::error::{Error, Result, decode};
use xinim_abi::event::Obituary;
use xinim_abi::info;
use xinim_abi::ipc::{Message, Received, ReplyToken, Tag, WORDS};
use xinim_abi::kip::GATE_ADDRESS;
use xinim_abi::object::{DeviceMemoryFlags, Handle, MemoryFlags, Protection, Rights};
use xinim_abi::syscall as nr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A system call with up to six arguments; returns (rax, rdx).
#[inline]
fn raw(number: u64, args: [u64; 6]) -> (u64, u64) {
    let (mut a, mut d) = (number, args[2]);
    // SAFETY: the gate is mapped by the kernel in every process. A system call changes no memory
    // of ours but what its arguments name; callers in this module pass live buffers only.
    unsafe {
        asm!(
            "mov r11, {gate}",
            "call r11",
            gate = const GATE_ADDRESS,
            inlateout("rax") a,
            in("rdi") args[0],
            in("rsi") args[1],
            inlateout("rdx") d,
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    (a, d)
}

fn call(number: u64, args: [u64; 6]) -> Result<u64> {
    decode(raw(number, args).0)
}

fn call2(number: u64, args: [u64; 6]) -> Result<(u64, u64)> {
    let (a, d) = raw(number, args);
    Ok((decode(a)?, d))
}

/// The memory becomes the ring of this process's trace events.
pub fn trace_ring(memory: Handle) -> Result<()> {
    call(nr::TRACE_RING, [memory.into(), 0, 0, 0, 0, 0]).map(drop)
}

pub fn null() -> Result<()> {
    call(nr::NULL, [0; 6]).map(drop)
}

// --- IPC ---------------------------------------------------------------------------------------

/// Sends `message` to `endpoint` and waits for the reply.
pub fn ipc_call(endpoint: Handle, message: &Message) -> Result<Message> {
    let mut status = nr::CALL | u64::from(endpoint) << 32;
    let mut tag = message.tag.0;
    let mut w = message.words;
    // SAFETY: as in `raw`; IPC touches registers only.
    unsafe {
        asm!(
            "mov r11, {gate}",
            "call r11",
            gate = const GATE_ADDRESS,
            inlateout("rax") status,
            inlateout("rdi") 0u64 => _,
            inlateout("rsi") tag,
            inlateout("rdx") w[0],
            inlateout("r10") w[1],
            inlateout("r8") w[2],
            inlateout("r9") w[3],
            inlateout("r12") w[4],
            inlateout("r13") w[5],
            lateout("rcx") _,
            lateout("r11") _,
            lateout("r14") _,
            lateout("r15") _,
        );
    }
    decode(status)?;
    Ok(Message { tag: Tag(tag), words: w })
}

fn receive_like(number: u64, first: u64, message: &Message) -> Result<Received> {
    let mut status = number;
    let mut token = first;
    let mut tag = message.tag.0;
    let mut w = message.words;
    let (badge, sender): (u64, u64);
    // SAFETY: as in `raw`; IPC touches registers only.
    unsafe {
        asm!(
            "mov r11, {gate}",
            "call r11",
            gate = const GATE_ADDRESS,
            inlateout("rax") status,
            inlateout("rdi") token,
            inlateout("rsi") tag,
            inlateout("rdx") w[0],
            inlateout("r10") w[1],
            inlateout("r8") w[2],
            inlateout("r9") w[3],
            inlateout("r12") w[4],
            inlateout("r13") w[5],
            lateout("rcx") _,
            lateout("r11") _,
            lateout("r14") badge,
            lateout("r15") sender,
        );
    }
    decode(status)?;
    Ok(Received {
        message: Message { tag: Tag(tag), words: w },
        token: ReplyToken(token),
        badge,
        sender: sender as u32,
    })
}

pub fn receive(endpoint: Handle) -> Result<Received> {
    receive_like(nr::RECEIVE | u64::from(endpoint) << 32, 0, &Message::default())
}

/// As [`receive`], but `Again` instead of waiting.
pub fn receive_poll(endpoint: Handle) -> Result<Received> {
    let number = nr::RECEIVE | u64::from(endpoint) << 32;
    receive_like(number, nr::RECEIVE_POLL, &Message::default())
}

pub fn reply_wait(endpoint: Handle, token: ReplyToken, reply: &Message) -> Result<Received> {
    receive_like(nr::REPLY_WAIT | u64::from(endpoint) << 32, token.0, reply)
}

pub fn reply(token: ReplyToken, reply: &Message) -> Result<()> {
    const { assert!(WORDS == 6) };
    receive_like(nr::REPLY, token.0, reply).map(drop)
}

pub fn notify(endpoint: Handle, bits: u64) -> Result<()> {
    call(nr::NOTIFY | u64::from(endpoint) << 32, [bits, 0, 0, 0, 0, 0]).map(drop)
}

/// Whether the server of `endpoint` still comes to receive; see [`nr::PROBE`]. The record says what
/// it does if the answer is [`info::pulse::PENDING`], or if it has several threads.
pub fn probe(endpoint: Handle, bits: u64) -> Result<(u64, info::Pulse)> {
    let mut pulse = info::Pulse::default();
    let bytes = pulse.as_mut_bytes();
    let args = [bits, bytes.as_mut_ptr() as u64, bytes.len() as u64, 0, 0, 0];
    let answer = call(nr::PROBE | u64::from(endpoint) << 32, args)?;
    Ok((answer, pulse))
}

/// [`notify`] of `target` and then [`receive`] in one call; a target that is dead is ignored.
pub fn notify_wait(endpoint: Handle, target: Handle, bits: u64) -> Result<Received> {
    let message = Message { tag: Tag(target.into()), ..Message::default() };
    receive_like(nr::NOTIFY_WAIT | u64::from(endpoint) << 32, bits, &message)
}

// --- Handles -----------------------------------------------------------------------------------

pub fn endpoint_create() -> Result<Handle> {
    Ok(call(nr::ENDPOINT_CREATE, [0; 6])? as Handle)
}

/// `rights` as bits: a resource handle has more than [`Rights`] names.
pub fn handle_mint(handle: Handle, rights: u32, badge: u64) -> Result<Handle> {
    Ok(call(nr::HANDLE_MINT, [handle.into(), rights.into(), badge, 0, 0, 0])? as Handle)
}

pub fn handle_close(handle: Handle) -> Result<()> {
    call(nr::HANDLE_CLOSE, [handle.into(), 0, 0, 0, 0, 0]).map(drop)
}

pub fn handle_give(process: Handle, handle: Handle, rights: u32) -> Result<Handle> {
    let args = [process.into(), handle.into(), rights.into(), 0, 0, 0];
    Ok(call(nr::HANDLE_GIVE, args)? as Handle)
}

/// Kind and rights bits.
pub fn handle_info(handle: Handle) -> Result<(u64, Rights)> {
    let (kind, rights) = call2(nr::HANDLE_INFO, [handle.into(), 0, 0, 0, 0, 0])?;
    Ok((kind, Rights::from_bits_retain(rights as u32)))
}

pub fn endpoint_owner(endpoint: Handle, process: Handle) -> Result<()> {
    call(nr::ENDPOINT_OWNER, [endpoint.into(), process.into(), 0, 0, 0, 0]).map(drop)
}

// --- Processes and threads -----------------------------------------------------------------------

/// Handle and process id.
pub fn process_create(
    resource: Handle,
    supervisor: Handle,
    cookie: u64,
    name: &str,
) -> Result<(Handle, u32)> {
    let (ptr, len) = (name.as_ptr() as u64, name.len() as u64);
    let args = [resource.into(), supervisor.into(), cookie, ptr, len, 0];
    let (handle, pid) = call2(nr::PROCESS_CREATE, args)?;
    Ok((handle as Handle, pid as u32))
}

pub fn process_limit(process: Handle, kind: u64, value: u64) -> Result<()> {
    call(nr::PROCESS_LIMIT, [process.into(), kind, value, 0, 0, 0]).map(drop)
}

pub fn process_kill(process: Handle, code: i64) -> Result<()> {
    call(nr::PROCESS_KILL, [process.into(), code as u64, 0, 0, 0, 0]).map(drop)
}

pub fn process_exit(code: i32) -> ! {
    let _ = call(nr::PROCESS_EXIT, [i64::from(code) as u64, 0, 0, 0, 0, 0]);
    // Unreachable with a working kernel; a fault ends the process all the same.
    loop {
        core::hint::spin_loop();
    }
}

/// A thread in another process (or in this one, whose safety is then the caller's business:
/// the entry must be a function of ours and the stack unused memory).
pub fn thread_create(
    process: Handle,
    entry: u64,
    stack: u64,
    argument: u64,
    priority: u64,
) -> Result<Handle> {
    let args = [process.into(), entry, stack, argument, priority, 0];
    Ok(call(nr::THREAD_CREATE, args)? as Handle)
}

/// `Srch`: the thread is dead.
pub fn thread_priority(thread: Handle, priority: u64) -> Result<()> {
    call(nr::THREAD_PRIORITY, [thread.into(), priority, 0, 0, 0, 0]).map(drop)
}

/// `deadline` in nanoseconds since boot; 0 yields.
pub fn thread_sleep(deadline: u64) {
    let _ = call(nr::THREAD_SLEEP, [deadline, 0, 0, 0, 0, 0]);
}

pub fn timer_set(endpoint: Handle, deadline: u64) -> Result<()> {
    call(nr::TIMER_SET, [endpoint.into(), deadline, 0, 0, 0, 0]).map(drop)
}

pub fn watch(pid: u32, endpoint: Handle, cookie: u64) -> Result<()> {
    call(nr::WATCH, [pid.into(), endpoint.into(), cookie, 0, 0, 0]).map(drop)
}

/// The process, or `None` if it has ended and its obituary waits at the endpoint.
pub fn process_adopt(
    resource: Handle,
    pid: u32,
    supervisor: Handle,
    cookie: u64,
) -> Result<Option<Handle>> {
    let args = [resource.into(), pid.into(), supervisor.into(), cookie, 0, 0];
    let handle = call(nr::PROCESS_ADOPT, args)? as Handle;
    Ok((handle != 0).then_some(handle))
}

pub fn event_next(endpoint: Handle) -> Result<Option<Obituary>> {
    let mut obituary = Obituary::default();
    let bytes = obituary.as_mut_bytes();
    let args = [endpoint.into(), bytes.as_mut_ptr() as u64, bytes.len() as u64, 0, 0, 0];
    let found = call(nr::EVENT_NEXT, args)?;
    Ok((found != 0).then_some(obituary))
}

// --- Memory --------------------------------------------------------------------------------------

pub fn memory_create(len: u64, flags: MemoryFlags) -> Result<Handle> {
    Ok(call(nr::MEMORY_CREATE, [len, flags.bits().into(), 0, 0, 0, 0])? as Handle)
}

/// Maps at an address of the caller's choice, which must be free: nothing that exists changes.
pub fn memory_map(
    process: Handle,
    memory: Handle,
    address: u64,
    offset: u64,
    len: u64,
    protection: Protection,
) -> Result<()> {
    let protection = protection.bits().into();
    call(nr::MEMORY_MAP, [process.into(), memory.into(), address, offset, len, protection])
        .map(drop)
}

/// # Safety
/// For `SELF`, nothing may refer to the mapping any more.
pub unsafe fn memory_unmap(process: Handle, address: u64, len: u64) -> Result<()> {
    call(nr::MEMORY_UNMAP, [process.into(), address, len, 0, 0, 0]).map(drop)
}

pub fn memory_info(memory: Handle) -> Result<(u64, MemoryFlags)> {
    let (len, flags) = call2(nr::MEMORY_INFO, [memory.into(), 0, 0, 0, 0, 0])?;
    Ok((len, MemoryFlags::from_bits_truncate(flags as u32)))
}

pub fn memory_device(
    resource: Handle,
    physical: u64,
    len: u64,
    flags: DeviceMemoryFlags,
) -> Result<Handle> {
    let args = [resource.into(), physical, len, flags.bits().into(), 0, 0];
    Ok(call(nr::MEMORY_DEVICE, args)? as Handle)
}

// --- Devices -------------------------------------------------------------------------------------

/// `location` is bus << 8 | device << 3 | function; `config` the physical address of the
/// function's configuration space (ECAM), 0 for ports.
pub fn device_create(resource: Handle, location: u16, config: u64) -> Result<Handle> {
    let args = [resource.into(), location.into(), config, 0, 0, 0];
    Ok(call(nr::DEVICE_CREATE, args)? as Handle)
}

/// Device address at `offset` of `memory` and how many bytes follow contiguously.
pub fn device_pin(device: Handle, memory: Handle, offset: u64) -> Result<(u64, u64)> {
    call2(nr::DEVICE_PIN, [device.into(), memory.into(), offset, 0, 0, 0])
}

pub fn device_unpin(device: Handle, memory: Handle) -> Result<()> {
    call(nr::DEVICE_UNPIN, [device.into(), memory.into(), 0, 0, 0, 0]).map(drop)
}

pub fn device_reset_done(device: Handle) -> Result<()> {
    call(nr::DEVICE_RESET_DONE, [device.into(), 0, 0, 0, 0, 0]).map(drop)
}

/// An IOMMU stands before the device.
pub fn device_confine(resource: Handle, device: Handle) -> Result<()> {
    call(nr::DEVICE_CONFINE, [resource.into(), device.into(), 0, 0, 0, 0]).map(drop)
}

/// The runs of memory that the device is to reach, each address, bytes and pid; how many. `Limit`: more
/// than there is room for.
pub fn device_grants(resource: Handle, device: Handle, runs: &mut [[u64; 3]]) -> Result<usize> {
    let (at, len) = (runs.as_mut_ptr() as u64, size_of_val(runs) as u64);
    let count = call(nr::DEVICE_GRANTS, [resource.into(), device.into(), at, len, 0, 0])?;
    Ok((count as usize).min(runs.len()))
}

/// The device reaches what [`device_grants`] told last, and nothing else.
pub fn device_released(resource: Handle, device: Handle) -> Result<()> {
    call(nr::DEVICE_RELEASED, [resource.into(), device.into(), 0, 0, 0, 0]).map(drop)
}

/// A message-signalled interrupt: handle, message address, message data.
pub fn irq_create_msi(resource: Handle) -> Result<(Handle, u32, u32)> {
    let (handle, message) = call2(nr::IRQ_CREATE, [resource.into(), nr::IRQ_MSI, 0, 0, 0, 0])?;
    Ok((handle as Handle, (message >> 32) as u32, message as u32))
}

/// Flags: `syscall::IRQ_LEVEL`, `IRQ_ACTIVE_LOW`.
pub fn irq_create_gsi(resource: Handle, gsi: u32, flags: u64) -> Result<Handle> {
    Ok(call(nr::IRQ_CREATE, [resource.into(), gsi.into(), flags, 0, 0, 0])? as Handle)
}

pub fn irq_bind(irq: Handle, endpoint: Handle, bit: u32) -> Result<()> {
    call(nr::IRQ_BIND, [irq.into(), endpoint.into(), bit.into(), 0, 0, 0]).map(drop)
}

pub fn irq_ack(irq: Handle) -> Result<()> {
    call(nr::IRQ_ACK, [irq.into(), 0, 0, 0, 0, 0]).map(drop)
}

pub fn ports_create(resource: Handle, base: u16, count: u32) -> Result<Handle> {
    let args = [resource.into(), base.into(), count.into(), 0, 0, 0];
    Ok(call(nr::PORTS_CREATE, args)? as Handle)
}

pub fn ports_read(ports: Handle, offset: u16, size: u32) -> Result<u32> {
    let args = [ports.into(), offset.into(), size.into(), 0, 0, 0];
    Ok(call(nr::PORTS_READ, args)? as u32)
}

pub fn ports_write(ports: Handle, offset: u16, size: u32, value: u32) -> Result<()> {
    let args = [ports.into(), offset.into(), size.into(), value.into(), 0, 0];
    call(nr::PORTS_WRITE, args).map(drop)
}

/// Byte by byte to one port; at most 4096 bytes.
pub fn ports_write_bytes(ports: Handle, offset: u16, bytes: &[u8]) -> Result<usize> {
    let (ptr, len) = (bytes.as_ptr() as u64, bytes.len() as u64);
    Ok(call(nr::PORTS_WRITE_BYTES, [ports.into(), offset.into(), ptr, len, 0, 0])? as usize)
}

// --- System --------------------------------------------------------------------------------------

/// One line, at most 1024 bytes.
pub fn log_write(line: &[u8]) {
    let _ = call(nr::LOG_WRITE, [line.as_ptr() as u64, line.len() as u64, 0, 0, 0, 0]);
}

/// Bytes read and the next position.
pub fn log_read(resource: Handle, position: u64, buffer: &mut [u8]) -> Result<(usize, u64)> {
    let (ptr, len) = (buffer.as_mut_ptr() as u64, buffer.len() as u64);
    let (count, next) = call2(nr::LOG_READ, [resource.into(), position, ptr, len, 0, 0])?;
    Ok((count as usize, next))
}

/// A record of [`xinim_abi::info`]; `T` must be the type that belongs to `kind`.
pub fn info<T: FromBytes + IntoBytes + Immutable>(kind: info::Kind, index: u64) -> Result<T> {
    let mut record = T::new_zeroed();
    let bytes = record.as_mut_bytes();
    let (ptr, len) = (bytes.as_mut_ptr() as u64, bytes.len() as u64);
    let count = call(nr::INFO, [kind as u64, index, ptr, len, 0, 0])?;
    if count as usize == size_of::<T>() { Ok(record) } else { Err(Error::BadReply) }
}

pub fn system_control(resource: Handle, operation: u64) -> Result<()> {
    call(nr::SYSTEM_CONTROL, [resource.into(), operation, 0, 0, 0, 0]).map(drop)
}
