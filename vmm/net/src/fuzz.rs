//! Harness for a hostile guest in front of the user network: an ordinary function, so that the
//! coverage-guided target (`vmm/fuzz`) and the seeded test run the same.

use std::net::{Ipv4Addr, SocketAddrV4};

use xinim_devices::net::checksum::checksum;
use xinim_devices::net::packet::set_word;
use xinim_devices::net::{Frame, NetBackend, Offloads};
use xinim_machine::net::{UserNet, user};

use crate::user::Gateway;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Frames made of one input at most.
const FRAMES: usize = 64;

/// Sends what `data` says: frames of any bytes, and such with sound headers around them. Nothing
/// outside this host is asked.
pub fn gateway(data: &[u8]) {
    // A port of this host on which nobody listens stands for the name server.
    let nobody = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
    let options = UserNet { restrict: true, dns: Some(nobody), ..UserNet::default() };
    let Ok(mut gateway) = Gateway::open(&options, MAC) else { return };
    gateway.accept(if data.first().is_some_and(|b| b & 1 != 0) {
        Offloads::all()
    } else {
        Offloads::empty()
    });
    let mut rest = data.get(1..).unwrap_or(&[]);
    for _ in 0..FRAMES {
        let Some((&[kind, length], behind)) = rest.split_first_chunk::<2>() else { break };
        let (content, behind) = behind.split_at(behind.len().min(usize::from(length)));
        rest = behind;
        let frame = match kind % 8 {
            0 => content.to_vec(),
            1 => ethernet(0x0806, content),
            2 => ethernet(0x0800, content),
            kind => {
                let protocol = [6, 17, 1, 6, 17][usize::from(kind - 3)];
                let to = if content.len() % 2 == 0 { user::GATEWAY } else { user::DNS };
                ethernet(0x0800, &ipv4(to, protocol, content))
            }
        };
        let mut frame = Frame::plain(frame);
        if kind & 0x80 != 0 {
            frame.header.flags = 1;
            frame.header.gso_type = kind >> 3 & 3;
            frame.header.gso_size = u16::from(length);
            frame.header.csum_start = 34;
            frame.header.csum_offset = 16;
        }
        gateway.send(&frame);
        let mut answer = Frame::default();
        for _ in 0..FRAMES {
            if !gateway.receive(&mut answer) {
                break;
            }
            assert!(answer.data.len() <= xinim_devices::net::MAX_FRAME);
        }
    }
    let (tcp, udp) = gateway.flows();
    assert!(udp <= FRAMES && tcp <= FRAMES, "more flows than frames: {tcp} {udp}");
}

fn ethernet(protocol: u16, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xFF; 6];
    frame.extend(MAC);
    frame.extend(protocol.to_be_bytes());
    frame.extend_from_slice(content);
    frame
}

fn ipv4(to: Ipv4Addr, protocol: u8, content: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend(user::GUEST.octets());
    packet.extend(to.octets());
    packet.extend_from_slice(content);
    let length = packet.len() as u16;
    set_word(&mut packet, 2, length);
    let sum = checksum(&packet[..20]);
    set_word(&mut packet, 10, sum);
    packet
}

/// A TCP segment that opens a connection.
pub fn opening(to: SocketAddrV4, from_port: u16) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from_port.to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0]);
    ethernet(0x0800, &ipv4(*to.ip(), 6, &segment))
}

/// A ping of the gateway.
pub fn echo_request(length: usize) -> Vec<u8> {
    let mut message = vec![0; 8 + length];
    message[0] = 8;
    let sum = checksum(&message);
    set_word(&mut message, 2, sum);
    ethernet(0x0800, &ipv4(user::GATEWAY, 1, &message))
}
