//! Whole runs of tiny guests, on every engine: exit statuses, streams, stops, locks.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::guests::{HANG, out8, out32, print, serial};
use common::*;
use rustix::process::{Pid, Signal, kill_process};

fn power_off() -> Vec<u8> {
    out32(EXIT_DEVICE, POWER_OFF)
}

/// Reads bytes from COM1 and writes them back until it gets a `q`, then powers off.
fn echo() -> Vec<Vec<u8>> {
    #[rustfmt::skip]
    let code = vec![
        0x66, 0xBA, 0xFD, 0x03,       // 1: mov dx, 0x3FD (line status)
        0xEC, 0xA8, 0x01, 0x74, 0xFB, // 2: in al, dx; test al, 1; jz 2b
        0x66, 0xBA, 0xF8, 0x03,       //    mov dx, 0x3F8
        0xEC, 0xEE,                   //    in al, dx; out dx, al
        0x3C, b'q', 0x75, 0xED,       //    cmp al, 'q'; jne 1b
    ];
    vec![code, power_off()]
}

#[test]
fn the_guests_end_is_the_status() {
    let files = Files::new();
    for engine in engines() {
        for (value, status) in [(POWER_OFF, 0), (5, 5), (0x7F, 123)] {
            let kernel = files.kernel(&[out32(EXIT_DEVICE, value)]);
            let (got, stdout, stderr) = outcome(&mut boot(engine, &kernel));
            assert_eq!((got, stdout.as_str(), stderr.as_str()), (status, "", ""), "{engine}");
        }
    }
}

#[test]
fn console_output_comes_through_with_nothing_mixed_in() {
    let files = Files::new();
    let text = "every byte \r\n\x01\x1b[0m".repeat(40);
    let kernel = files.kernel(&[serial(text.as_bytes()), print(DEBUGCON, b"log"), power_off()]);
    for engine in engines() {
        let (status, stdout, stderr) = outcome(&mut boot(engine, &kernel));
        assert_eq!((status, stdout.as_str(), stderr.as_str()), (0, text.as_str(), ""), "{engine}");
        let (status, stdout, stderr) = outcome(boot(engine, &kernel).arg("-v"));
        assert_eq!((status, stdout.as_str()), (0, text.as_str()), "{engine}");
        assert!(stderr.contains("log") && stderr.contains(engine), "{stderr}");
    }
}

#[test]
fn console_input_is_passed_as_it_is() {
    let files = Files::new();
    let kernel = files.kernel(&echo());
    for engine in engines() {
        // Ctrl-A means something on a terminal only.
        let typed = "hello \x01x\x03 q";
        let (status, stdout, stderr) = outcome(boot(engine, &kernel).write_stdin(typed));
        assert_eq!((status, stdout.as_str(), stderr.as_str()), (0, typed, ""), "{engine}");
    }
}

#[test]
fn a_panic_is_134_with_its_text() {
    let files = Files::new();
    let kernel = files.kernel(&[print(DEBUGCON, b"panic: oh no\n"), out32(EXIT_DEVICE, PANIC)]);
    for engine in engines() {
        let (status, stdout, stderr) = outcome(&mut boot(engine, &kernel));
        assert_eq!((status, stdout.as_str()), (134, ""), "{engine}");
        assert!(stderr.starts_with("panic: oh no\n"), "{stderr}");
        assert!(stderr.contains("the guest died: guest kernel panic"), "{stderr}");
    }
}

#[test]
fn a_triple_fault_is_134_with_the_instruction() {
    let files = Files::new();
    #[rustfmt::skip]
    let fault = vec![
        0xBC, 0x00, 0x00, 0x20, 0x00, // mov esp, 2 MiB
        0x6A, 0x00, 0x6A, 0x00,       // push 0; push 0
        0x0F, 0x01, 0x1C, 0x24,       // lidt [esp]
        0x0F, 0x0B,                   // ud2
    ];
    let kernel = files.kernel(&[fault]);
    for engine in engines() {
        let (status, _, stderr) = outcome(&mut boot(engine, &kernel));
        assert_eq!(status, 134, "{engine}: {stderr}");
        assert!(stderr.contains("the guest died: triple fault"), "{stderr}");
        assert!(stderr.to_lowercase().contains("ip"), "registers: {stderr}");
    }
}

#[test]
fn a_time_out_is_124_and_says_where() {
    let files = Files::new();
    let kernel = files.kernel(&[HANG.into()]);
    for engine in engines() {
        let begun = Instant::now();
        let (status, _, stderr) = outcome(boot(engine, &kernel).args(["--timeout", "1s"]));
        assert_eq!(status, 124, "{engine}: {stderr}");
        assert!(stderr.starts_with("xinim-vmm: time-out after 1 s"), "{stderr}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{engine}");
    }
}

fn spawn(engine: &str, kernel: &std::path::Path, extra: &[&str]) -> Child {
    std::process::Command::new(program())
        .args(["--engine", engine, "--memory", "32M", "--timeout", "50s", "--kernel"])
        .arg(kernel)
        .args(extra)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the guest of a machine has said something on the console.
fn await_guest(child: &mut Child) {
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
}

#[test]
fn signals_end_it_with_130() {
    let files = Files::new();
    let kernel = files.kernel(&[serial(b"x"), HANG.into()]);
    for engine in engines() {
        for signal in [Signal::INT, Signal::TERM] {
            let mut child = spawn(engine, &kernel, &[]);
            await_guest(&mut child);
            let begun = Instant::now();
            kill_process(Pid::from_child(&child), signal).unwrap();
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(130), "{engine}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "");
            assert!(begun.elapsed() < Duration::from_secs(2));
        }
    }
}

#[test]
fn qemu_does_not_outlive_us() {
    if !engines().contains(&"qemu") {
        return;
    }
    let files = Files::new();
    let kernel = files.kernel(&[serial(b"x"), HANG.into()]);
    let mut child = spawn("qemu", &kernel, &[]);
    await_guest(&mut child);
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let qemu = std::fs::read_to_string(children).unwrap();
    let qemu: u32 = qemu.trim().parse().expect("one child");
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let alive = || {
        let status = std::fs::read_to_string(format!("/proc/{qemu}/stat")).unwrap_or_default();
        !status.is_empty() && !status.contains(") Z ")
    };
    while alive() {
        assert!(Instant::now() < deadline, "QEMU {qemu} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_closed_standard_output_ends_it_quietly() {
    let files = Files::new();
    // jmp back over the whole print: for ever.
    let mut code = serial(b"y\n");
    let back = -(code.len() as i32 + 5);
    code.push(0xE9);
    code.extend(back.to_le_bytes());
    let kernel = files.kernel(&[code]);
    for engine in engines() {
        let mut child = spawn(engine, &kernel, &[]);
        await_guest(&mut child);
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{engine}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn a_second_machine_on_a_writable_image_is_refused() {
    let files = Files::new();
    let hang = files.file("hang", common::guests::guest(&[serial(b"x"), HANG.into()].concat()));
    let kernel = files.kernel(&[power_off()]);
    let image = files.file("shared.img", [0; 4096]);
    let image = image.to_str().unwrap();
    let read_only = format!("{image},ro");
    for first in engines() {
        for second in engines() {
            let mut child = spawn(first, &hang, &["--disk", image]);
            await_guest(&mut child);
            for disk in [image, &read_only] {
                let mut command = boot(second, &kernel);
                refused(command.args(["--disk", disk]), 125, &["shared.img", "in use"]);
            }
            child.kill().unwrap();
            child.wait().unwrap();

            let mut child = spawn(first, &hang, &["--disk", &read_only]);
            await_guest(&mut child);
            let both = outcome(boot(second, &kernel).args(["--disk", &read_only]));
            assert_eq!(both, (0, String::new(), String::new()), "{first} and {second} both read");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

#[test]
fn a_reboot_runs_the_machine_again() {
    let files = Files::new();
    // The RTC's scratch memory would survive on one engine only: the host answers instead, so
    // that the first boot gets an `r`, the second one a `q`.
    #[rustfmt::skip]
    let code = vec![
        0x66, 0xBA, 0xFD, 0x03,       //    mov dx, 0x3FD
        0xEC, 0xA8, 0x01, 0x74, 0xFB, // 2: in al, dx; test al, 1; jz 2b
        0x66, 0xBA, 0xF8, 0x03,       //    mov dx, 0x3F8
        0xEC, 0x3C, b'q', 0x75, 0x0A, //    in al, dx; cmp al, 'q'; jne reboot
    ];
    let power_off = power_off();
    assert_eq!(power_off.len(), 10, "what the jump skips");
    let kernel = files.kernel(&[serial(b"boot\n"), code, power_off, out8(0xCF9, 6), HANG.into()]);
    for engine in engines() {
        let mut child = spawn(engine, &kernel, &[]);
        let mut lines = [0; 5];
        for answer in [b"r", b"q"] {
            child.stdout.as_mut().unwrap().read_exact(&mut lines).unwrap();
            assert_eq!(&lines, b"boot\n", "{engine}");
            child.stdin.as_mut().unwrap().write_all(answer).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{engine}");
    }
}

#[test]
fn the_console_can_be_a_socket_or_a_file() {
    let files = Files::new();
    let kernel = files.kernel(&echo());
    for engine in engines() {
        let path = files.path("console.socket");
        let console = format!("unix:{}", path.display());
        let child = spawn(engine, &kernel, &["--console", &console]);
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut client = loop {
            match UnixStream::connect(&path) {
                Ok(client) => break client,
                Err(e) if Instant::now() > deadline => panic!("{e}"),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        client.write_all(b"over a socket q").unwrap();
        let mut got = [0; 15];
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"over a socket q");
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{engine}");
        assert!(!path.exists(), "the socket is removed");
    }
    let kernel = files.kernel(&[serial(b"to a file"), power_off()]);
    for engine in engines() {
        let path = files.path("console.log");
        let console = format!("file:{}", path.display());
        let (status, stdout, _) = outcome(boot(engine, &kernel).args(["--console", &console]));
        assert_eq!((status, stdout.as_str()), (0, ""));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "to a file", "{engine}");
        let (_, stdout, _) = outcome(boot(engine, &kernel).args(["--console", "none"]));
        assert_eq!(stdout, "");
    }
}

#[test]
fn exec_without_a_guest_that_answers_says_so() {
    let files = Files::new();
    let kernel = files.kernel(&[serial(b"noise"), power_off()]);
    for engine in engines() {
        refused(boot(engine, &kernel).args(["--exec", "true"]), 125, &["powered off"]);
        let hang = files.file("hang", common::guests::guest(&HANG));
        refused_first_line(
            boot(engine, &hang).args(["--exec", "true", "--timeout", "1s"]),
            124,
            "had not asked for the command",
        );
    }
}

fn refused_first_line(command: &mut assert_cmd::Command, status: i32, words: &str) {
    let (got, _, stderr) = outcome(command);
    assert_eq!(got, status, "{stderr}");
    assert!(stderr.lines().next().unwrap().contains(words), "{stderr}");
}

#[test]
fn a_trace_is_written() {
    let files = Files::new();
    let kernel = files.kernel(&[serial(b"traced"), power_off()]);
    for engine in engines() {
        let trace = files.path("trace");
        let (status, stdout, stderr) = outcome(boot(engine, &kernel).arg("--trace").arg(&trace));
        assert_eq!((status, stdout.as_str(), stderr.as_str()), (0, "traced", ""), "{engine}");
        assert!(std::fs::read_to_string(&trace).unwrap().lines().count() >= 6, "{engine}");
    }
}

#[test]
fn a_dry_run_can_be_pasted() {
    if !engines().contains(&"qemu") {
        return;
    }
    let files = Files::new();
    let kernel = files.kernel(&[serial(b"pasted"), power_off()]);
    let disk = files.file("it's a disk, really.img", [0; 4096]);
    let disk = disk.to_str().unwrap().replace(',', ",,");
    let (status, line, stderr) = outcome(boot("qemu", &kernel).args([
        "--dry-run",
        "--cmdline",
        "a='b' $c",
        "--disk",
        &disk,
    ]));
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(line.lines().count(), 1);
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(&line)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some((POWER_OFF << 1 | 1) as i32), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("pasted"), "{output:?}");
}
