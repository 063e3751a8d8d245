//! For whoever looks at the kernel's threads from outside, see [`xinim_abi::debug`]: where things are in
//! its records. Nothing here is used by the kernel.

use core::mem::offset_of;

use xinim_abi::debug::{LAYOUT_MAGIC, ThreadLayout};

use crate::arch::entry::Frame;
use crate::endpoint::Endpoint;
use crate::process::Process;
use crate::thread::{MAX_THREADS, Thread};

const FRAME: usize = offset_of!(Thread, frame);

#[used]
#[unsafe(link_section = ".rodata.debug")]
#[unsafe(export_name = "xinim_thread_layout")]
static LAYOUT: ThreadLayout = ThreadLayout {
    magic: LAYOUT_MAGIC,
    slots: MAX_THREADS as u32,
    state: offset_of!(Thread, state) as u32,
    priority: offset_of!(Thread, priority) as u32,
    rip: (FRAME + offset_of!(Frame, rip)) as u32,
    rsp: (FRAME + offset_of!(Frame, rsp)) as u32,
    ticks: offset_of!(Thread, ticks) as u32,
    system_calls: offset_of!(Thread, system_calls) as u32,
    process: offset_of!(Thread, process) as u32,
    endpoint: offset_of!(Thread, endpoint) as u32,
    pid: offset_of!(Process, pid) as u32,
    name: offset_of!(Process, name) as u32,
    tables: offset_of!(Process, pml4) as u32,
    bits: offset_of!(Endpoint, bits) as u32,
    owner: offset_of!(Endpoint, owner) as u32,
    reserved: 0,
};
