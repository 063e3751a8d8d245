use super::*;

fn parse(text: &str) -> NetSpec {
    text.parse::<Net>().unwrap_or_else(|error| panic!("{text}: {error}")).finish(3)
}

#[test]
fn devices_are_read() {
    let plain = parse("user");
    assert_eq!((plain.model, plain.link, plain.queues), (NetModel::Virtio, true, 8));
    assert_eq!(plain.mac, [0x52, 0x54, 0, 0x58, 0x4E, 3]);
    assert!(plain.shape.is_plain());
    let full =
        parse("hub=lab,model=e1000e,mac=02:00:00:00:00:aB,link=down,queues=2,pcap=a,,b.pcapng");
    assert_eq!(full.backend, NetBackend::Hub("lab".into()));
    assert_eq!(full.model, NetModel::E1000e);
    assert_eq!(full.mac, [2, 0, 0, 0, 0, 0xAB]);
    assert_eq!((full.link, full.queues), (false, 2));
    assert_eq!(full.pcap, Some("a,b.pcapng".into()));
    assert_eq!(parse("tap=tap0,model=e1000").backend, NetBackend::Tap("tap0".into()));
    assert_eq!(parse("passt=/run/p.socket").backend, NetBackend::Passt("/run/p.socket".into()));
}

#[test]
fn the_user_network_has_its_options() {
    let net = parse(
        "user,publish=8080:80,publish=udp:0.0.0.0:5353:53,publish=[::1]:2222:22,restrict,\
         host-loopback,dns=9.9.9.9:5300",
    );
    let NetBackend::User(user) = net.backend else { panic!("not user") };
    let published: Vec<_> =
        user.publish.iter().map(|p| (p.udp, p.host.to_string(), p.guest)).collect();
    assert_eq!(
        published,
        [
            (false, "127.0.0.1:8080".to_owned(), 80),
            (true, "0.0.0.0:5353".to_owned(), 53),
            (false, "[::1]:2222".to_owned(), 22),
        ]
    );
    assert!(user.restrict && user.host_loopback);
    assert_eq!(user.dns, Some("9.9.9.9:5300".parse().unwrap()));
}

#[test]
fn links_are_shaped() {
    let shape =
        parse("none,rate=10M,loss=0.5%,duplicate=1%,reorder=100%,delay=5ms,jitter=200us,seed=7")
            .shape;
    assert_eq!(
        shape,
        Shape {
            rate: Some(10_000_000),
            loss: 5_000,
            duplicate: 10_000,
            reorder: 1_000_000,
            delay: Duration::from_millis(5),
            jitter: Duration::from_micros(200),
            seed: 7,
        }
    );
}

#[test]
fn mistakes_are_named() {
    for (text, word) in [
        ("", "none of user"),
        ("slirp", "slirp"),
        ("tap=", "names nothing"),
        ("user,model=rtl8139", "rtl8139"),
        ("user,mac=01:00:00:00:00:00", "group"),
        ("user,mac=52:54", "52:54:00:12:34:56"),
        ("user,link=maybe", "neither up nor down"),
        ("user,queues=9", "1 to 8"),
        ("user,publish=80", "publishes `80`"),
        ("user,publish=70000:80", "70000"),
        ("tap=x,publish=80:80", "for user only"),
        ("user,loss=5", "0.5%"),
        ("user,rate=fast", "10M"),
        ("user,delay=2h", "5ms"),
        ("user,seed=x", "seed"),
        ("user,bogus", "bogus"),
        ("user,dns=::1", "IPv4"),
    ] {
        let error = text.parse::<Net>().unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
}
