//! From nothing to the shell and back, on each engine; what `--exec` promises.

use xinim_tests::host::noise;
use xinim_tests::machine::{engines, exec};

#[test]
fn says_hello_and_nothing_else() {
    for engine in engines("says_hello_and_nothing_else") {
        let output = exec(engine, "echo hello; echo oops >&2", &[]).output().expect(0);
        assert_eq!(output.out(), "hello\n", "{engine}");
        assert_eq!(output.err(), "oops\n", "{engine}");
    }
}

#[test]
fn the_last_status_is_the_machines() {
    for engine in engines("the_last_status_is_the_machines") {
        exec(engine, "true", &[]).output().expect(0);
        exec(engine, "true; false", &[]).output().expect(1);
        exec(engine, "exit 123", &[]).output().expect(123);
        // Not found is 127 in the guest; 124 and up are the VMM's own.
        let output = exec(engine, "no-such-command", &[]).output().expect(123);
        assert!(output.err().contains("not found"), "{}", output.err());
    }
}

#[test]
fn streams_are_exact() {
    // Larger than any buffer on the way, every byte value, no line structure.
    let bytes = noise(1, 1_000_003);
    for engine in engines("streams_are_exact") {
        let output = exec(engine, "cat", &[]).stdin(bytes.clone()).output().expect(0);
        assert!(output.stdout == bytes, "{engine}: {} bytes came back", output.stdout.len());
        assert_eq!(output.err(), "", "{engine}");
        let output = exec(engine, "cat >&2", &[]).stdin(&bytes[..70_001]).output().expect(0);
        assert!(output.stderr == bytes[..70_001], "{engine}");
        assert_eq!(output.out(), "", "{engine}");
    }
}

#[test]
fn input_that_nobody_reads_is_no_trouble() {
    for engine in engines("input_that_nobody_reads_is_no_trouble") {
        let output = exec(engine, "echo done", &[]).stdin(noise(2, 300_000)).output().expect(0);
        assert_eq!(output.out(), "done\n");
    }
}

#[test]
fn a_shell_worth_the_name() {
    let script = r#"
mkdir -p /tmp/a/b && cd /tmp/a
for i in 1 2 3; do echo "line $i" >> b/file; done
ln -s b/file link
cat link | grep 2 > two
X=$(cat two); echo "<$X>"
ls -1
[ -f two ] && rm two || echo missing
cat two 2>/dev/null; echo "status $?"
(cd b; pwd); pwd
sleep 0.1 & wait; echo 'quoted $X' "quoted $X"
mv b/file c && cp c d && cmp c d && wc -l < d
stat c > /dev/null && sha256sum d
dd if=d of=e bs=1 skip=5 count=6 2>/dev/null; cat e
hexdump -C e
"#;
    // The SHA-256 is what the host's sha256sum says of the same three lines.
    let expected = "\
<line 2>
b
link
two
status 1
/tmp/a/b
/tmp/a
quoted $X quoted line 2
3
6ca9d5edb68deaadc1d3130c5fc3ec36e12db72ad54e93edcd63bdfb40a83300  d
1
line00000000  31 0a 6c 69 6e 65                                 |1.line|
00000006
";
    for engine in engines("a_shell_worth_the_name") {
        let output = exec(engine, script, &[]).output().expect(0);
        assert_eq!(output.out(), expected, "{engine}");
        assert_eq!(output.err(), "", "{engine}");
    }
}
