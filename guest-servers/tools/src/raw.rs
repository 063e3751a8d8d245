//! System calls with any arguments, for tools that try what the run-time library does not let
//! happen.

use core::arch::asm;

use xinim_abi::error::{Result, decode};
use xinim_abi::kip::GATE_ADDRESS;

/// # Safety
/// Whatever the call is told to do to this process's memory, the caller answers for.
pub unsafe fn call(number: u64, args: [u64; 6]) -> Result<u64> {
    let mut result = number;
    // SAFETY: the gate is mapped in every process; the registers are those of the contract.
    unsafe {
        asm!(
            "mov r11, {gate}",
            "call r11",
            gate = const GATE_ADDRESS,
            inlateout("rax") result,
            inlateout("rdi") args[0] => _,
            inlateout("rsi") args[1] => _,
            inlateout("rdx") args[2] => _,
            inlateout("r10") args[3] => _,
            inlateout("r8") args[4] => _,
            inlateout("r9") args[5] => _,
            lateout("rcx") _,
            lateout("r11") _,
            lateout("r12") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
        );
    }
    decode(result)
}
