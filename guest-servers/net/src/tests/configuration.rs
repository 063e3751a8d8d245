//! Lines of configuration and the text that tells of it.

use xinim_abi::error::Error;
use xinim_abi::services::socket::query;

use super::wire::{Weather, World};
use crate::configure::configure;

#[test]
fn addresses_and_routes() {
    let mut w = World::new(Weather::default());
    let s = &mut w.a;
    let mut set = |line: &str| configure(s, line);
    assert_eq!(set("addr add 192.168.7.1/16 dev eth0"), Ok(()));
    assert_eq!(set("addr add 192.168.7.1/16 dev eth0"), Err(Error::Exist));
    assert_eq!(set("addr add fd00::1/64 dev eth0"), Ok(()));
    assert_eq!(set("addr add 224.0.0.1/4 dev eth0"), Err(Error::Inval));
    assert_eq!(set("addr add 0.0.0.0/0 dev eth0"), Err(Error::Inval));
    assert_eq!(set("addr add 1.2.3.4/33 dev eth0"), Err(Error::Inval));
    assert_eq!(set("addr add 1.2.3.4/24 dev eth9"), Err(Error::NoDev));
    assert_eq!(set("addr del 9.9.9.9 dev eth0"), Err(Error::AddrNotAvail));
    assert_eq!(set("route add default via 10.0.0.2"), Ok(()));
    assert_eq!(set("route add 10.9.0.0/16 via 10.0.0.7 dev eth0"), Ok(()));
    assert_eq!(set("route add 10.9.0.0/16 via fe80::1 dev eth0"), Err(Error::Inval));
    assert_eq!(set("route add default via 172.16.0.1"), Err(Error::NetUnreach));
    assert_eq!(set("route add default"), Err(Error::Inval));
    assert_eq!(set("route del 10.8.0.0/16"), Err(Error::Srch));
    assert_eq!(set("dns set 10.0.0.2 fd00::9"), Ok(()));
    for line in
        ["", "addr", "addr add", "link set dev eth0 sideways", "dns set nowhere", "route add x via"]
    {
        assert_eq!(set(line), Err(Error::Inval), "{line}");
    }
    let addresses = s.query(query::ADDRESSES).unwrap();
    assert!(addresses.contains("eth0\t192.168.7.1/16\tstatic\n"), "{addresses}");
    assert!(addresses.contains("lo\t127.0.0.1/8\thost\n"));
    let routes = s.query(query::ROUTES).unwrap();
    assert!(routes.contains("0.0.0.0/0\t10.0.0.2\teth0\n"), "{routes}");
    assert_eq!(s.query(query::RESOLVERS).unwrap(), "10.0.0.2\nfd00::9\n");
    assert!(s.query(query::LINKS).unwrap().contains("eth0\tup\t02:00:00:00:00:01\t1500"));
    assert_eq!(s.query(99), Err(Error::Inval));
    assert_eq!(configure(s, "addr flush dev eth0"), Ok(()));
    assert_eq!(configure(s, "link set dev eth0 down"), Ok(()));
    assert!(s.query(query::LINKS).unwrap().contains("eth0\tdown"));
}

#[test]
fn any_line_is_survived() {
    use proptest::prelude::*;
    let words = prop::sample::select(alloc::vec![
        "addr",
        "add",
        "del",
        "dev",
        "eth0",
        "lo",
        "route",
        "default",
        "via",
        "10.0.0.9",
        "::1/128",
        "link",
        "set",
        "up",
        "down",
        "dhcp",
        "on",
        "off",
        "dns",
        "flush",
        "255.255.255.255/32",
        "fe80::/10",
    ]);
    proptest!(ProptestConfig::with_cases(300), |(line in prop::collection::vec(words, 0..8))| {
        let mut w = World::new(Weather::default());
        let _ = configure(&mut w.a, &line.join(" "));
        w.run(5);
    });
}
