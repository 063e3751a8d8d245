use super::*;
use crate::unparse;
use proptest::prelude::*;
use std::{format, vec};

fn ok(source: &str) -> List {
    parse(source).unwrap_or_else(|e| panic!("{source:?}: {e}"))
}

/// Scripts that use every construct.
const SCRIPTS: &[&str] = &[
    "echo hello world",
    "a | b | c && d || ! e; f & g",
    "X=1 Y='a b' cmd <in >out 2>&1 >>log 3<>rw",
    "if a; then b; elif c; then d; else e; fi >f",
    "while read x; do echo \"$x\"; done <file",
    "until a\ndo\nb\ndone",
    "for i in 1 2 $x; do echo $i; done; for j do echo; done",
    "case $x in a|b) echo ab;; (c*) echo c;; *) ;; esac",
    "f() { echo $1 \"$@\"; }; f x",
    "( cd /; pwd ) | { cat; }",
    "echo ${x:-a b} ${x=c} \"${y:+\"q\"}\" \"${y:+\"\"}\" ${#x} ${z#*/} ${z%%.*} $# $? ${10}",
    "echo $(echo `echo nested`) \"$(ls \"a b\")\" $((1 + x * (2 - 3)))",
    "cat <<EOF; echo after\nline $x\n\\$y\nEOF\necho next",
    "cat <<'A' <<-B\nraw $x\nA\n\ttabs\n\tB\n",
    "cat <<< \"here $string\"",
    "cat <<A <<B\nA\ngoes on\\\nB\nB\n",
    "echo a\\ b 'c'\"d\"e# # comment\n",
    "time ls | wc; ! true",
    "~/x ~ a~",
    "echo \"a\\\"b\\$c\\\\d\\e\" \\\n continued",
];

#[test]
fn scripts_parse_and_come_back_the_same() {
    for script in SCRIPTS {
        let tree = ok(script);
        let text = unparse::list(&tree);
        assert_eq!(ok(&text), tree, "{script:?} -> {text:?}");
    }
}

#[test]
fn shapes() {
    let tree = ok("a && b | c &");
    assert_eq!(tree.len(), 1);
    assert!(tree[0].background);
    assert_eq!(tree[0].and_or.rest[0].1.commands.len(), 2);
    let Kind::Simple { assignments, words } = &ok("X=1 a b=2")[0].and_or.first.commands[0].kind
    else {
        panic!()
    };
    assert_eq!((assignments.len(), words.len()), (1, 2));
    let tree = ok("cat <<E\na\n$b\nE\necho x");
    assert_eq!(tree.len(), 2);
    let plain = Parameter { name: Name::Variable("b".into()), operation: Operation::Plain };
    assert_eq!(
        tree[0].and_or.first.commands[0].redirects[0].target,
        Target::Here(vec![
            Part::Quoted("a\n".into()),
            Part::Parameter { parameter: plain, quoted: true },
            Part::Quoted("\n".into()),
        ])
    );
}

#[test]
fn errors_say_where() {
    let cases = [
        ("a\n| b", 2, "unexpected `|`"),
        ("a && && b", 1, "unexpected `&&`"),
        ("fi", 1, "unexpected `fi`"),
        ("a )", 1, "unexpected `)`"),
        ("if ; then", 1, "unexpected `;`"),
        ("x ;; y", 1, "unexpected `;;`"),
        ("echo ${x!}", 1, "bad substitution"),
        ("f() x", 1, "a function's body is a compound command"),
    ];
    for (source, line, message) in cases {
        let error = parse(source).expect_err(source);
        assert_eq!((error.line, error.message.as_str()), (line, message), "{source:?}");
        assert!(!error.incomplete, "{source:?}");
    }
}

#[test]
fn incomplete_input_is_told_apart() {
    for source in [
        "echo 'a",
        "echo \"a",
        "if a",
        "if a; then",
        "while x; do y",
        "a |",
        "a &&",
        "( a",
        "{ a;",
        "echo $(a",
        "echo ${a",
        "cat <<E\nx",
        "for i in",
        "case x in",
        "f() {",
        "echo `a",
        "for",
    ] {
        let error = parse(source).expect_err(source);
        assert!(error.incomplete || source == "for", "{source:?}: {error}");
    }
}

/// Words that escaped newlines or empty quotes run through do not turn into something else.
#[test]
fn split_words_stay_words() {
    for source in
        ["a|}\\\n\t", "i\\\nf x", "a\\\n=b", "a\"\"=b'q'", "2\\\n>f", "ti''me x", "f\\\n() { a; }"]
    {
        if let Ok(tree) = parse(source) {
            let text = unparse::list(&tree);
            assert_eq!(parse(&text), Ok(tree), "{source:?} -> {text:?}");
        }
    }
}

#[test]
fn depth_is_bounded() {
    for (open, count) in [("(", 5000), ("$(", 5000), ("\"$(", 5000), ("{ ", 5000), ("if ", 5000)] {
        let source = format!("echo x; {}", open.repeat(count));
        assert!(parse(&source).is_err());
    }
    let fine = format!("{} true {}", "( ".repeat(30), " )".repeat(30));
    ok(&fine);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_text_gives_a_tree_or_an_error(source in "[ \\n\\t;&|<>(){}$`'\"\\\\a-c1=#!~*?@:%+-]{0,60}") {
        if let Ok(tree) = parse(&source) {
            let text = unparse::list(&tree);
            prop_assert_eq!(parse(&text), Ok(tree), "{:?} -> {:?}", source, text);
        }
    }

    #[test]
    fn any_unicode(source in "\\PC{0,80}") {
        let _ = parse(&source);
        let _ = parse_here(&source);
    }

    #[test]
    fn pieces_of_scripts(
        parts in prop::collection::vec((0..SCRIPTS.len(), 0usize..80, 0usize..80), 1..4)
    ) {
        let mut source = std::string::String::new();
        for (script, from, to) in parts {
            let script = SCRIPTS[script];
            let (from, to) = (from.min(script.len()), to.min(script.len()));
            source.push_str(&script[from.min(to)..to.max(from)]);
        }
        if let Ok(tree) = parse(&source) {
            let text = unparse::list(&tree);
            prop_assert_eq!(parse(&text), Ok(tree), "{:?} -> {:?}", source, text);
        }
    }
}
