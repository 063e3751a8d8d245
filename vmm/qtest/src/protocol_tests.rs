use super::*;
use crate::args::Setup;
use proptest::prelude::*;

fn machine() -> Machine {
    let args = "-qtest unix:none -M q35 -m 1M".split(' ').map(str::to_owned);
    Machine::new(&Setup::parse(&args.collect::<Vec<_>>()).unwrap()).unwrap()
}

#[test]
fn each_command_has_its_answer() {
    let mut machine = machine();
    for (line, answer) in [
        ("endianness", "OK little"),
        ("write 0x100 4 0x0102", "OK"),
        ("read 0x100 4", "OK 0x01020000"),
        ("readl 0x100", "OK 0x0000000000000201"),
        ("writeq 256 0x1122334455667788", "OK"),
        ("readb 0x107", "OK 0x0000000000000011"),
        ("b64write 0x200 3 AQID", "OK"),
        ("b64read 0x200 4", "OK AQIDAA=="),
        ("memset 0x300 2 0xAB", "OK"),
        ("readw 0x300", "OK 0x000000000000abab"),
        ("memset 0x300 0 1", "OK"),
        // RAM size by fw_cfg, the AHCI controller's ids by configuration ports.
        ("outw 0x510 3", "OK"),
        ("inb 0x511", "OK 0x0000"),
        ("inb 0x511", "OK 0x0000"),
        ("inb 0x511", "OK 0x0010"),
        ("outl 0xcf8 0x8000fa00", "OK"),
        ("inl 0xcfc", "OK 0x29228086"),
        ("outl 0xcf8 0x8000fa02", "OK"),
        ("inw 0xcfc", "OK 0x2922"),
        ("clock_step 100", "OK 100"),
        ("clock_set 50", "OK 100"),
        ("clock_set 200", "OK 200"),
        ("irq_intercept_in ioapic", "OK"),
        ("inb 0x9999", "OK 0x00ff"),
    ] {
        assert_eq!(command(&mut machine, line), answer, "{line}");
    }
}

#[test]
fn mistakes_are_answered() {
    let mut machine = machine();
    for line in
        ["", "nonsense", "outb 1", "readl x", "write 0 4 zz", "b64write 0 4 %%", "read 0 -1"]
    {
        assert!(command(&mut machine, line).starts_with("FAIL "), "{line}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_line_is_answered_by_one(
        name in "(out|in|read|write)[bwlq]|read|b64read|write|b64write|memset|clock_step|.{0,8}",
        a in any::<u32>(),
        b in 0u32..5000,
        data in "(0x)?[0-9a-fA-F]{0,40}",
    ) {
        let mut machine = machine();
        let answer = command(&mut machine, &format!("{name} {a} {b} {data}"));
        prop_assert!(answer.starts_with("OK") || answer.starts_with("FAIL "));
        prop_assert!(!answer.contains('\n'));
    }
}
