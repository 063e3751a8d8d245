//! XINIM's shell beside the host's: the same scripts, the same output and status.

use std::process::{Command, Output};

/// Runs `script` in an empty directory.
fn run(shell: &[&str], script: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(["-c", script, "sh", "one", "two words"]);
    let output = command
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", "/bin:/usr/bin")
        .env("HOME", "/home/somebody")
        .stdin(std::process::Stdio::null())
        .output();
    output.unwrap()
}

fn ours(script: &str) -> Output {
    run(&[env!("CARGO_BIN_EXE_xinim-host"), "sh"], script)
}

/// Each script's output and status must be those of the host's shell.
fn same(scripts: &[&str]) {
    let mut different = String::new();
    for script in scripts {
        let (ours, host) = (ours(script), run(&["/bin/bash", "--posix"], script));
        if (&ours.stdout, ours.status.code()) != (&host.stdout, host.status.code()) {
            different += &format!("--- {script}\nours: {ours:?}\nhost: {host:?}\n");
        }
    }
    assert!(different.is_empty(), "{different}");
}

#[test]
fn words_and_quotes() {
    same(&[
        "echo a  b 'c  d' \"e  f\" g\\ h",
        "echo \"$HOME\" '$HOME' \\$HOME $HOME/x ~ ~/x a~",
        "x='a  b'; echo $x; echo \"$x\"; echo ${x}c \"${x}c\"",
        "echo $# $1 \"$2\"; for a in \"$@\"; do echo \"<$a>\"; done; for a; do echo \"[$a]\"; done",
        "for a in $@; do echo \"<$a>\"; done; for a in $*; do echo \"<$a>\"; done; echo \"$*\"",
        "set --; for a in \"$@\" x; do echo \"<$a>\"; done; echo $#",
        "set -- a '' b; echo $#; for a in \"$@\"; do echo \"<$a>\"; done; for a in $@; do echo \"<$a>\"; done",
        "x=; for a in $x \"$x\" ''; do echo \"<$a>\"; done",
        "IFS=:; x='a:b::c d'; for a in $x; do echo \"<$a>\"; done",
        "IFS=' :'; x=' a : b:c  d '; for a in $x; do echo \"<$a>\"; done",
        "echo ${x:-default} ${x-unset} ${HOME:+set} ${x:+no}; echo ${#HOME}",
        "echo ${x:=assigned} $x; y=; echo ${y-a} ${y:-b} \"${y:-a  b}\" ${z:-a  b}",
        "p=/usr/lib/file.tar.gz; echo ${p##*/} ${p#*/} ${p%.*} ${p%%.*} ${p%/*}",
        "echo \"${p:-\"in  ner\"}\" \"${p:-'x'}\"",
        "x='*'; touch a b; echo $x \"$x\" '*' *; echo [ab] ? [!a] no*match",
        "touch .hidden seen; echo * .h*; mkdir d; touch d/1 d/2; echo d/* */1 ./d/*",
        "echo $((1 + 2 * 3)) $(( (1 + 2) * 3 )) $((7 / 2)) $((7 % 3)) $((1 << 4)) $((5 > 3))",
        "x=5; echo $((x * 2)) $(($x + 1)) $((x = 3)) $x $((x += 4)) $((-x)) $((!x))",
        "echo $(echo a; echo b) \"$(echo a; echo b)\" `echo c \\`echo d\\``",
        "echo \"$(printf 'x\\n\\n\\n')y\"; echo \"a$(true)b\"",
        "echo a#b # comment",
        "echo one \\\ntwo",
        "echo '' | wc -c; echo \"\" a",
        "A=1 B=$A; echo \"<$B>\"; A=2 sh -c 'echo $A'; echo $A",
        "echo {x}; echo }",
        "echo \"a\\nb\\$c\\`d\\\"e\\\\f\"",
        "set -f; echo *",
        "x=abc; case $x in a*) echo yes;; esac; case $x in \"a*\") echo no;; b|abc) echo abc;; esac",
        "case '[x' in [[]x) echo bracket;; esac; case a-b in a[-]b) echo dash;; esac",
    ]);
}

#[test]
fn control() {
    same(&[
        "true && echo a || echo b; false && echo a || echo b; ! true; echo $?; ! false; echo $?",
        "if true; then echo a; fi; if false; then echo a; elif true; then echo b; else echo c; fi",
        "if false; then :; fi; echo $?; while false; do :; done; echo $?",
        "i=0; while [ $i -lt 5 ]; do i=$((i + 1)); [ $i = 3 ] && continue; echo $i; done; echo end $?",
        "i=0; until [ $i -ge 3 ]; do i=$((i+1)); if [ $i = 2 ]; then break; fi; done; echo $i",
        "for i in 1 2; do for j in a b; do [ $j = b ] && continue 2; echo $i$j; done; done",
        "for i in 1 2; do for j in a b; do break 2; done; echo no; done; echo $?",
        "f() { echo \"f $1 $#\"; return 3; }; f x y; echo $? $1",
        "f() { local_=$1; [ $1 -gt 0 ] && { echo $1; f $(($1 - 1)); }; }; f 3; echo $local_",
        "{ echo a; echo b; } | { read x; read y; echo $y $x; }",
        "(cd /; pwd; exit 5); echo $?; x=1; (x=2; echo $x); echo $x",
        "x=outer; f() { echo func $x; }; (f; x=inner; f); f",
        "exit 7; echo no",
        "false; exit",
        "set -e; echo a; false || true; if false; then :; fi; ! true; echo b; false; echo no",
        "set -e; (exit 3); echo no",
        "set -u; echo ${x-ok}; x=1; echo $x",
        "eval 'x=5; echo $x' '; echo done'; eval; echo $?",
        "echo 'echo sourced $1; y=2; return 4; echo no' > f; . ./f; echo $? $y",
        "shift; echo $1 $#; shift 5 2>/dev/null || echo failed",
        "set -- x y z; echo $2 $#; shift 2; echo $1",
        "nonexistent_command 2>/dev/null; echo $?; ./no 2>/dev/null; echo $?; / 2>/dev/null; echo $?",
        "echo 'echo script $0 $1' > s; chmod +x s; ./s arg; chmod -x s; ./s 2>/dev/null; echo $?",
        "printf '#!/bin/sh\\necho shebang $1\\nexit 9\\n' > s; chmod +x s; ./s x; echo $?",
        "true | false; echo $?; false | true; echo $?",
        "sleep 0.05 & wait $!; echo $?; (exit 6) & wait $!; echo $?",
        "x=$(exit 4); echo $?; x=$(true) ; echo $?; : $(false); echo $?",
        "readonly r=1; echo $r; unset x; x=1; unset x; echo ${x-unset}",
        "export E=exported; sh -c 'echo $E'; N=not; sh -c 'echo ${N-none}'",
        "kill -9 $$; echo no",
        "sh -c 'kill -TERM $$'; echo $?",
        "case x in esac; echo $?; if true; then false; fi; echo $?",
        "trap_() { echo a; }; trap_; echo \"$(trap_)\"; trap_ | cat",
        "f() { echo \"$@\"; }; f a b | cat; echo \"$(f 'x  y')\"; x='q w'; { echo $x; } | cat",
        "test 1 -lt 2 && echo yes; [ a = b ] || echo no; [ -z '' -a -n x ] && echo both; [ ! a = b ]; echo $?",
        "touch f; [ -f f ] && [ ! -d f ] && [ -e f ] && echo file; [ -d / ] && echo dir; [ -s f ]; echo $?",
        "command -v echo; command -v nonexistent; echo $?; type echo >/dev/null; echo $?",
        "cd /usr; cd /; cd -; pwd; cd nonexistent 2>/dev/null; echo $?",
    ]);
}

#[test]
fn redirections_and_pipes() {
    same(&[
        "echo a > f; echo b >> f; cat < f; cat f f | wc -l",
        "echo out; echo err >&2; { echo a; echo b >&2; } 2>&1 | sort",
        "ls nonexistent 2> f; [ -s f ] && echo something; ls nonexistent > f 2>&1; [ -s f ]; echo $?",
        "echo x 2>&1 >f | cat; cat f",
        "cat <<EOF\nline $HOME \\$x `echo sub` $(echo dollar)\n  'quotes' \"stay\"\nEOF\necho after",
        "cat <<'EOF'\n$HOME `x` \\n\nEOF",
        "cat <<-EOF\n\t\tindented\n\tEOF\necho after",
        "cat <<A; cat <<B\na\nA\nb\nB",
        "(cat <<A; cat <<B) | cat\nA\ngoes on\\\nB\nB\n",
        "cat <<EOF | tr a-z A-Z\nabc\nEOF",
        "while read a b; do echo \"$b-$a\"; done <<EOF\n1 2 3\nx y\nEOF",
        "printf 'a\\nb\\nc' > f; while read x; do echo \"<$x>\"; done < f; echo \"$x\"",
        "printf '1\\n2\\n3\\n' | while read x; do echo $x; done; printf 'a b\\n' | { read x y; echo $y; }",
        "exec 3> f; echo three >&3; exec 3>&-; cat f; echo x >&3",
        "exec > f; echo hidden; exec >&2; true",
        "{ echo 1; echo 2; } > f; for i in a b; do echo $i; done >> f; cat f",
        "if true; then echo a; fi > f; (echo b) >> f; cat f; f() { echo c; } > g; f; cat g",
        "cat < nonexistent 2>/dev/null; echo $?; echo a > /nonexistent/x 2>/dev/null; echo $?",
        "echo a | cat | cat | cat; yes | head -n 2; seq 1 100 | tail -n 1",
        "echo >f a b; cat f; > g; [ -f g ] && echo made; <f cat",
        "read x < /dev/null; echo $?; echo 'a\\b' | { read x; echo \"$x\"; }; echo 'a\\b' | { read -r x; echo \"$x\"; }",
        "seq 1 20000 | wc -l; x=$(seq 1 20000); echo ${#x}",
        "cat <<EOF | wc -c\n$(seq 1 20000)\nEOF",
        "f() { cat; }; echo in | f; echo in2 > x; f < x; echo $(f < x)",
        "echo background > f & wait; cat f",
        "sleep 0 | echo no stdin; echo a | (cat; echo b) | sort -r",
        "cat 0<f 2>/dev/null; echo $?; echo x 1>&2 2>/dev/null",
        "for i in 1 2 3; do echo $i; done | while read n; do echo $((n * n)); done | tail -n 1",
    ]);
}

#[test]
fn errors_are_reported_as_one_line() {
    for (script, status, message) in [
        ("nonexist", 127, "sh: nonexist: command not found\n"),
        ("./nonexist", 127, "sh: ./nonexist: no such file or directory\n"),
        ("echo a > /nonexistent/f", 1, "sh: /nonexistent/f: no such file or directory\n"),
        ("echo a; if", 2, "sh: line 1: syntax error: `then` expected\n"),
        ("echo ${x:?is missing}; echo no", 1, "sh: x: is missing\n"),
        ("set -u; echo $x; echo no", 1, "sh: x: parameter not set\n"),
        ("echo $((1 / 0)); echo no", 1, "sh: division by zero\n"),
        ("f() { f; }; f; echo no", 1, "sh: functions nested too deeply\n"),
        ("cd /nonexistent", 1, "sh: cd: /nonexistent: no such file or directory\n"),
        ("sh -c 'kill -ILL $$'", 132, "sh: sh: illegal instruction\n"),
    ] {
        let output = ours(script);
        assert_eq!(String::from_utf8_lossy(&output.stderr), message, "{script}");
        assert_eq!(output.status.code(), Some(status), "{script}");
    }
}

#[test]
fn scripts_from_files_and_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("s"), "echo $0 $1\nexit 3\n").unwrap();
    let program = env!("CARGO_BIN_EXE_xinim-host");
    let run = |command: &mut Command| command.current_dir(dir.path()).output().unwrap();
    let output = run(Command::new(program).args(["sh", "s", "arg"]));
    assert_eq!((&output.stdout[..], output.status.code()), (&b"s arg\n"[..], Some(3)));
    let script = std::fs::File::open(dir.path().join("s")).unwrap();
    let output = run(Command::new(program).args(["sh"]).stdin(script));
    assert_eq!((&output.stdout[..], output.status.code()), (&b"sh\n"[..], Some(3)));
    let output = run(Command::new(program).args(["sh", "missing"]));
    assert_eq!(output.status.code(), Some(127));
}
