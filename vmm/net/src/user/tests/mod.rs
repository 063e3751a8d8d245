//! A guest with a TCP/IP stack of its own (smoltcp) on the gateway's network, and real sockets of
//! the host on the other side.

mod carry;
mod hostile;
mod ipv6;

use super::*;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::socket::{dhcpv4, icmp, tcp, udp};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex};
use xinim_devices::net::Port;

const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// For a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway that the test can look into while a port has it.
#[derive(Clone)]
struct Shared(Arc<Mutex<Gateway>>);

impl NetBackend for Shared {
    fn send(&mut self, frame: &Frame) -> Sent {
        self.0.lock().unwrap().send(frame)
    }
    fn receive(&mut self, frame: &mut Frame) -> bool {
        self.0.lock().unwrap().receive(frame)
    }
    fn offloads(&self) -> Offloads {
        self.0.lock().unwrap().offloads()
    }
    fn accept(&mut self, offloads: Offloads) {
        self.0.lock().unwrap().accept(offloads);
    }
}

struct Card {
    port: Port,
    /// Frames received with segmentation left to the guest.
    large: usize,
}

struct Sending<'a>(&'a mut Port);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut data = vec![0; len];
        let result = f(&mut data);
        self.0.send(Frame::plain(data));
        result
    }
    fn set_meta(&mut self, _meta: PacketMeta) {}
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: StackInstant) -> Option<(Received, Sending<'_>)> {
        let mut frame = self.port.receive()?;
        if frame.header.gso_type != 0 {
            self.large += 1;
        }
        if frame.header.flags & 1 != 0 {
            offload::complete(&mut frame);
        }
        Some((Received(frame.data), Sending(&mut self.port)))
    }

    fn transmit(&mut self, _now: StackInstant) -> Option<Sending<'_>> {
        self.port.ready().then_some(Sending(&mut self.port))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

struct Guest {
    gateway: Shared,
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    start: Instant,
}

impl Guest {
    fn new(options: UserNet) -> Self {
        let mut guest = Self::without_address(options);
        guest.interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(IpAddress::Ipv4(user::GUEST), user::PREFIX)).unwrap();
        });
        guest.interface.routes_mut().add_default_ipv4_route(user::GATEWAY).unwrap();
        guest
    }

    fn without_address(options: UserNet) -> Self {
        let gateway = Shared(Arc::new(Mutex::new(Gateway::open(&options, GUEST_MAC).unwrap())));
        let mut card = Card { port: Port::new(Box::new(gateway.clone())), large: 0 };
        let hardware = HardwareAddress::Ethernet(EthernetAddress(GUEST_MAC));
        let interface = Interface::new(Config::new(hardware), &mut card, StackInstant::ZERO);
        let sockets = SocketSet::new(Vec::new());
        Self { gateway, card, interface, sockets, start: Instant::now() }
    }

    fn poll(&mut self) {
        let now = StackInstant::from_micros(self.start.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.card, &mut self.sockets);
    }

    /// Runs both sides until `done` gives something.
    fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            self.poll();
            if let Some(result) = done(self) {
                return result;
            }
            assert!(Instant::now() < end, "waited too long for {what}");
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 65_536]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    fn connect(&mut self, to: impl Into<IpEndpoint>, port: u16) -> SocketHandle {
        let handle = self.tcp();
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        socket.connect(self.interface.context(), to.into(), port).unwrap();
        handle
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn udp(&mut self, port: u16) -> SocketHandle {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 16_384]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).unwrap();
        self.sockets.add(socket)
    }

    fn ask(&mut self, handle: SocketHandle, to: impl Into<IpEndpoint>, data: &[u8]) {
        let socket = self.sockets.get_mut::<udp::Socket>(handle);
        socket.send_slice(data, to.into()).unwrap();
    }

    fn answer(&mut self, handle: SocketHandle) -> (Vec<u8>, u16) {
        self.until("a datagram", |guest| {
            let socket = guest.sockets.get_mut::<udp::Socket>(handle);
            let (data, from) = socket.recv().ok()?;
            Some((data.to_vec(), from.endpoint.port))
        })
    }

    /// Waits for a thread of the host's side, which may need the network meanwhile.
    fn join<T>(&mut self, thread: std::thread::JoinHandle<T>) -> T {
        self.until("the host", |_| thread.is_finished().then_some(()));
        thread.join().unwrap()
    }

    fn flows(&self) -> (usize, usize) {
        self.gateway.0.lock().unwrap().flows()
    }

    fn published(&self) -> Vec<u16> {
        self.gateway.0.lock().unwrap().published()
    }
}

fn loopback() -> UserNet {
    UserNet { host_loopback: true, ..UserNet::default() }
}

#[test]
fn dhcp_gives_the_address_and_all_that_belongs_to_it() {
    let mut guest = Guest::without_address(UserNet::default());
    let handle = guest.sockets.add(dhcpv4::Socket::new());
    let config = guest.until("a lease", |guest| {
        match guest.sockets.get_mut::<dhcpv4::Socket>(handle).poll() {
            Some(dhcpv4::Event::Configured(config)) => {
                Some((config.address, config.router, config.dns_servers.to_vec()))
            }
            _ => None,
        }
    });
    assert_eq!(config.0.to_string(), "10.0.2.15/24");
    assert_eq!((config.1, config.2), (Some(user::GATEWAY), vec![user::DNS]));
}

#[test]
fn the_gateway_answers_ping() {
    let mut guest = Guest::new(UserNet::default());
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 8192]);
    let mut socket = icmp::Socket::new(buffer(), buffer());
    socket.bind(icmp::Endpoint::Ident(7)).unwrap();
    let handle = guest.sockets.add(socket);
    for address in [user::GATEWAY, user::DNS] {
        let request =
            smoltcp::wire::Icmpv4Repr::EchoRequest { ident: 7, seq_no: 1, data: &[0xA5; 1000] };
        let mut message = vec![0; request.buffer_len()];
        request.emit(
            &mut smoltcp::wire::Icmpv4Packet::new_unchecked(&mut message),
            &Default::default(),
        );
        let socket = guest.sockets.get_mut::<icmp::Socket>(handle);
        socket.send_slice(&message, address.into()).unwrap();
        let (reply, from) = guest.until("an echo", |guest| {
            let socket = guest.sockets.get_mut::<icmp::Socket>(handle);
            socket.recv().ok().map(|(data, from)| (data.to_vec(), from))
        });
        assert_eq!((reply[0], &reply[8..], from), (0, &[0xA5; 1000][..], address.into()));
    }
}
