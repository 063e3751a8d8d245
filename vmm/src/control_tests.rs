use std::sync::mpsc;

use super::*;

#[test]
fn the_first_reason_counts_and_the_engine_is_woken() {
    let control = Control::new();
    let (sender, woken) = mpsc::channel();
    control.stopper().on_stop(move || sender.send(()).unwrap());
    assert_eq!(control.reason(), None);
    control.stop(StopReason::Left);
    control.stop(StopReason::Signal(2));
    control.ended();
    assert_eq!(control.reason(), Some(StopReason::Left));
    assert!(woken.recv_timeout(Duration::from_secs(5)).is_ok());
    assert!(control.stopper().is_stopped());
}

#[test]
fn a_deadline_stops_unless_dropped() {
    let kept = Control::new();
    let (sender, woken) = mpsc::channel();
    kept.stopper().on_stop(move || sender.send(()).unwrap());
    let timeout = Duration::from_millis(20);
    let deadline = Deadline::start(timeout, kept.clone());
    woken.recv_timeout(Duration::from_secs(5)).unwrap();
    kept.ended();
    assert_eq!(kept.reason(), Some(StopReason::TimedOut(timeout)));
    drop(deadline);

    let dropped = Control::new();
    drop(Deadline::start(timeout, dropped.clone()));
    std::thread::sleep(timeout * 4);
    assert_eq!(dropped.reason(), None);
}

#[test]
fn statuses() {
    assert_eq!(StopReason::TimedOut(Duration::ZERO).status(), 124);
    assert_eq!(StopReason::Signal(15).status(), 130);
    assert_eq!(StopReason::Left.status(), 0);
    assert_eq!(StopReason::OutputClosed.status(), 0);
    assert_eq!(StopReason::Failed(String::new()).status(), 125);
}
