//! The control queue (5.1.6.5): each command is answered with OK or ERR.

use super::{BATCH, Net};
use crate::virtio::chain::Cursor;
use crate::virtio::{Context, Progress, Queue, RingError};
use xinim_abi::hw::virtio_net::{control as command, feature};

/// Addresses read from one table at most: more than that count as *all*.
const ADDRESSES_MAX: u32 = 1024;

impl Net {
    pub(super) fn control(
        &mut self,
        queue: &mut Queue,
        context: &Context<'_>,
    ) -> Result<Progress, RingError> {
        for _ in 0..BATCH {
            let chain = match queue.pop(context)? {
                Some(chain) => chain,
                None if queue.rearm(context)? => continue,
                None => return Ok(Progress::Idle),
            };
            let mut answer = chain.writable();
            if answer.is_empty() {
                return Err(RingError::Malformed);
            }
            let mut input = chain.readable();
            let done = self.command(&mut input, context)?;
            let status = if done.is_some() { command::OK } else { command::ERR };
            answer.write(context, &[status])?;
            queue.push(context, chain.head, 1)?;
        }
        Ok(Progress::More)
    }

    /// `None`: not a command we know, or not one for what was negotiated.
    fn command(
        &mut self,
        input: &mut Cursor<'_>,
        context: &Context<'_>,
    ) -> Result<Option<()>, RingError> {
        let Some([class, code]) = take::<2>(input, context)? else { return Ok(None) };
        match class {
            command::CLASS_RX if self.has(feature::CTRL_RX) => {
                let Some([on]) = take::<1>(input, context)? else { return Ok(None) };
                Ok(self.set_mode(code, on != 0))
            }
            command::CLASS_MAC => self.set_addresses(code, input, context),
            command::CLASS_VLAN if self.has(feature::CTRL_VLAN) => {
                let Some(id) = take::<2>(input, context)?.map(u16::from_le_bytes) else {
                    return Ok(None);
                };
                let known = matches!(code, command::VLAN_ADD | command::VLAN_DEL);
                if !known || id > 0xFFF {
                    return Ok(None);
                }
                self.filter.set_vlan(id, code == command::VLAN_ADD);
                Ok(Some(()))
            }
            command::CLASS_ANNOUNCE
                if self.has(feature::GUEST_ANNOUNCE) && code == command::ANNOUNCE_ACK =>
            {
                self.announce = false;
                self.fill_space();
                Ok(Some(()))
            }
            command::CLASS_MQ if self.has(feature::MQ) && code == command::MQ_VQ_PAIRS_SET => {
                let pairs = take::<2>(input, context)?.map(u16::from_le_bytes);
                let Some(pairs) = pairs.filter(|n| (1..=self.setup.pairs).contains(n)) else {
                    return Ok(None);
                };
                self.active = pairs.into();
                Ok(Some(()))
            }
            command::CLASS_GUEST_OFFLOADS
                if self.has(feature::CTRL_GUEST_OFFLOADS)
                    && code == command::GUEST_OFFLOADS_SET =>
            {
                let wanted = take::<8>(input, context)?.map(u64::from_le_bytes);
                let offered = feature::GUEST_CSUM | feature::GUEST_TSO4 | feature::GUEST_TSO6;
                let Some(wanted) = wanted.filter(|w| w & !(offered & self.features) == 0) else {
                    return Ok(None);
                };
                self.port.accept(Self::guest_offloads(wanted));
                Ok(Some(()))
            }
            _ => Ok(None),
        }
    }

    fn set_mode(&mut self, code: u8, on: bool) -> Option<()> {
        let extra = self.has(feature::CTRL_RX_EXTRA);
        let modes = &mut self.filter.modes;
        let mode = match code {
            command::RX_PROMISC => &mut modes.promiscuous,
            command::RX_ALLMULTI => &mut modes.all_multicast,
            command::RX_ALLUNI if extra => &mut modes.all_unicast,
            command::RX_NOMULTI if extra => &mut modes.no_multicast,
            command::RX_NOUNI if extra => &mut modes.no_unicast,
            command::RX_NOBCAST if extra => &mut modes.no_broadcast,
            _ => return None,
        };
        *mode = on;
        Some(())
    }

    fn set_addresses(
        &mut self,
        code: u8,
        input: &mut Cursor<'_>,
        context: &Context<'_>,
    ) -> Result<Option<()>, RingError> {
        match code {
            command::MAC_TABLE_SET if self.has(feature::CTRL_RX) => {
                let Some(unicast) = table(input, context)? else { return Ok(None) };
                let Some(multicast) = table(input, context)? else { return Ok(None) };
                self.filter.set_tables(unicast, multicast);
                Ok(Some(()))
            }
            command::MAC_ADDR_SET if self.has(feature::CTRL_MAC_ADDR) => {
                let Some(mac) = take::<6>(input, context)? else { return Ok(None) };
                self.filter.set_mac(mac);
                self.fill_space();
                Ok(Some(()))
            }
            _ => Ok(None),
        }
    }
}

/// The next `N` bytes, if there are so many.
fn take<const N: usize>(
    input: &mut Cursor<'_>,
    context: &Context<'_>,
) -> Result<Option<[u8; N]>, RingError> {
    let mut bytes = [0; N];
    let got = input.read(context, &mut bytes)?;
    Ok((got == N).then_some(bytes))
}

/// A table of addresses; `None` when it is not whole.
fn table(input: &mut Cursor<'_>, context: &Context<'_>) -> Result<Option<Vec<[u8; 6]>>, RingError> {
    let Some(count) = take::<4>(input, context)?.map(u32::from_le_bytes) else { return Ok(None) };
    if u64::from(count) * 6 > input.len() {
        return Ok(None);
    }
    let mut addresses = Vec::new();
    for _ in 0..count.min(ADDRESSES_MAX) {
        let Some(address) = take::<6>(input, context)? else { return Ok(None) };
        addresses.push(address);
    }
    input.skip(6 * u64::from(count.saturating_sub(ADDRESSES_MAX)));
    Ok(Some(addresses))
}
