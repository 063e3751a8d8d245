//! `--net`: a network device as text.
//!
//! `KIND[,OPTION]...` with KIND one of `user`, `tap=NAME`, `passt=SOCKET`, `hub=NAME`, `none`. A
//! comma in a path is written twice.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use xinim_machine::net::{NetBackend, NetModel, NetSpec, Publish, Shape, UserNet, default_mac};

use crate::disk_spec::split_commas;
use crate::spec::{ValueError, bad};

/// Devices on the one PCI bus beside the others.
pub const NETS_MAX: usize = 8;
const QUEUES_MAX: u16 = 8;
const DNS_PORT: u16 = 53;
const PUBLISH_MAX: usize = 64;
const DELAY_MAX: Duration = Duration::from_secs(60);

/// A device; its address is given later when the text has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    spec: NetSpec,
    mac: Option<[u8; 6]>,
}

impl Net {
    /// The `index`th device of a machine.
    pub fn finish(self, index: usize) -> NetSpec {
        NetSpec { mac: self.mac.unwrap_or(default_mac(index as u8)), ..self.spec }
    }

    /// A user network with nothing special about it.
    pub fn user() -> Self {
        Self::of(NetBackend::User(UserNet::default()))
    }

    pub fn is_user(&self) -> bool {
        matches!(self.spec.backend, NetBackend::User(_))
    }

    /// One port more; for a user network.
    pub fn publish(&mut self, port: PublishedPort) -> Result<(), ValueError> {
        let NetBackend::User(user) = &mut self.spec.backend else {
            return bad("is for user networks only");
        };
        if user.publish.len() >= PUBLISH_MAX {
            return bad(format!("more than {PUBLISH_MAX} ports"));
        }
        user.publish.push(port.0);
        Ok(())
    }

    fn of(backend: NetBackend) -> Self {
        let spec = NetSpec {
            backend,
            model: NetModel::default(),
            mac: default_mac(0),
            link: true,
            queues: QUEUES_MAX,
            pcap: None,
            shape: Shape::default(),
        };
        Self { spec, mac: None }
    }

    /// Files named in it, for a configuration file whose paths count from its own place.
    pub fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let socket = match &mut self.spec.backend {
            NetBackend::Passt(path) => Some(path),
            _ => None,
        };
        socket.into_iter().chain(self.spec.pcap.as_mut())
    }
}

/// A port of the host that leads into the guest, `[tcp:|udp:][ADDRESS:]HOST:GUEST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedPort(Publish);

impl FromStr for PublishedPort {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        publish(text).map(Self)
    }
}

impl FromStr for Net {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut parts = split_commas(text).into_iter();
        let kind = parts.next().unwrap_or_default();
        let backend = match kind.split_once('=') {
            None if kind == "user" => NetBackend::User(UserNet::default()),
            None if kind == "none" => NetBackend::None,
            Some(("tap" | "passt" | "hub", "")) => return bad(format!("`{kind}` names nothing")),
            Some(("tap", name)) => NetBackend::Tap(name.into()),
            Some(("passt", path)) => NetBackend::Passt(path.into()),
            Some(("hub", name)) => NetBackend::Hub(name.into()),
            _ => {
                return bad(format!(
                    "begins with `{kind}`, which is none of user, tap=NAME, passt=SOCKET, \
                     hub=NAME, none"
                ));
            }
        };
        let mut net = Net::of(backend);
        for part in parts {
            net.option(&part)?;
        }
        Ok(net)
    }
}

impl Net {
    fn option(&mut self, part: &str) -> Result<(), ValueError> {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let spec = &mut self.spec;
        let shape = &mut spec.shape;
        match key {
            "model" => spec.model = model(value)?,
            "mac" => self.mac = Some(mac(value)?),
            "link" => {
                spec.link = match value {
                    "up" => true,
                    "down" => false,
                    _ => return bad("has a link that is neither up nor down"),
                }
            }
            "queues" => match value.parse() {
                Ok(queues @ 1..=QUEUES_MAX) => spec.queues = queues,
                _ => return bad(format!("has queues that are no number from 1 to {QUEUES_MAX}")),
            },
            "pcap" if !value.is_empty() => spec.pcap = Some(value.into()),
            "rate" => shape.rate = Some(rate(value)?),
            "loss" => shape.loss = chance(value)?,
            "duplicate" => shape.duplicate = chance(value)?,
            "reorder" => shape.reorder = chance(value)?,
            "delay" => shape.delay = delay(value)?,
            "jitter" => shape.jitter = delay(value)?,
            "seed" => match value.parse() {
                Ok(seed) => shape.seed = seed,
                Err(_) => return bad("has a seed that is no number"),
            },
            _ => return self.user_option(key, value, part),
        }
        Ok(())
    }

    fn user_option(&mut self, key: &str, value: &str, part: &str) -> Result<(), ValueError> {
        let known = matches!(key, "publish" | "host-loopback" | "restrict" | "dns");
        let NetBackend::User(user) = &mut self.spec.backend else {
            return bad(match known {
                true => format!("has `{key}`, which is for user only"),
                false => format!("has an unknown part `{part}`"),
            });
        };
        match (key, value) {
            ("publish", _) if user.publish.len() < PUBLISH_MAX => {
                user.publish.push(publish(value)?);
            }
            ("host-loopback", "") => user.host_loopback = true,
            ("restrict", "") => user.restrict = true,
            ("dns", _) => user.dns = Some(dns(value)?),
            _ => return bad(format!("has an unknown part `{part}`")),
        }
        Ok(())
    }
}

fn model(text: &str) -> Result<NetModel, ValueError> {
    Ok(match text {
        "virtio" => NetModel::Virtio,
        "e1000" => NetModel::E1000,
        "e1000-82545em" => NetModel::E1000_82545em,
        "e1000e" => NetModel::E1000e,
        _ => {
            return bad(format!(
                "has a model `{text}`, which is none of virtio, e1000, e1000-82545em, e1000e"
            ));
        }
    })
}

fn mac(text: &str) -> Result<[u8; 6], ValueError> {
    let parts: Vec<_> = text.split(':').map(|part| u8::from_str_radix(part, 16)).collect();
    let bytes: Result<Vec<u8>, _> = parts.into_iter().collect();
    match bytes.ok().and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()) {
        Some(mac) if mac[0] & 1 != 0 => bad(format!("has the address {text}, which is a group's")),
        Some([0, 0, 0, 0, 0, 0]) | None => {
            bad(format!("has an address `{text}` that does not read like 52:54:00:12:34:56"))
        }
        Some(mac) => Ok(mac),
    }
}

/// `[tcp:|udp:][ADDRESS:]HOST:GUEST`.
fn publish(text: &str) -> Result<Publish, ValueError> {
    let (udp, rest) = match text.split_once(':') {
        Some(("udp", rest)) => (true, rest),
        Some(("tcp", rest)) => (false, rest),
        _ => (false, text),
    };
    let parsed = (|| {
        let (host, guest) = rest.rsplit_once(':')?;
        let (address, port) = match host.rsplit_once(':') {
            Some((address, port)) => {
                let address = address.trim_start_matches('[').trim_end_matches(']');
                (address.parse::<IpAddr>().ok()?, port)
            }
            // Not to be reached from other hosts unless somebody says so.
            None => (IpAddr::V4(Ipv4Addr::LOCALHOST), host),
        };
        let guest = guest.parse::<u16>().ok().filter(|port| *port != 0)?;
        Some(Publish { udp, host: SocketAddr::new(address, port.parse().ok()?), guest })
    })();
    match parsed {
        Some(publish) => Ok(publish),
        None => bad(format!(
            "publishes `{text}`, which does not read [tcp:|udp:][ADDRESS:]HOSTPORT:GUESTPORT"
        )),
    }
}

fn dns(text: &str) -> Result<SocketAddrV4, ValueError> {
    let address = text.parse::<SocketAddrV4>();
    let address =
        address.or_else(|_| text.parse::<Ipv4Addr>().map(|ip| SocketAddrV4::new(ip, DNS_PORT)));
    match address {
        Ok(address) => Ok(address),
        Err(_) => bad(format!("has a name server `{text}` that is no IPv4 address[:port]")),
    }
}

/// Bits a second: `10M`, `1G`, `64k`.
fn rate(text: &str) -> Result<u64, ValueError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "" => Some(1),
        "k" | "K" => Some(1_000),
        "M" => Some(1_000_000),
        "G" => Some(1_000_000_000),
        _ => None,
    };
    let number = number.parse::<u64>().ok();
    match number.zip(scale).and_then(|(number, scale)| number.checked_mul(scale)) {
        Some(rate) if rate > 0 => Ok(rate),
        _ => bad(format!("has a rate `{text}` that does not read like 10M (bits a second)")),
    }
}

/// `1%`, `0.01%`, in millionths.
fn chance(text: &str) -> Result<u32, ValueError> {
    let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    match percent {
        Some(percent) if (0.0..=100.0).contains(&percent) => {
            Ok((percent * 10_000.0).round() as u32)
        }
        _ => bad(format!("has a chance `{text}` that does not read like 0.5%")),
    }
}

/// `5ms`, `200us`, `1s`.
fn delay(text: &str) -> Result<Duration, ValueError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let micros = match unit {
        "us" => Some(1),
        "ms" => Some(1_000),
        "s" => Some(1_000_000),
        _ => None,
    };
    let number = number.parse::<u64>().ok();
    let time = number.zip(micros).and_then(|(number, micros)| number.checked_mul(micros));
    match time.map(Duration::from_micros) {
        Some(time) if time <= DELAY_MAX => Ok(time),
        _ => bad(format!("has a time `{text}` that does not read like 5ms, or is over 60s")),
    }
}

#[cfg(test)]
#[path = "net_spec_tests.rs"]
mod tests;
