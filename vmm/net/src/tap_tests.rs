use super::*;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn names_are_checked_and_failures_are_sentences() {
    for name in ["", "a/b", "a b", "averyverylongname"] {
        assert!(Tap::open(name).unwrap_err().contains("cannot be the name"), "{name}");
    }
}

/// A TAP device of its own with an address: the host's kernel answers ARP on it.
#[test]
fn the_host_answers_over_a_tap_device() {
    let name = format!("xt{}", std::process::id() % 1_000_000);
    let mut tap = match Tap::open(&name) {
        Ok(tap) => tap,
        Err(why) => return xinim_machine::testing::skip("tap", &why),
    };
    let ip = |arguments: &[&str]| Command::new("ip").args(arguments).status();
    let done = ip(&["addr", "add", "192.0.2.1/24", "dev", &name])
        .is_ok_and(|status| status.success())
        && ip(&["link", "set", &name, "up"]).is_ok_and(|status| status.success());
    if !done {
        return xinim_machine::testing::skip("tap", "the interface cannot be set up");
    }
    tap.accept(Offloads::all());
    let mut request = vec![0xFF; 6];
    request.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9]);
    request.extend([192, 0, 2, 9, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
    let end = Instant::now() + Duration::from_secs(10);
    let mut frame = Frame::default();
    loop {
        tap.send(&Frame::plain(request.clone()));
        while tap.receive(&mut frame) {
            if frame.data.get(..6) == Some(&[2, 0, 0, 0, 0, 9])
                && frame.data.get(20..22) == Some(&[0, 2])
            {
                assert_eq!(frame.data[28..32], [192, 0, 2, 1]);
                return;
            }
        }
        assert!(Instant::now() < end, "no answer came");
        std::thread::sleep(Duration::from_millis(10));
    }
}
