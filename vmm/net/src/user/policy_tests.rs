use super::*;

fn policy(change: fn(&mut UserNet)) -> Policy {
    let mut options = UserNet { dns: Some("192.0.2.53:53".parse().unwrap()), ..UserNet::default() };
    change(&mut options);
    Policy::new(&options)
}

fn target(policy: &Policy, to: &str) -> Option<String> {
    policy.target(to.parse().unwrap()).map(|to| to.to_string())
}

#[test]
fn the_host_itself_is_out_of_reach_unless_asked_for() {
    let plain = policy(|_| ());
    for to in [
        "10.0.2.2:22",
        "10.0.2.3:22",
        "10.0.2.77:80",
        "127.0.0.1:80",
        "127.8.8.8:80",
        "0.0.0.0:80",
        "0.1.2.3:80",
        "169.254.169.254:80",
        "224.0.0.251:5353",
        "255.255.255.255:67",
        "240.0.0.1:80",
        "192.0.2.1:0",
    ] {
        assert_eq!(target(&plain, to), None, "{to}");
    }
    assert_eq!(target(&plain, "192.0.2.1:80").as_deref(), Some("192.0.2.1:80"));
    assert_eq!(target(&plain, "10.0.3.1:80").as_deref(), Some("10.0.3.1:80"));
    let open = policy(|options| options.host_loopback = true);
    assert_eq!(target(&open, "10.0.2.2:22").as_deref(), Some("127.0.0.1:22"));
    assert_eq!(target(&open, "127.0.0.1:22"), None, "only by the gateway's address");
}

#[test]
fn name_service_goes_to_the_name_server() {
    assert_eq!(target(&policy(|_| ()), "10.0.2.3:53").as_deref(), Some("192.0.2.53:53"));
    let restricted = policy(|options| options.restrict = true);
    assert_eq!(target(&restricted, "192.0.2.1:80"), None);
    assert!(!restricted.may_ping(Ipv4Addr::new(192, 0, 2, 1).into()));
    assert_eq!(target(&restricted, "10.0.2.3:53").as_deref(), Some("192.0.2.53:53"));
}

#[test]
fn the_first_server_that_can_be_reached_is_found() {
    let text = "# nameserver 1.1.1.1\nsearch lan\nnameserver fe80::1\nnameserver 9.9.9.9\n";
    assert_eq!(first_server(text), Some(Ipv4Addr::new(9, 9, 9, 9).into()));
    assert_eq!(first_server("nameserver 2001:db8::1\n"), "2001:db8::1".parse().ok());
    assert_eq!(first_server("nameserver\n"), None);
}

#[test]
fn only_the_guest_may_speak_for_itself() {
    assert!(is_guest(Ipv4Addr::new(10, 0, 2, 15).into()));
    for address in [[10, 0, 2, 2], [10, 0, 2, 3], [10, 0, 2, 255], [192, 168, 0, 1]] {
        assert!(!is_guest(Ipv4Addr::from(address).into()), "{address:?}");
    }
}

#[test]
fn ipv6_follows_the_same_rules() {
    let plain = policy(|_| ());
    for to in [
        "[fd58:494e:494d::2]:22",
        "[fd58:494e:494d::3]:22",
        "[fd58:494e:494d::77]:80",
        "[::1]:80",
        "[::]:80",
        "[::ffff:127.0.0.1]:80",
        "[::ffff:169.254.169.254]:80",
        "[::127.0.0.1]:80",
        "[64:ff9b::7f00:1]:80",
        "[64:ff9b::a9fe:a9fe]:80",
        "[2002:7f00:1::1]:80",
        "[fd00:ec2::254]:80",
        "[fd20:ce::254]:80",
        "[fe80::1]:80",
        "[fec0::1]:80",
        "[ff02::fb]:5353",
        "[2001:db8::1]:0",
    ] {
        assert_eq!(target(&plain, to), None, "{to}");
    }
    for to in ["[2001:db8::1]:80", "[fd00::1]:80", "[64:ff9b::c000:201]:80"] {
        assert_eq!(target(&plain, to).as_deref(), Some(to));
    }
    assert_eq!(target(&plain, "[fd58:494e:494d::3]:53").as_deref(), Some("192.0.2.53:53"));
    let open = policy(|options| options.host_loopback = true);
    assert_eq!(target(&open, "[fd58:494e:494d::2]:22").as_deref(), Some("[::1]:22"));
    assert_eq!(target(&open, "[::1]:22"), None, "only by the gateway's address");
    let restricted = policy(|options| options.restrict = true);
    assert_eq!(target(&restricted, "[2001:db8::1]:80"), None);
    for (address, may) in [
        ("fd58:494e:494d::15", true),
        ("fe80::1", true),
        ("fd58:494e:494d::2", false),
        ("fe80::5055:aff:fe00:202", false),
        ("2001:db8::1", false),
        ("::", false),
    ] {
        assert_eq!(is_guest(address.parse().unwrap()), may, "{address}");
    }
}
