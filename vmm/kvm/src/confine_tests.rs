//! Filters cannot be taken off again, so each test makes its calls in a process of its own.

use std::process::Command;

use super::*;

const ROLE: &str = "XINIM_TEST_CONFINED";

/// The child's half: does nothing unless a test below started it.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    all_threads(role == "files").unwrap();
    let attempt = || match &*role {
        // SAFETY: a call without arguments.
        "vcpu" => drop(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) }),
        "program" => drop(Command::new("/bin/true").status()),
        // Refused like anything that is not allowed to this user, and the process goes on.
        "open" => assert!(std::fs::File::open("/etc/passwd").is_err()),
        "files" => assert!(std::fs::File::open("/etc/passwd").is_ok()),
        _ => println!("harmless"),
    };
    match &*role {
        "vcpu" => {
            let thread = std::thread::spawn(move || {
                vcpu(false).unwrap();
                // SAFETY: as above.
                unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
            });
            thread.join().unwrap();
        }
        _ => attempt(),
    }
    // SAFETY: ends the process, past the test harness, which would open files.
    unsafe { libc::_exit(42) };
}

fn confined(role: &str) -> (Option<i32>, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "confine::tests::child", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_forbidden_call_ends_the_process_with_a_sentence() {
    let (status, stderr) = confined("vcpu");
    assert_eq!(status, Some(i32::from(exit::VMM_FAILED)), "{stderr}");
    let number = libc::SYS_socket;
    let sentence = format!("the sandbox forbids system call {number} to this thread");
    assert!(stderr.contains(&sentence), "{stderr}");
    let (status, stderr) = confined("program");
    assert_ne!(status, Some(42), "{stderr}");
}

#[test]
fn what_a_machine_needs_is_allowed() {
    for role in ["files", "open", "nothing"] {
        let (status, stderr) = confined(role);
        assert_eq!(status, Some(42), "{role}: {stderr}");
    }
}
