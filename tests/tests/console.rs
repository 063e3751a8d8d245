//! The terminal: a prompt, commands, and the way out.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use xinim_tests::machine::{engines, run, vmm};

#[test]
fn typed_commands_run_and_poweroff_ends_it() {
    for engine in engines("typed_commands_run_and_poweroff_ends_it") {
        let output = run(&["run", "--engine", engine, "--timeout", "60s"])
            .stdin("echo sum $((6 * 7)); head -n 1\ntyped line\npoweroff\n")
            .output()
            .expect(0);
        let text = output.out().replace('\r', "");
        // Typed ahead: the shell leaves the second line to the program of the first.
        assert!(text.contains("\nsum 42\ntyped line\n"), "{engine}: {text}");
        assert_eq!(output.err(), "", "{engine}");
    }
}

/// With a real terminal (made by script(1)): the prompt comes, Ctrl-C ends a program but not the
/// shell, history works, and Ctrl-A x leaves with status 0.
#[test]
fn ctrl_a_x_leaves() {
    for engine in engines("ctrl_a_x_leaves") {
        let command = format!("{} run --engine {engine} --timeout 60s", vmm().display());
        let mut script = Command::new("script")
            .args(["-q", "-e", "-c", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script(1)");
        let mut keyboard = script.stdin.take().expect("piped");
        let mut screen = script.stdout.take().expect("piped");
        let mut seen = String::new();
        let mut wait_for = |what: &str| {
            let mut byte = [0];
            while !seen.ends_with(what) {
                assert_eq!(
                    screen.read(&mut byte).expect("screen"),
                    1,
                    "waiting for {what}: {seen}"
                );
                seen.push(char::from(byte[0]));
            }
        };
        wait_for("# ");
        keyboard.write_all(b"sleep 1000\r").expect("typed");
        wait_for("sleep 1000\r\n");
        // The program must have started: before that, Ctrl-C is for the shell, which ignores it.
        std::thread::sleep(std::time::Duration::from_secs(1));
        keyboard.write_all(b"\x03").expect("typed");
        wait_for("# ");
        keyboard.write_all(b"echo once$((1 + 1))\r").expect("typed");
        wait_for("once2\r\n");
        wait_for("# ");
        // Up and Enter: the same again.
        keyboard.write_all(b"\x1b[A\r").expect("typed");
        wait_for("once2\r\n");
        keyboard.write_all(b"\x01x").expect("typed");
        let status = script.wait().expect("script");
        assert!(status.success(), "{engine}: {status}");
    }
}
