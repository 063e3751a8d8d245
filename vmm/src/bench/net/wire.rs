//! What is between guest and host: a user network, or a TAP device made for the measurement.

use std::net::SocketAddr;
use std::process::Command;

/// A network with nothing else in it.
const HOST: [u8; 4] = [10, 79, 77, 1];
const GUEST: [u8; 4] = [10, 79, 77, 2];

/// A TAP device of this process's own; it goes with it.
#[derive(Debug)]
pub struct Tap {
    name: String,
}

impl Tap {
    /// The error is a sentence: why there is none.
    pub fn make() -> Result<Self, String> {
        // Interface names have 15 bytes.
        let tap = Self { name: format!("xbench{}", std::process::id()) };
        let address = format!("{}/24", text(HOST));
        for words in [
            &["tuntap", "add", &tap.name, "mode", "tap"][..],
            &["address", "add", &address, "dev", &tap.name],
            &["link", "set", &tap.name, "up"],
        ] {
            let output = Command::new("ip").args(words).output();
            let output = output.map_err(|e| format!("ip (iproute2) does not start: {e}"))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                let said = said.lines().next().unwrap_or("no message").to_owned();
                return Err(format!("no TAP device can be made: ip {}: {said}", words.join(" ")));
            }
        }
        Ok(tap)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.name]).output();
    }
}

/// A back end.
#[derive(Debug)]
pub enum Wire<'a> {
    User,
    Tap(&'a Tap),
}

impl Wire<'_> {
    /// Value of `--net`.
    pub fn option(&self, model: &str, published: u16) -> String {
        match self {
            Wire::User => format!("user,host-loopback,publish={published}:80,model={model}"),
            Wire::Tap(tap) => format!("tap={},model={model}", tap.name),
        }
    }

    /// The host as the guest sees it.
    pub fn host(&self) -> String {
        match self {
            Wire::User => "10.0.2.2".into(),
            Wire::Tap(_) => text(HOST),
        }
    }

    /// The guest's server as the host sees it.
    pub fn server(&self, published: u16) -> SocketAddr {
        match self {
            Wire::User => ([127, 0, 0, 1], published).into(),
            Wire::Tap(_) => (GUEST, 80).into(),
        }
    }

    /// Commands that give the guest its address.
    pub fn guest_setup(&self) -> String {
        match self {
            Wire::User => String::new(),
            Wire::Tap(_) => {
                format!("ip dhcp off dev eth0; ip addr add {}/24 dev eth0\n", text(GUEST))
            }
        }
    }
}

fn text([a, b, c, d]: [u8; 4]) -> String {
    format!("{a}.{b}.{c}.{d}")
}
