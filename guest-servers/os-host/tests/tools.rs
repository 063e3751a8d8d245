//! XINIM's tools beside the host's: the same arguments, the same output, status and files.

mod common;

use common::{compare, run, tool_dir};

#[test]
fn as_the_hosts() {
    compare(&[
        "/usr/bin/printf 'a\\nb\\nc' > f; cat f; cat f f; echo x | cat - f; cat nonexistent f; ",
        "seq 5 > f; cp f g; cmp f g; echo $?; cp f /nonexistent/g; cp nonexistent x; cp f",
        "mkdir -p a/b/c; touch a/b/f; cp a b; cp -r a b; cp -r a b; ls -R b",
        "mkdir d; cp -r d d/x; ls d; seq 3 > f; cp f f; ln -s f l; cp -r l m; readlink m; cp l n",
        "mkdir d; touch x y; cp x y d; mv x z; mv z y d; mv d e; ls e; mv nonexistent e; mv x y z",
        "mkdir d d/e; touch d/f d/e/g; rm d; rm -r d; rm nonexistent; rm -f nonexistent; ls",
        "touch a; rm -rf a b; ln -s /etc l; rm -r l; [ -d /etc ] && echo kept; mkdir x; rmdir x x",
        "mkdir a; mkdir a; mkdir -p a/b a/b; mkdir b/c; rmdir a; touch f; mkdir -p f/g",
        "touch f; ln f g; stat -c '%h %s %F' f g; ln -s f s; ln -s f s; ln -sf g s; readlink s; stat -c %F s",
        "seq 20 > f; head f; head -n 3 f; head -3 f; tail f; tail -n 2 f; tail -n +18 f; head -c 5 f; tail -c 4 f",
        "seq 3 > f; head -n 1 f f; seq 100000 | head -n 1; seq 30 | tail -3",
        "seq 3 > f; wc -l < f; wc -l f | cat; wc -c < f; echo 'a b  c' | wc -w",
        "seq 5; seq 2 4; seq 1 2 6; seq 5 -2 1; seq 3 1",
        "seq 3 > f; seq 4 > g; cmp f g; cmp -s f g; echo $?; echo x > g; cmp f g; echo $?; cmp f no; echo $?",
        "seq 3 | tee f g; cat f g; echo x | tee -a f; cat f; seq 2 | tee /nonexistent/x",
        "printf 'b\\na\\nB\\n10\\n9\\n' > f; sort f; sort -r f; sort -n f | tail -2; sort f f | uniq -c; sort -u f f",
        "printf 'one\\ntwo\\nthree\\n' > f; grep o f; grep -v o f; grep -c o f; grep -n t f; grep x f; echo $?; grep -q o f; echo $?; grep -i ONE f; grep '^t' f; grep 'e$' f; grep -l o f; grep -e wo -e thr f; grep -v -e wo -e thr f; grep o f nonexistent; echo $?",
        "printf 'a.b\\naxb\\n' | grep -F a.b",
        "printf '%s-%d-%x\\n' a 1 255 b 2 16; printf '%5s|%-5s|%05d\\n' a b 42; printf 'no newline'; printf '%b' 'a\\tb\\n'; printf '%c%c\\n' abc def; printf '%%\\n'; printf '%s\\n'",
        "seq 1000 > f; sha256sum f > sums; cat sums; sha256sum -c sums; echo x >> f; sha256sum -c sums 2>/dev/null; echo $?; echo hi | sha256sum; sha256sum nonexistent; echo $?",
        "head -c 100000 /dev/zero | sha256sum; : | sha256sum",
        "seq 1000 > f; dd if=f of=g bs=100 count=5 status=none; dd if=f of=g bs=10 skip=3 seek=2 count=1 conv=notrunc status=none; cat g | head -n 12; dd if=f bs=7 count=2 skip=1 status=none; dd if=nonexistent status=none; echo $?",
        "echo hello > f; dd if=f of=g bs=2 seek=3 status=none; od -c g; dd if=/dev/zero of=z bs=1k count=64 status=none conv=fsync; cmp z /dev/zero; echo $?; echo abc | dd bs=16 conv=sync status=none | od -c",
        "touch -c none; ls; touch a b; ls; ls -a; ls -1; ls -d .; ls nonexistent a; echo $?; touch .h; ls -A",
        "mkdir d; touch d/1 d/2 f; ls f d; ls d f; ls -d d f; ls -R; mkdir e; ls d e",
        "basename /a/b.c .c; basename a/; dirname /a/b; dirname a; basename /; dirname /",
        "true; echo $?; false; echo $?; pwd > /dev/null; yes | head -n 3; yes a b | head -n 1; sleep 0.01; sleep x; echo $?",
        "env -i A=1 B=2; env A=1 /bin/sh -c 'echo $A'; env nonexistent_x; echo $?; env -i A=1 /bin/sh -c 'echo $A; exit 5'; echo $?",
        "chmod 600 f; touch f; chmod 640 f; stat -c %a f; chmod 7 f; stat -c '%a %A' f",
        "[ a = a ]; echo $?; test -f /etc/passwd; echo $?; test a -eq 1; echo $?; test; echo $?; test 5 -gt 3 -a 1 = 1; echo $?; test '(' a = b ')' -o x; echo $?; test ! x; echo $?; [ x; echo $?",
        "echo a b; echo -n x; echo; echo -e 'a\\tb'; echo -- x; echo -z",
        "kill -9 999999; echo $?; kill x; echo $?; kill -NOSUCH 1; echo $?; sleep 5 & kill -9 $!; wait $!; echo $?",
        "uname -s > /dev/null; date +%Y > /dev/null; uname -m; date +%s | wc -c; date -u +%F > f; TZ=UTC /bin/date +%F | cmp - f",
        "readlink nonexistent; echo $?; printf 'a\\n\\nb\\n' | uniq; printf 'a\\na\\nb\\n' | uniq -d",
        "cat < /dev/null; cat /; echo $?; head -n x; echo $?; mkdir; echo $?; ls -Z- 2>/dev/null >/dev/null; rm; echo $?",
    ]);
}

#[test]
fn hexdump_shows_what_is_there() {
    let tools = tool_dir();
    let (output, _) = run(tools.path(), "printf 'hello\\n%040d' 0 | hexdump -C");
    let expected = "\
00000000  68 65 6c 6c 6f 0a 30 30  30 30 30 30 30 30 30 30  |hello.0000000000|
00000010  30 30 30 30 30 30 30 30  30 30 30 30 30 30 30 30  |0000000000000000|
00000020  30 30 30 30 30 30 30 30  30 30 30 30 30 30        |00000000000000|
0000002e
";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    let (output, _) = run(tools.path(), "head -c 64 /dev/zero | hexdump; printf abc | hexdump");
    let expected = "\
0000000 0000 0000 0000 0000 0000 0000 0000 0000
*
0000040
0000000 6261 0063
0000003
";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn messages_are_short_and_say_what() {
    let tools = tool_dir();
    for (script, message) in [
        ("cat /x", "cat: /x: no such file or directory\n"),
        ("rmdir /etc/passwd", "rmdir: /etc/passwd: not a directory\n"),
        ("mount", "mount: function not implemented\n"),
        ("cat /etc/passwd > /dev/full", "cat: write error: no space left on device\n"),
        ("echo x > /dev/full; seq 10 > /dev/full", "seq: write error: no space left on device\n"),
    ] {
        let (output, _) = run(tools.path(), script);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.ends_with(message), "{script}: {text}");
        assert_eq!(output.status.code(), Some(1), "{script}");
    }
}
