//! The kernel image contains only instructions that work in ring 0 everywhere: on a page-table-based
//! KVM ring 0 is emulated, and SSE arithmetic, popcnt, cmpxchg16b, xsave, BMI, clac and others end
//! the machine. So this is a list of what is allowed, not of what is forbidden.

use std::process::Command;

use xinim_tests::host::tool;
use xinim_tests::machine::vmm;

/// Mnemonics (AT&T, without size suffix where `allowed` strips it) that were seen to work.
const ALLOWED: &[&str] = &[
    "adc",
    "add",
    "and",
    "bsf",
    "bsr",
    "bswap",
    "bt",
    "btc",
    "btr",
    "bts",
    "call",
    "cld",
    "cli",
    "cltq",
    "cmp",
    "cmpxchg",
    "cpuid",
    "cqto",
    "cwtl",
    "dec",
    "div",
    "fxrstor64",
    "fxsave64",
    "hlt",
    "idiv",
    "imul",
    "in",
    "inc",
    "invlpg",
    "iretq",
    "jmp",
    "lea",
    "leave",
    "lgdt",
    "lidt",
    "lock",
    "ltr",
    "mov",
    "movabs",
    "mul",
    "neg",
    "nop",
    "not",
    "or",
    "out",
    "pause",
    "pop",
    "push",
    "pushf", // in a panic's report; seen to work in emulated ring 0
    "rcl",
    "rcr",
    "rdmsr",
    "rdtsc",
    "rep",
    "repz",
    "repnz",
    "ret",
    "rol",
    "ror",
    "sar",
    "sbb",
    "scas",
    "shl",
    "shld",
    "shr",
    "shrd",
    "std",
    "sti",
    "stos",
    "sub",
    "swapgs",
    "sysretq",
    "test",
    "tzcnt",
    "ud2",
    "wrmsr",
    "xadd",
    "xchg",
    "xor",
];

/// Families: conditional jumps, moves and sets, widening moves, string moves.
const ALLOWED_PREFIXES: &[&str] = &["j", "cmov", "set", "movz", "movs"];

/// Sizes objdump appends to mnemonics.
const SUFFIXES: &[char] = &['b', 'w', 'l', 'q'];

fn allowed(mnemonic: &str) -> bool {
    let plain = mnemonic.strip_suffix(SUFFIXES).unwrap_or(mnemonic);
    ALLOWED.contains(&mnemonic)
        || ALLOWED.contains(&plain)
        || ALLOWED_PREFIXES.iter().any(|prefix| mnemonic.starts_with(prefix))
}

/// Nothing runs on behind these, so `int3` there is padding.
fn ends_flow(mnemonic: &str) -> bool {
    ["jmp", "ret", "ud2", "int3", "call", "iretq", "sysretq", "(bad)"].contains(&mnemonic)
}

/// What is wrong with a disassembly: `function: instruction` lines.
fn complaints(listing: &str) -> Vec<String> {
    let mut function = String::new();
    let mut previous = String::new();
    let mut found = Vec::new();
    for line in listing.lines() {
        if let Some((_, name)) = line.strip_suffix(">:").and_then(|l| l.split_once('<')) {
            function = name.to_owned();
            continue;
        }
        let Some((_, instruction)) = line.split_once(":\t") else { continue };
        let mut words = instruction.split_whitespace();
        let mnemonic = words.next().unwrap_or("");
        // Assembled by hand for 32-bit mode: a far jump, and what follows from reading it as 64-bit.
        let boot = function == "boot_entry";
        let ok = match mnemonic {
            "int3" => ends_flow(&previous),
            "(bad)" | "." | "rex" => boot,
            // Prefixes of long no-operations.
            "cs" | "data16" => instruction.contains("nop"),
            // String moves are fine, but SSE's `movss`/`movsd` look like them.
            _ => allowed(mnemonic) && !instruction.contains("%xmm") && !instruction.contains("%st"),
        };
        if !(ok || boot && previous == "(bad)") {
            found.push(format!("{function}: {instruction}"));
        }
        previous = mnemonic.to_owned();
    }
    found
}

#[test]
fn only_instructions_that_work_in_emulated_ring_0() {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(vmm()).args(["image", "extract"]).arg(dir.path()).status().unwrap();
    assert!(status.success());
    let kernel = dir.path().join("xinim-kernel");
    let listing = tool("objdump", &["-d", "--no-show-raw-insn", kernel.to_str().unwrap()]);
    assert!(listing.lines().count() > 5000, "this is no kernel");
    let found = complaints(&listing);
    assert!(found.is_empty(), "{} instructions:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_check_finds_what_it_should() {
    let listing = "0 <f>:\n 1:\tmov    %rax,%rbx\n 2:\tmovss  %xmm0,%xmm1\n 3:\tpopcnt %rax,%rax\n \
        4:\tint3\n 5:\tjmp    7\n 6:\tint3\n 7:\txsave  (%rax)\n 8:\tclac\n 9:\tcmpxchg16b (%rdi)\n \
        a:\tfwait\n b:\tldmxcsr (%rax)\n c:\trdtscp\n d:\tmovbe  (%rax),%eax\n e:\tandn   %eax,%eax,%eax\n";
    let found = complaints(listing);
    let wanted = [
        "movss",
        "popcnt",
        "int3",
        "xsave",
        "clac",
        "cmpxchg16b",
        "fwait",
        "ldmxcsr",
        "rdtscp",
        "movbe",
        "andn",
    ];
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    assert!(found.iter().zip(wanted).all(|(line, word)| line.contains(word)), "{found:?}");
}
