//! A configuration goes from one instance to the next.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use smoltcp::time::Instant;
use xinim_abi::error::Error;
use xinim_abi::services::socket::query;

use crate::configure::configure;
use crate::kept::Kept;
use crate::link::{Capabilities, Link, Offload};
use crate::stack::Stack;

/// A link of a driver that carries nothing.
struct Silent(&'static str);

impl Link for Silent {
    fn capabilities(&self) -> Capabilities {
        Capabilities { mac: [2, 0, 0, 0, 0, 9], mtu: 1500, ..Capabilities::default() }
    }
    fn is_up(&self) -> bool {
        true
    }
    fn receive(&mut self, _frame: &mut Vec<u8>) -> Option<bool> {
        None
    }
    fn has_room(&self) -> bool {
        true
    }
    fn transmit(&mut self, _frame: &[u8], _offload: &Offload) {}
    fn driver(&self) -> String {
        self.0.to_string()
    }
}

fn stack() -> Stack {
    Stack::new([1, 2, 3, 4], Instant::from_millis(1))
}

/// The driver's interface comes, as it does in the service.
fn come(stack: &mut Stack, kept: &mut Kept, driver: &'static str) -> String {
    let name = kept.name_for(driver, stack);
    stack.add_interface(&name, Box::new(Silent(driver)), true).unwrap();
    kept.take_up_of(driver, stack).unwrap();
    name
}

fn seen(stack: &mut Stack) -> String {
    let kinds = [query::LINKS, query::ADDRESSES, query::ROUTES, query::RESOLVERS];
    kinds.map(|kind| stack.query(kind).unwrap()).concat()
}

const LINES: [&str; 10] = [
    "dns set 10.0.2.3 fd00::3",
    "addr add 192.168.7.1/16 dev eth0",
    "addr add fd00::1/64 dev eth0",
    "addr add 10.7.7.7/32 dev lo",
    "route add default via 192.168.7.2",
    "route add 10.9.0.0/16 via 192.168.7.3 dev eth0",
    "route add 10.8.0.0/16 dev eth1",
    "addr add 172.16.0.1/24 dev eth1",
    "dhcp off dev eth1",
    "link set dev eth1 down",
];

#[test]
fn all_of_it_goes_on_whatever_the_order_of_drivers() {
    let (mut first, mut none) = (stack(), Kept::default());
    assert_eq!(come(&mut first, &mut none, "virtio-net"), "eth0");
    assert_eq!(come(&mut first, &mut none, "e1000"), "eth1");
    for line in LINES {
        configure(&mut first, line).unwrap();
    }
    let text = first.configuration();
    for order in [["virtio-net", "e1000"], ["e1000", "virtio-net"]] {
        let (mut next, mut kept) = (stack(), Kept::read(&text).unwrap());
        kept.take_up(&mut next).unwrap();
        for driver in order {
            // One that is new in between takes no name of theirs.
            assert!(kept.name_for("other", &next) != kept.name_for(driver, &next));
            come(&mut next, &mut kept, driver);
            // What is not there yet is kept all the same.
            let again = Kept::read(&(next.configuration() + &kept.text())).unwrap();
            assert_eq!(again.name_for("virtio-net", &stack()), "eth0");
            assert_eq!(again.name_for("e1000", &stack()), "eth1");
        }
        let sorted = |stack: &mut Stack| {
            let text = seen(stack);
            let mut lines: Vec<String> = text.lines().map(String::from).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&mut next), sorted(&mut first));
        assert_eq!(kept, Kept::default());
    }
}

#[test]
fn a_lease_holds_until_it_is_confirmed() {
    let text = "dns set 10.0.2.3\ninterface eth0 virtio-net\ndhcp on dev eth0\n\
                lease 10.0.2.15/24 via 10.0.2.2 dev eth0 dns 10.0.2.4 10.0.2.5\n";
    let (mut stack, mut kept) = (stack(), Kept::read(text).unwrap());
    kept.take_up(&mut stack).unwrap();
    come(&mut stack, &mut kept, "virtio-net");
    assert!(!stack.net.is_configuring());
    for at in 2..20_000 {
        stack.turn(Instant::from_millis(at));
    }
    let seen = seen(&mut stack);
    assert!(seen.contains("eth0\t10.0.2.15/24\tdhcp\n"), "{seen}");
    assert!(seen.contains("0.0.0.0/0\t10.0.2.2\teth0\n"), "{seen}");
    assert_eq!(stack.configuration(), text);
}

#[test]
fn nonsense_is_an_error() {
    for text in
        ["interface eth0\n", "interface a b\ninterface a c\n", "interface a b\ninterface c b\n"]
    {
        assert_eq!(Kept::read(text), Err(Error::BadMessage), "{text}");
    }
    let mut stack = stack();
    for line in
        ["lease", "lease 1.2.3.4/24", "lease 1.2.3.4/24 dev eth7", "lease x dev lo", "nothing"]
    {
        let mut kept = Kept::read(line).unwrap();
        assert!(kept.take_up(&mut stack).is_err(), "{line}");
    }
}

proptest! {
    /// Any lines that are taken come back the same.
    #[test]
    fn any_configuration_comes_back(picks in prop::collection::vec(0..LINES.len(), 0..30)) {
        let (mut first, mut none) = (stack(), Kept::default());
        come(&mut first, &mut none, "virtio-net");
        come(&mut first, &mut none, "e1000");
        for at in picks {
            let _ = configure(&mut first, LINES[at]);
        }
        let text = first.configuration();
        let (mut next, mut kept) = (stack(), Kept::read(&text).unwrap());
        prop_assert_eq!(kept.take_up(&mut next), Ok(()));
        come(&mut next, &mut kept, "virtio-net");
        come(&mut next, &mut kept, "e1000");
        prop_assert_eq!(next.configuration(), text);
    }

    #[test]
    fn any_text_is_survived(text in "(interface|lease|dhcp|[a-z0-9./: \n]){0,80}") {
        if let Ok(mut kept) = Kept::read(&text) {
            let mut stack = stack();
            let _ = kept.take_up(&mut stack);
            let name = kept.name_for("x", &stack);
            prop_assert!(!name.is_empty());
            kept.text();
        }
    }
}
