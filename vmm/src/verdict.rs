//! From how a machine ended to an exit status and the words that go with it.
//!
//! | the machine | `--exec` | status |
//! |---|---|---|
//! | powered off | command ended with n | min(n, 123) |
//! | powered off | the command was running: it did that itself | 0 |
//! | powered off | the command was not asked for | 125 |
//! | powered off | - | 0 |
//! | rebooted | command ended with n, or nothing came | min(n, 123), or 0 |
//! | rebooted | - | run again |
//! | wrote n to the exit device | no status came, or - | min(n, 123) |
//! | was stopped | any | the reason's |
//! | had a driver that broke a rule (`--strict=stop`) | any | 135 |
//! | died | any | 134 |

use xinim_abi::exit;
use xinim_machine::{Death, End};

use crate::config::RunConfig;
use crate::control::StopReason;
use crate::exec::protocol::State;
use crate::run::{Ended, stop_sentence};

/// What the process does now.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    RunAgain,
    /// Exit with this status after printing this text on standard error.
    Status(u8, String),
}

pub fn of(config: &RunConfig, ended: &Ended, reason: Option<&StopReason>) -> Verdict {
    let quiet = |status| Verdict::Status(status, String::new());
    let clamp = |status: u32| u8::try_from(status).unwrap_or(u8::MAX).min(exit::GUEST_MAX);
    // Whatever the machine did afterwards: a failure on our side was the cause.
    if let Some(StopReason::Failed(_)) = reason {
        return stopped(ended, reason);
    }
    match (&ended.outcome.end, ended.link) {
        (End::Died(death), _) => Verdict::Status(exit::GUEST_DIED, obituary(config, ended, death)),
        (End::Stopped, _) => stopped(ended, reason),
        (End::Strict, _) => Verdict::Status(
            exit::STRICT,
            "xinim-vmm: a driver broke a rule of the strict checker\n".into(),
        ),
        (_, Some(State::Exited(status)))
            if config.verbose > 0 && status > exit::GUEST_MAX.into() =>
        {
            let told = clamp(status);
            let text =
                format!("xinim-vmm: the command ended with status {status}, told as {told}\n");
            Verdict::Status(told, text)
        }
        (_, Some(State::Exited(status))) => quiet(clamp(status)),
        (End::PowerOff, None | Some(State::Running)) => quiet(0),
        (End::PowerOff, Some(State::Start)) => Verdict::Status(
            exit::VMM_FAILED,
            "xinim-vmm: the guest powered off without having asked for the command\n".into(),
        ),
        (End::Reboot, None) => Verdict::RunAgain,
        (End::Reboot, Some(_)) => quiet(0),
        (End::ExitDevice(value), _) => quiet(clamp(*value)),
    }
}

fn stopped(ended: &Ended, reason: Option<&StopReason>) -> Verdict {
    let Some(reason) = reason else {
        return Verdict::Status(exit::VMM_FAILED, "xinim-vmm: the engine stopped\n".into());
    };
    let mut text = String::new();
    if let Some(sentence) = stop_sentence(reason) {
        let progress = match ended.link {
            Some(State::Start) => ": the guest had not asked for the command yet",
            Some(State::Running) => ": the command was running",
            Some(State::Exited(_)) => ": the command had ended, the guest was powering off",
            None => "",
        };
        let timed_out = matches!(reason, StopReason::TimedOut(_));
        text = format!("xinim-vmm: {sentence}{}\n", if timed_out { progress } else { "" });
        if timed_out && let Some(place) = &ended.outcome.stats.stopped_at {
            text.push_str(&whole_lines(place));
        }
    }
    Verdict::Status(reason.status(), text)
}

/// The panic text of the guest, then the report of the engine.
fn obituary(config: &RunConfig, ended: &Ended, death: &Death) -> String {
    let mut text = String::new();
    if config.verbose == 0 {
        // Otherwise it has been shown as it came.
        text.push_str(&whole_lines(&String::from_utf8_lossy(&ended.debug)));
    }
    text.push_str(&format!("xinim-vmm: the guest died: {}\n", death.reason));
    text.push_str(&whole_lines(&death.report));
    text
}

fn whole_lines(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
