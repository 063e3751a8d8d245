//! gdb on a live guest and on a core, as it comes from Debian; the report when time runs out.

use std::path::Path;

use xinim_tests::gdb::{gdb, has_gdb};
use xinim_tests::machine::{Output, engines, exec, run};

fn has_kvm(test: &str) -> bool {
    engines(test).contains(&"kvm")
}

/// A machine that waits for gdb, debugged with these commands; what both said.
fn session(directory: &Path, engine: &str, exec: &str, commands: &[&str]) -> (Output, String) {
    session_with(directory, engine, exec, &[], commands)
}

/// The same for a machine with more options.
fn session_with(
    directory: &Path,
    engine: &str,
    exec: &str,
    more: &[&str],
    commands: &[&str],
) -> (Output, String) {
    let socket = directory.join("gdb.socket");
    let address = format!("unix:{}", socket.display());
    let gdb_option = format!("{address},wait");
    let args = ["run", "--engine", engine, "--memory", "64M", "--timeout", "200s", "--exec", exec];
    let args = [&args[..], &["--gdb", &gdb_option], more].concat();
    std::thread::scope(|scope| {
        let machine = scope.spawn(|| run(&args).output());
        for _ in 0..2000 {
            if socket.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let said = gdb(&address, commands);
        (machine.join().expect("the machine's thread"), said)
    })
}

#[test]
fn gdb_debugs_the_kernel() {
    if !has_gdb("gdb_debugs_the_kernel") || !has_kvm("gdb_debugs_the_kernel") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (output, said) = session(
        directory.path(),
        "kvm",
        "echo one; echo two",
        &[
            "info threads",
            "hbreak xinim_kernel::trap::trap_entry",
            "continue",
            "printf \"first %lx\\n\", $rip",
            "stepi",
            "printf \"second %lx\\n\", $rip",
            "x/2xg $rsp",
            "monitor ps",
            "monitor info",
            "delete",
            "continue",
        ],
    );
    assert!(said.contains("ring 0"), "{said}");
    assert!(said.contains("Breakpoint 1") && said.contains("trap_entry"), "{said}");
    let hex = |label: &str| {
        let rest =
            &said[said.find(label).unwrap_or_else(|| panic!("{label}: {said}")) + label.len()..];
        u64::from_str_radix(rest.split_whitespace().next().unwrap(), 16).unwrap()
    };
    let (first, second) = (hex("first "), hex("second "));
    assert!(second > first && second - first < 16, "one instruction further: {said}");
    assert!(said.contains("1 rs") && said.contains("cr3"), "{said}");
    assert!(said.contains("exited normally"), "to the end: {said}");
    assert_eq!(output.expect(0).out(), "one\ntwo\n");
}

#[test]
fn gdb_reads_a_service_by_its_own_page_tables() {
    let name = "gdb_reads_a_service_by_its_own_page_tables";
    if !has_gdb(name) || !has_kvm(name) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // The program's entry is where it starts, in its own address space; only then are its pages
    // there.
    let (output, said) = session(
        directory.path(),
        "kvm",
        "echo one",
        &[
            "hbreak xinim_kernel::trap::trap_entry",
            "continue",
            "delete",
            "process rs",
            "x/4xb (long)&_start",
            "info symbol (long)&_start",
            "continue",
        ],
    );
    assert!(said.contains("memory is that of process 1 (rs)"), "{said}");
    assert!(said.contains("_start in section .text of") && said.contains("programs/rs"), "{said}");
    assert!(said.contains("<_start>:\t0x"), "memory by the process's page tables: {said}");
    assert_eq!(output.expect(0).out(), "one\n");
}

#[test]
fn gdb_stops_in_a_service_steps_and_watches_under_qemu() {
    let name = "gdb_stops_in_a_service_steps_and_watches_under_qemu";
    if !has_gdb(name) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // The first program to run is rs, at its entry.
    let (output, said) = session(
        directory.path(),
        "qemu",
        "echo one",
        &[
            "python follow.program('rs')",
            "hbreak *(long)&_start",
            "continue",
            "info symbol $pc",
            "stepi",
            "printf \"ring %d\\n\", $cs & 3",
            "delete",
            "continue",
        ],
    );
    assert!(said.contains("_start in section .text of") && said.contains("programs/rs"), "{said}");
    assert!(said.contains("ring 3"), "{said}");
    assert_eq!(output.expect(0).out(), "one\n");
}

#[test]
fn a_core_of_a_guest_whose_time_ran_out_opens_in_gdb() {
    let name = "a_core_of_a_guest_whose_time_ran_out_opens_in_gdb";
    if !has_gdb(name) || !has_kvm(name) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let core = directory.path().join("core");
    let core = core.to_str().unwrap();
    let args = ["run", "--engine", "kvm", "--memory", "64M", "--timeout", "5s", "--dump", core];
    let output = run(&[&args[..], &["--exec", "sleep 1000"]].concat()).output().expect(124);
    let report = output.err();
    assert!(report.contains("time-out after 5 s"), "{report}");
    assert!(report.contains("#0  ffffffff"), "a backtrace: {report}");
    assert!(report.contains("kernel: ") && report.contains("alive: 1 rs"), "{report}");
    assert!(report.contains("last VM exits"), "{report}");
    assert!(report.contains(&format!("core dump in {core}")), "{report}");
    let said = gdb(core, &["info threads", "x/2i $pc", "info registers rip"]);
    assert!(said.contains("LWP 1") && said.contains("0xffffffff80"), "{said}");
    assert!(said.contains("<"), "a symbol: {said}");
    assert!(!said.contains("Cannot access memory"), "{said}");
}

#[test]
fn a_running_machine_is_dumped_and_goes_on() {
    let name = "a_running_machine_is_dumped_and_goes_on";
    if !has_gdb(name) || !has_kvm(name) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (socket, core) = (path("vm.socket"), path("core"));
    let child = run(&[
        "run",
        "--engine",
        "kvm",
        "--memory",
        "64M",
        "--timeout",
        "200s",
        "--control",
        &socket,
        "--exec",
        "echo ready; read line; echo got $line",
    ]);
    let mut child = child.spawn();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    run(&["ctl", &socket, "dump", &core]).output().expect(0);
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"it\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "got it\n");
    let said = gdb(&core, &["info threads", "x/i $pc"]);
    assert!(said.contains("LWP 1"), "{said}");
}

/// Who waits for whom, of a guest that is left alone: with names of processes and functions.
#[test]
fn threads_say_what_they_wait_for() {
    let name = "threads_say_what_they_wait_for";
    if !has_kvm(name) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("vm.socket").to_str().unwrap().to_owned();
    let args = ["run", "--engine", "kvm", "--memory", "64M", "--timeout", "200s"];
    let more = ["--control", &socket, "--exec", "echo ready; read line; echo got $line"];
    let mut child = run(&[&args[..], &more].concat()).spawn();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    // Until the shell waits for its line.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let text = run(&["ctl", &socket, "threads"]).output().expect(0).out();
    let json = run(&["ctl", &socket, "threads", "--json"]).output().expect(0).out();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"it\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "got it\n");
    let of = |process: &str| text.lines().filter(|l| l.contains(&format!(" {process}: "))).count();
    for process in ["rs", "vfs", "pm", "virtio-console", "sh"] {
        assert!(of(process) > 0, "{process}: {text}");
    }
    assert!(text.contains("1 rs: receiving, priority 24"), "{text}");
    // The shell reads from something that it reaches through VFS or another server.
    assert!(text.lines().any(|l| l.contains(" sh: awaiting reply of ")), "{text}");
    assert!(text.contains("vfs: ") && text.contains("xinim_rt::"), "functions have names: {text}");
    assert!(json.contains("\"waits-for\":{") && json.contains("\"ok\":true"), "{json}");
}

/// The core of a service, as its bytes come out of the guest.
fn service_core(engine: &str, script: &str) -> Vec<u8> {
    exec(engine, script, &[]).output().expect(0).stdout
}

/// A service that dies of a fault leaves a core: a host command shows it with names, gdb opens it.
#[test]
fn a_service_that_dies_leaves_a_core() {
    let name = "a_service_that_dies_leaves_a_core";
    let directory = tempfile::tempdir().unwrap();
    for engine in engines(name) {
        let core =
            service_core(engine, "dmesg > /dev/null; service kill --wild log && service core log");
        assert!(core.starts_with(b"\x7fELF"), "{engine}: {}", String::from_utf8_lossy(&core));
        let path = directory.path().join(format!("core-{engine}"));
        std::fs::write(&path, core).unwrap();
        let path = path.to_str().unwrap();
        let text = run(&["core", path]).output().expect(0).out();
        for part in
            ["service: log\n", "program: sbin/log\n", "cause: ", "vector: 14\n", "rip    0000"]
        {
            assert!(text.contains(part), "{engine}: no {part:?} in\n{text}");
        }
        // Where it was, and who had called it.
        let first = text.lines().find(|line| line.trim().starts_with("#0 ")).unwrap_or_default();
        assert!(first.contains("log: ") && first.contains('+'), "{engine}: {text}");
        let callers = text.lines().filter(|line| line.trim().starts_with('#')).skip(1);
        assert!(callers.filter(|line| line.contains("log: ")).count() >= 1, "{engine}: {text}");
        let json = run(&["core", path, "--json"]).output().expect(0).out();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let rip = json["registers"]["rip"].as_u64().unwrap();
        assert!(
            first.contains(&format!("{rip:016x}")) && json["service"]["pid"] != "0",
            "{json:#}"
        );
        assert!(json["memory"].as_array().is_some_and(|all| all.len() >= 2), "{json:#}");
        if has_gdb(name) {
            let said = gdb(path, &["info registers rip", "x/2gx $rsp", "x/2i $pc", "bt 1"]);
            assert!(said.contains(&format!("{rip:#x}")) && said.contains("SIGSEGV"), "{said}");
            assert!(!said.contains("Cannot access memory"), "{said}");
            assert!(said.contains("<"), "a symbol: {said}");
        }
    }
}

/// Who kills a service for its core gets one; who just kills it does not.
#[test]
fn a_dumped_service_leaves_a_core_and_a_killed_one_none() {
    for engine in engines("a_dumped_service_leaves_a_core_and_a_killed_one_none") {
        let script = "dmesg > /dev/null; service kill log; service status log | grep ^core
            service core log 2> /dev/null && exit 9
            dmesg > /dev/null; service dump log; service status log | grep -c 'bytes, see service core'
            dmesg > /dev/null; service kill --wild log; service core log | wc -c > /tmp/n
            [ $(cat /tmp/n) -gt 4096 ] && echo kept
            service core nobody 2>&1";
        let output = exec(engine, script, &[]).output();
        let expected = "core: none\n1\nkept\nservice: nobody: there is no core\n";
        assert_eq!(output.out(), expected, "{engine}: {}", output.err());
    }
}

/// With several CPUs each is a thread of gdb's, with registers of its own; a breakpoint stops them all,
/// and then they run on to the end.
#[test]
fn gdb_has_every_cpu_as_a_thread() {
    let name = "gdb_has_every_cpu_as_a_thread";
    if !has_gdb(name) || !has_kvm(name) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (output, said) = session_with(
        directory.path(),
        "kvm",
        "echo one & echo two & wait",
        &["--cpus", "2"],
        &[
            "hbreak xinim_kernel::trap::trap_entry",
            "continue",
            "continue",
            "info threads",
            "thread apply all printf \"at %lx\\n\", $rip",
            "thread 2",
            "info registers rip",
            "delete",
            "continue",
        ],
    );
    assert!(said.contains("Breakpoint 1") && said.contains("trap_entry"), "{said}");
    let threads = said.lines().filter(|line| {
        let line = line.trim_start_matches(['*', ' ']);
        line.starts_with("1 ") || line.starts_with("2 ")
    });
    assert!(threads.filter(|line| line.contains("ring ")).count() >= 2, "{said}");
    assert!(said.matches("at ").count() >= 2, "{said}");
    assert!(said.contains("exited normally"), "to the end: {said}");
    let mut lines: Vec<_> = output.expect(0).out().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
}

/// A core has every CPU; a report tells of each.
#[test]
fn a_core_has_every_cpu() {
    let name = "a_core_has_every_cpu";
    if !has_gdb(name) || !has_kvm(name) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let core = directory.path().join("core");
    let core = core.to_str().unwrap();
    let more = ["--cpus", "3", "--timeout", "6s", "--dump", core];
    let args = ["run", "--engine", "kvm", "--memory", "64M", "--exec", "sleep 1000"];
    let report = run(&[&args[..], &more].concat()).output().expect(124).err();
    for cpu in ["vCPU 0 ", "vCPU 1 ", "vCPU 2 "] {
        assert!(report.contains(cpu), "{cpu}: {report}");
    }
    let said = gdb(core, &["info threads", "thread apply all x/i $pc"]);
    for thread in ["LWP 1", "LWP 2", "LWP 3"] {
        assert!(said.contains(thread), "{thread}: {said}");
    }
    assert!(!said.contains("Cannot access memory"), "{said}");
}

/// Under QEMU, too, a panic leaves registers and a core that gdb opens.
#[test]
fn a_panic_under_qemu_leaves_a_core() {
    let name = "a_panic_under_qemu_leaves_a_core";
    if !has_gdb(name) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let core = directory.path().join("core");
    let core = core.to_str().unwrap();
    let args = ["run", "--engine", "qemu", "--memory", "64M", "--timeout", "60s", "--dump", core];
    let more = ["--console", "none", "--cpus", "2", "--cmdline", "first=no/such/program"];
    let report = run(&[&args[..], &more].concat()).output().expect(134).err();
    for part in ["kernel panic: the first program", "RIP=ffff", "CPU#1", "core dump in "] {
        assert!(report.contains(part), "no {part:?} in\n{report}");
    }
    let said = gdb(core, &["info threads", "x/2i $pc"]);
    assert!(said.contains("xinim_kernel::"), "{said}");
    assert!(!said.contains("Cannot access memory"), "{said}");
}
