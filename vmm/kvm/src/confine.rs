//! What the threads of a machine may still ask the host for, once it is set up: seccomp filters.
//!
//! | thread | may |
//! |---|---|
//! | vCPUs | run KVM, move bytes on open descriptors, wait, allocate, start a thread that may do no more; nothing that opens, connects or listens; with a network device, sockets |
//! | all others (I/O, network, console, control socket) | that, and accept and make sockets |
//! | the same with `--control` or `--dump` | that, and open files (Landlock says which) |
//!
//! No thread may start a program, trace a process, load code into the kernel, mount, change its
//! identity, or name a file to be removed or renamed elsewhere. A forbidden call ends the process
//! with status 125 and a sentence with the call's number: a guest that broke into a device model
//! gets no second try.

use std::collections::BTreeMap;
use std::sync::Once;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter, apply_filter_all_threads,
};
use vmm_sys_util::signal::register_signal_handler;
use xinim_abi::exit;

/// Moving bytes on what is open, waiting, memory, and the ends of threads and process.
const EVERYBODY: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_ioctl,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_fcntl,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_settime,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_membarrier,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getrandom,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    // A disk's worker is started by the first request, on whatever thread carries it. A signal
    // that a starting thread may not take ends the process without the sentence.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_prctl,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Sockets, threads, and what a thread does as it starts.
const HOST_SIDE: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_pipe2,
    libc::SYS_epoll_create1,
    libc::SYS_timerfd_create,
    libc::SYS_dup3,
    libc::SYS_seccomp,
    libc::SYS_capset,
    libc::SYS_geteuid,
    libc::SYS_getuid,
    libc::SYS_getppid,
    libc::SYS_uname,
    libc::SYS_flock,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_getcwd,
    libc::SYS_sysinfo,
    libc::SYS_fadvise64,
    libc::SYS_kill,
    libc::SYS_prlimit64,
];

/// A console, a control socket or a dump that names files while the machine runs.
const FILES: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_access,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_io_uring_setup,
    libc::SYS_memfd_create,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rmdir,
];

/// Which of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `network`: a driver's doorbell may open a connection of the user-mode network.
    Vcpu {
        network: bool,
    },
    Host {
        opens_files: bool,
    },
}

fn program(role: Role) -> Result<BpfProgram, String> {
    let mut calls = EVERYBODY.to_vec();
    // Let through here, and answered with an error by [`refusal`] where files are not opened.
    calls.push(libc::SYS_openat);
    match role {
        Role::Vcpu { network: false } => {}
        Role::Vcpu { network: true } => calls.extend(HOST_SIDE),
        Role::Host { opens_files } => {
            calls.extend(HOST_SIDE);
            if opens_files {
                calls.extend(FILES);
            }
        }
    }
    // No conditions on arguments: any use of an allowed call.
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        calls.into_iter().map(|call| (call, Vec::new())).collect();
    SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)
        .and_then(|filter| filter.try_into())
        .map_err(|error| format!("the system call filter cannot be made: {error}"))
}

/// Opening files fails, rather than ending the machine: the C library looks for the number of
/// processors in sysfs when it makes another arena for a busy allocator, and can do without.
fn refusal() -> Result<BpfProgram, String> {
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        [(libc::SYS_openat, Vec::new())].into_iter().collect();
    let refuse = SeccompAction::Errno(libc::EACCES as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, TargetArch::x86_64)
        .and_then(|filter| filter.try_into())
        .map_err(|error| format!("the system call filter cannot be made: {error}"))
}

/// Confines every thread of the process, and drops what privileges this one still has. New threads
/// begin so confined.
pub fn all_threads(opens_files: bool) -> Result<(), String> {
    listen();
    let none = CapabilitySet::empty();
    // Without privileges in the first place there is nothing to drop.
    let _ = set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    );
    if !opens_files {
        apply_filter_all_threads(&refusal()?)
            .map_err(|error| format!("the system call filter is refused: {error}"))?;
    }
    apply_filter_all_threads(&program(Role::Host { opens_files })?)
        .map_err(|error| format!("the system call filter is refused: {error}"))
}

/// Confines the calling thread further: it runs a vCPU.
pub fn vcpu(network: bool) -> Result<(), String> {
    apply_filter(&refusal()?)
        .map_err(|error| format!("the system call filter is refused: {error}"))?;
    apply_filter(&program(Role::Vcpu { network })?)
        .map_err(|error| format!("the system call filter is refused: {error}"))
}

/// Has forbidden calls told before the process ends.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = register_signal_handler(libc::SIGSYS, forbidden);
    });
}

/// Runs as a signal handler: no allocation, no locks.
extern "C" fn forbidden(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // `si_syscall` of a SIGSYS: behind the three words of the head and the calling address.
    const NUMBER: usize = 24;
    // SAFETY: the kernel hands a `siginfo_t` of a SIGSYS, which has the field there.
    let number = unsafe { info.cast::<u8>().add(NUMBER).cast::<i32>().read_unaligned() };
    let mut digits = [0u8; 10];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    while at > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let parts: [&[u8]; 3] = [
        b"xinim-vmm: the sandbox forbids system call ",
        &digits[at..],
        b" to this thread: the machine is ended (see --no-sandbox)\n",
    ];
    for part in parts {
        // SAFETY: the bytes are there; both calls may be made in a signal handler.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: as above; it does not return.
    unsafe { libc::_exit(exit::VMM_FAILED.into()) };
}

#[cfg(test)]
#[path = "confine_tests.rs"]
mod tests;
