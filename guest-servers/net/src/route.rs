//! Routes: destination networks, gateways, interfaces. Look-up is by the longest prefix.

use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, IpCidr};
use xinim_abi::error::{Error, Result};

/// Routes one table holds.
pub const ROUTES_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub destination: IpCidr,
    /// `None`: the destination is on the link.
    pub gateway: Option<IpAddress>,
    /// Position of the interface.
    pub interface: usize,
}

#[derive(Debug, Default)]
pub struct Routes {
    list: Vec<Route>,
}

impl Routes {
    /// Replaces a route to the same network over the same interface. `Limit`: the table is full.
    pub fn add(&mut self, route: Route) -> Result<()> {
        if let Some(gateway) = route.gateway
            && gateway.version() != route.destination.address().version()
        {
            return Err(Error::Inval);
        }
        let same =
            |old: &Route| old.destination == route.destination && old.interface == route.interface;
        if let Some(old) = self.list.iter_mut().find(|old| same(old)) {
            *old = route;
            return Ok(());
        }
        if self.list.len() >= ROUTES_MAX {
            return Err(Error::Limit);
        }
        self.list.push(route);
        Ok(())
    }

    /// `Srch`: there is no such route.
    pub fn remove(&mut self, destination: IpCidr, interface: Option<usize>) -> Result<()> {
        let at = self
            .list
            .iter()
            .position(|route| {
                route.destination == destination && interface.is_none_or(|i| i == route.interface)
            })
            .ok_or(Error::Srch)?;
        self.list.remove(at);
        Ok(())
    }

    /// Takes away what `keep` does not want.
    pub fn retain(&mut self, keep: impl Fn(&Route) -> bool) {
        self.list.retain(keep);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.list.iter()
    }

    /// The route with the longest prefix among those whose interface is `usable`.
    pub fn find(&self, destination: &IpAddress, usable: impl Fn(usize) -> bool) -> Option<Route> {
        self.list
            .iter()
            .filter(|route| usable(route.interface) && contains(&route.destination, destination))
            .max_by_key(|route| route.destination.prefix_len())
            .copied()
    }
}

/// Is `address` in `network`? Never across families.
pub fn contains(network: &IpCidr, address: &IpAddress) -> bool {
    network.address().version() == address.version() && network.contains_addr(address)
}
