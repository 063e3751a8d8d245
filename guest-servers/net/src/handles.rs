//! One smoltcp socket on each interface, for sockets that are bound to none.

use alloc::vec::Vec;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::AnySocket;

use crate::common::Net;

/// Handles by interface.
#[derive(Debug, Default)]
pub struct Handles(Vec<SocketHandle>);

impl Handles {
    /// Makes a socket for each interface that has come since.
    pub fn cover<S: AnySocket<'static>>(
        &mut self,
        net: &mut Net,
        mut make: impl FnMut(usize) -> S,
    ) {
        while self.0.len() < net.interfaces.len() {
            let interface = self.0.len();
            self.0.push(net.interfaces[interface].sockets.add(make(interface)));
        }
    }

    /// Takes all sockets away.
    pub fn remove(&mut self, net: &mut Net) {
        for (interface, handle) in self.0.drain(..).enumerate() {
            net.interfaces[interface].sockets.remove(handle);
        }
    }

    pub fn get(&self, interface: usize) -> Option<SocketHandle> {
        self.0.get(interface).copied()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Interfaces and their handles.
    pub fn iter(&self) -> impl Iterator<Item = (usize, SocketHandle)> {
        self.0.iter().copied().enumerate()
    }
}
