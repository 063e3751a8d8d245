//! What follows a service that cannot be kept alive: each `escalate` of the manifests, and the end of RS.

use tempfile::tempdir;
use xinim_tests::host::arg;
use xinim_tests::machine::{boots, engines, exec};

/// A service that dies 300 ms after it has come up, always; it has failed after two crashes.
fn dying(escalate: &str) -> String {
    format!(
        "printf 'start = \"first-use\"\\nargs = [\"quits\", \"300\"]\\nescalate = \"{escalate}\"\\n\
         restart = {{ limit = 1, backoff = 1 }}\\n' > /tmp/dying.toml
        service load /tmp/dying.toml /bin/breakout\n"
    )
}

/// A service that does nothing.
fn idle(name: &str, manifest: &str) -> String {
    format!(
        "printf 'args = [\"idle\"]\\n{manifest}\\n' > /tmp/{name}.toml
        service load /tmp/{name}.toml /bin/breakout\n"
    )
}

const FAILED: &str = "until service status dying | grep -q 'state: failed'; do sleep 0.05; done\n";
/// State and number of earlier instances of `near`, `far` and `other`, then the alerts.
const STATES: &str = "for name in near far other; do
        service status $name | while read key value; do
            case $key in state:|incarnation:) echo $name $value;; esac; done
    done
    service alerts | while read time text; do echo $text; done\n";

/// Two services that need the dying one, directly and not, and one that does not.
fn family() -> String {
    idle("near", "needs = [\"dying\"]\\nstart = \"first-use\"")
        + &idle("other", "safe = true")
        + &idle("far", "needs = [\"near\"]")
}

/// What a machine says that runs these commands with the family; all of it for messages.
fn family_of(engine: &str, escalate: &str) -> (String, String) {
    let script = dying(escalate) + &family() + FAILED + STATES;
    let output = exec(engine, &script, &[]).output();
    let all = format!("{engine}: {}{}", output.out(), output.err());
    assert_eq!((output.status, output.err().as_str()), (0, ""), "{all}");
    (output.out(), all)
}

const HAS_FAILED: &str = "dying has failed: crashed 2 times in a row\n";

#[test]
fn nobody_is_told_where_nothing_follows() {
    for engine in engines("nobody_is_told_where_nothing_follows") {
        let (text, all) = family_of(engine, "none");
        let states = "near running\nnear 0\nfar running\nfar 0\nother running\nother 0\n";
        assert_eq!(text, [states, "ALERT\n"].concat(), "{all}");
    }
}

#[test]
fn the_operator_is_told() {
    for engine in engines("the_operator_is_told") {
        let (text, all) = family_of(engine, "alert");
        assert!(text.starts_with("near running\nnear 0\n"), "{all}");
        assert!(text.ends_with(&["ALERT\n", HAS_FAILED].concat()), "{all}");
    }
}

#[test]
fn those_that_need_it_are_restarted_once() {
    for engine in engines("those_that_need_it_are_restarted_once") {
        let (text, all) = family_of(engine, "restart-dependents");
        let states = "near running\nnear 1\nfar running\nfar 1\nother running\nother 0\n";
        let alert = "ALERT\ndying crashes again and again: restarting those that need it\n";
        assert_eq!(text, [states, alert, HAS_FAILED].concat(), "{all}");
    }
}

#[test]
fn only_safe_services_go_on_in_safe_mode() {
    for engine in engines("only_safe_services_go_on_in_safe_mode") {
        let (text, all) = family_of(engine, "safe-mode");
        // `far` and `near` are not safe, `other` is; so is what carries these very commands.
        for state in ["near dead", "far dead", "other running", "other 0"] {
            assert!(text.lines().any(|line| line == state), "{state}\n{all}");
        }
        let alert =
            "safe mode: dying has failed: crashed 2 times in a row; only safe services go on\n";
        assert!(text.ends_with(alert), "{all}");
    }
}

#[test]
fn the_system_boots_again() {
    for engine in engines("the_system_boots_again") {
        let load = dying("reboot").replace('\n', "; ");
        // Nothing but the reboot ends the sleep before its time.
        let first =
            format!("touch /tmp/first; {load} service start dying; sleep 100; echo not rebooted");
        let second = "ls /tmp/first; echo second $((1 + 1)); poweroff";
        let output = boots(engine, &[], &[&first, second]);
        let (text, report) = (output.out(), output.err());
        assert_eq!(output.status, 0, "{engine}: {text}{report}");
        assert!(text.contains("second 2"), "{engine}: {text}{report}");
        assert!(!text.contains("\nnot rebooted"), "{engine}: {text}");
        assert!(text.contains("/tmp/first: no such file"), "{engine}: {text}");
    }
}

/// RS itself: at a terminal the reason is reported and the machine boots again.
#[test]
fn the_end_of_rs_is_reported_and_the_machine_boots_again() {
    for engine in engines("the_end_of_rs_is_reported_and_the_machine_boots_again") {
        let output = boots(engine, &[], &["service kill rs", "echo second $((1 + 1)); poweroff"]);
        let (text, report) = (output.out(), output.err());
        assert_eq!(output.status, 0, "{engine}: {report}");
        assert!(report.contains("reincarnation server died: exit status 9"), "{engine}: {report}");
        assert!(text.contains("second 2"), "{engine}: {text}");
    }
}

/// It is the end of a command, which whoever waits for its status must learn; a core says what memory
/// looked like.
#[test]
fn the_end_of_rs_under_a_command_is_the_machines() {
    for engine in engines("the_end_of_rs_under_a_command_is_the_machines") {
        let dir = tempdir().expect("directory");
        let core = dir.path().join("core");
        let output = exec(engine, "service kill rs", &["--dump", arg(&core)]).output().expect(134);
        let report = output.err();
        assert!(report.contains("reincarnation server died: exit status 9"), "{engine}: {report}");
        let head = std::fs::read(&core).expect("a core");
        assert!(head.starts_with(b"\x7FELF"), "{engine}: {report}");
    }
}
