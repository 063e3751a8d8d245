//! How runs end, and what is said about it.

mod common;

use std::time::{Duration, Instant};

use common::{Code, connections, kvm_usable, outcome, run, start};
use std::sync::{Arc, Mutex};
use xinim_machine::{Death, End, EngineError, MachineSpec, Notices, StrictMode};

fn death(code: Code) -> Death {
    match outcome(&code.spec()).0.end {
        End::Died(death) => death,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_guest_speaks_and_powers_off() {
    if !kvm_usable() {
        return;
    }
    let (outcome, debug) = outcome(&Code::new().print("hello\nworld").exit(0x10).spec());
    assert_eq!(outcome.end, End::PowerOff);
    assert_eq!(String::from_utf8_lossy(&debug), "hello\nworld");
    let first = outcome.stats.to_first_instruction.unwrap();
    assert!(first < Duration::from_secs(5), "{first:?}");
    println!("first instruction after {first:?}, exits {:?}", outcome.stats.exits);
    assert!(outcome.stats.exits.contains(&("port-out".into(), 12)));
}

#[test]
fn each_way_to_end_is_told_apart() {
    if !kvm_usable() {
        return;
    }
    let end = |code: Code| outcome(&code.hang().spec()).0.end;
    assert_eq!(end(Code::new().out32(0xF4, 0x11)), End::Reboot);
    assert_eq!(end(Code::new().out32(0xF4, 7)), End::ExitDevice(7));
    assert_eq!(end(Code::new().out8(0xCF9, 6)), End::Reboot);
    assert_eq!(end(Code::new().out8(0x64, 0xFE)), End::Reboot);
    // SLP_TYP 5 and SLP_EN in PM1a control.
    assert_eq!(end(Code::new().out16(0x604, 5 << 10 | 1 << 13)), End::PowerOff);
}

#[test]
fn a_panic_is_reported_with_registers_and_code() {
    if !kvm_usable() {
        return;
    }
    let code = Code::new().bytes(&[0xBE, 0x78, 0x56, 0x34, 0x12]).exit(0x43); // mov esi, ...
    let death = death(code);
    assert_eq!(death.reason, "guest kernel panic");
    for part in ["rsi 0000000012345678", "32-bit mode, ring 0", "0xf4 = 00000043", "process"] {
        assert!(death.report.contains(part), "no {part:?} in\n{}", death.report);
    }
    // The instruction is the `out dx, eax`, or, where KVM has completed it, the `cli; hlt` after.
    let code = death.report.lines().find(|line| line.starts_with("code at rip:")).unwrap();
    assert!(code.contains("fa f4"), "{code}");
}

#[test]
fn a_triple_fault_is_reported_with_what_led_to_it() {
    if !kvm_usable() {
        return;
    }
    let death = death(Code::new().print("x").bytes(&[0x0F, 0x0B])); // ud2 without an IDT
    assert_eq!(death.reason, "triple fault");
    assert!(death.report.contains("0xe9 = 78"), "{}", death.report);
}

#[test]
fn what_kvm_cannot_emulate_is_reported_with_the_instruction() {
    if !kvm_usable() {
        return;
    }
    // mov eax, cr4; or eax, 0x600; mov cr4, eax; xorps xmm0, xmm0
    let code = Code::new()
        .bytes(&[0x0F, 0x20, 0xE0, 0x0D, 0x00, 0x06, 0x00, 0x00, 0x0F, 0x22, 0xE0])
        .bytes(&[0x0F, 0x57, 0xC0])
        .exit(0x10);
    if xinim_kvm::probe().unwrap().ring0_emulated {
        let death = death(code);
        assert!(death.reason.contains("KVM internal error"), "{}", death.reason);
        assert!(death.report.contains("code at rip: 0f 57 c0"), "{}", death.report);
    } else {
        assert_eq!(outcome(&code.spec()).0.end, End::PowerOff);
    }
}

#[test]
fn a_stopped_machine_ends_within_100_ms() {
    if !kvm_usable() {
        return;
    }
    // A guest that spins, one that halts for good, one that does nothing but exits.
    let spin = Code::new().bytes(&[0xEB, 0xFE]);
    let halt = Code::new().hang();
    let exits = Code::new().in8(0x71).bytes(&[0xEB, 0xF9]);
    for code in [spin, halt, exits] {
        // The best of three: other tests keep the processors busy at the same time.
        let best = (0..3).map(|_| time_to_stop(&code)).min().unwrap();
        assert!(best < Duration::from_millis(100), "{best:?}");
    }
}

fn time_to_stop(code: &Code) -> Duration {
    let (host, io) = connections();
    let machine = start(code.spec(), io);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!machine.is_finished(), "{:?}", machine.join());
    let stopped = Instant::now();
    host.stop.stop();
    let outcome = machine.join().unwrap().unwrap();
    let took = stopped.elapsed();
    assert_eq!(outcome.end, End::Stopped);
    let place = outcome.stats.stopped_at.unwrap();
    assert!(place.contains("cpu 0: rip=0x"), "{place}");
    took
}

#[test]
fn a_machine_stopped_before_it_starts_ends_at_once() {
    if !kvm_usable() {
        return;
    }
    let (host, io) = connections();
    host.stop.stop();
    let outcome = start(Code::new().hang().spec(), io).join().unwrap().unwrap();
    assert_eq!(outcome.end, End::Stopped);
}

#[test]
fn unfit_machines_are_refused_in_a_sentence() {
    if !kvm_usable() {
        return;
    }
    let good = Code::new().exit(0x10).spec();
    let message = |change: &dyn Fn(&mut xinim_machine::MachineSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        match run(&spec).0 {
            Err(EngineError::Machine(message)) => message,
            other => panic!("{other:?}"),
        }
    };
    assert!(message(&|spec| spec.memory = 0).contains("memory"));
    assert!(message(&|spec| spec.memory = 3 << 20).contains("multiple of 2 MiB"));
    assert!(message(&|spec| spec.bundle = Some(vec![0; 9 << 20].into())).contains("too little"));
    assert!(message(&|spec| spec.kernel = b"#!/bin/sh".as_slice().into()).contains("not an ELF"));
    assert!(message(&|spec| spec.cpus = 0).contains("CPUs"));
    assert!(message(&|spec| spec.cpus = 256).contains("CPUs"));
    let feature = |name: &str| xinim_machine::CpuidChange { feature: name.into(), enable: false };
    assert!(message(&|spec| spec.cpuid = vec![feature("nonsense")]).contains("nonsense"));
    assert!(
        message(
            &|spec| spec.traces = vec![xinim_machine::trace::TraceSpec::text("/nonexistent/trace")]
        )
        .contains("trace")
    );
}

#[test]
fn runs_leave_nothing_behind() {
    if !kvm_usable() {
        return;
    }
    let spec = Code::new().exit(0x10).spec();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mappings = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains("kvm")).count()
    };
    for _ in 0..20 {
        assert_eq!(outcome(&spec).0.end, End::PowerOff);
    }
    // Other tests of this binary run machines, too; leaks of twenty runs would stand out.
    assert!(descriptors() < 150, "{} descriptors", descriptors());
    assert!(mappings() < 30, "{} vCPU pages", mappings());
}

/// A guest that reads a port where nothing is.
#[test]
fn a_broken_rule_is_reported_and_may_be_the_end() {
    if !kvm_usable() {
        return;
    }
    for (mode, expected) in
        [(StrictMode::Warn, End::ExitDevice(7)), (StrictMode::Stop, End::Strict)]
    {
        // mov dx, 0x1234; in al, dx
        let code = Code::new().bytes(&[0x66, 0xBA, 0x34, 0x12, 0xEC]).out32(0xF4, 7).hang();
        let spec = MachineSpec { strict: Some(mode), ..code.spec() };
        let (_host, mut io) = connections();
        let told = Arc::new(Mutex::new(String::new()));
        let heard = told.clone();
        io.notices = Notices::to(move |text| heard.lock().unwrap().push_str(text));
        let outcome = start(spec, io).join().unwrap().unwrap();
        assert_eq!(outcome.end, expected);
        let strict = outcome.stats.strict.unwrap();
        assert_eq!(strict.broken.len(), 1);
        assert_eq!(strict.broken[0].rule, "access-unclaimed");
        let told = told.lock().unwrap();
        for part in
            ["[access-unclaimed]", "0x1234", "guest stack:\n      #0 ", "explain access-unclaimed"]
        {
            assert!(told.contains(part), "no {part:?} in\n{told}");
        }
    }
}
