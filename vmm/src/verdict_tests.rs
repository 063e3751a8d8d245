use std::time::Duration;

use xinim_machine::{Outcome, RunStats};

use super::*;
use crate::cli::RunArgs;

fn judge(end: End, link: Option<State>, reason: Option<StopReason>) -> Verdict {
    judge_with(0, end, link, reason)
}

fn judge_with(verbose: u8, end: End, link: Option<State>, reason: Option<StopReason>) -> Verdict {
    let config = crate::config::resolve(RunArgs { verbose, ..RunArgs::default() }).unwrap();
    let stats = RunStats { stopped_at: Some("cpu 0: rip=0x1234".into()), ..RunStats::default() };
    let outcome = Outcome { end, stats };
    of(&config, &Ended { outcome, link, debug: b"panic: oh no".to_vec() }, reason.as_ref())
}

fn status(end: End, link: Option<State>, reason: Option<StopReason>) -> u8 {
    match judge(end, link, reason) {
        Verdict::Status(status, _) => status,
        Verdict::RunAgain => panic!("would run again"),
    }
}

#[test]
fn a_commands_status_is_the_processes() {
    let exited = |status| Some(State::Exited(status));
    assert_eq!(judge(End::PowerOff, exited(0), None), Verdict::Status(0, String::new()));
    assert_eq!(status(End::PowerOff, exited(7), None), 7);
    assert_eq!(status(End::PowerOff, exited(123), None), 123);
    assert_eq!(status(End::PowerOff, exited(124), None), 123);
    assert_eq!(status(End::PowerOff, exited(u32::MAX), None), 123);
    assert_eq!(status(End::Reboot, exited(3), None), 3);
}

#[test]
fn a_status_that_is_too_large_is_told_to_who_asks_for_more() {
    let ended = |status| judge_with(1, End::PowerOff, Some(State::Exited(status)), None);
    let text = "xinim-vmm: the command ended with status 143, told as 123\n";
    assert_eq!(ended(143), Verdict::Status(123, text.into()));
    assert_eq!(ended(123), Verdict::Status(123, String::new()));
}

#[test]
fn a_command_may_power_off_but_it_must_have_been_asked_for() {
    assert_eq!(status(End::PowerOff, None, None), 0);
    assert_eq!(status(End::PowerOff, Some(State::Running), None), 0);
    match judge(End::PowerOff, Some(State::Start), None) {
        Verdict::Status(125, text) => assert!(text.contains("asked for"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn reboot_runs_again_except_with_exec() {
    assert_eq!(judge(End::Reboot, None, None), Verdict::RunAgain);
    assert_eq!(status(End::Reboot, Some(State::Running), None), 0);
}

#[test]
fn the_exit_device_gives_a_status() {
    assert_eq!(status(End::ExitDevice(5), None, None), 5);
    assert_eq!(status(End::ExitDevice(500), Some(State::Start), None), 123);
}

#[test]
fn a_death_is_reported_even_after_a_status() {
    let death = Death { reason: "triple fault".into(), report: "rip=1".into() };
    match judge(End::Died(death), Some(State::Exited(0)), None) {
        Verdict::Status(134, text) => {
            assert_eq!(text, "panic: oh no\nxinim-vmm: the guest died: triple fault\nrip=1\n");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn stops_have_their_own_statuses() {
    let timed_out = StopReason::TimedOut(Duration::from_secs(30));
    match judge(End::Stopped, Some(State::Running), Some(timed_out)) {
        Verdict::Status(124, text) => assert_eq!(
            text,
            "xinim-vmm: time-out after 30 s: the command was running\ncpu 0: rip=0x1234\n"
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        judge(End::Stopped, None, Some(StopReason::Signal(2))),
        Verdict::Status(130, String::new())
    );
    assert_eq!(
        judge(End::Stopped, None, Some(StopReason::Left)),
        Verdict::Status(0, String::new())
    );
    let failed = Some(StopReason::Failed("no space".into()));
    assert_eq!(
        judge(End::PowerOff, Some(State::Exited(0)), failed),
        Verdict::Status(125, "xinim-vmm: no space\n".into())
    );
    assert_eq!(status(End::Stopped, None, None), 125);
}
