//! Data streams: sending for a time or an amount, receiving and counting.

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::Error;
use xinim_abi::services::vfs::poll;
use xinim_rt::fs::{self, PollFd};
use xinim_rt::net::{Socket, TRANSFER_MAX, flags};
use xinim_rt::time;

use super::{Test, Totals};

/// First bytes of a UDP packet: seconds, microseconds, number (each u32, network order).
const UDP_HEAD: usize = 12;

/// Sends on all `streams` until the test's time or amount is over.
pub fn send(test: &Test, streams: &[Socket]) -> Result<Vec<Totals>, Error> {
    send_while(test, streams, None)
}

/// As a server: until the client says so on the control connection, or for twice the test's time.
pub fn send_until(test: &Test, streams: &[Socket], control: &Socket) -> Result<Vec<Totals>, Error> {
    send_while(test, streams, Some(control))
}

fn send_while(
    test: &Test,
    streams: &[Socket],
    control: Option<&Socket>,
) -> Result<Vec<Totals>, Error> {
    let mut data = vec![0u8; test.block];
    for (at, byte) in data.iter_mut().enumerate() {
        *byte = b'0' + (at % 10) as u8;
    }
    let mut totals = vec![Totals::default(); streams.len()];
    let start = time::now_ns();
    let factor = if control.is_some() { 2 } else { 1 };
    let mut end = start.saturating_add(factor * test.seconds * 1_000_000_000);
    let mut look = start;
    let share = test.bytes.div_ceil(streams.len() as u64);
    loop {
        let now = time::now_ns();
        if let Some(control) = control
            && now >= look
        {
            look = now + 10_000_000;
            let mut byte = [0];
            if !matches!(
                control.receive(&mut byte, flags::DONT_WAIT | flags::PEEK),
                Err(Error::Again)
            ) {
                end = now;
            }
        }
        let over = if test.bytes > 0 && end > now {
            totals.iter().all(|totals| totals.bytes >= share)
        } else {
            now >= end
        };
        if over {
            break;
        }
        let mut progress = false;
        let mut next = now + 100_000_000;
        for (stream, totals) in streams.iter().zip(&mut totals) {
            if test.bytes > 0 && totals.bytes >= share {
                continue;
            }
            // What the rate allows up to now.
            if test.rate > 0 {
                let due = u128::from(totals.bytes) * 8 * 1_000_000_000 / u128::from(test.rate);
                let due = start + due as u64;
                if due > now {
                    next = next.min(due);
                    continue;
                }
            }
            if test.udp {
                let wall = time::wall_clock_ns() / 1000;
                data[..4].copy_from_slice(&((wall / 1_000_000) as u32).to_be_bytes());
                data[4..8].copy_from_slice(&((wall % 1_000_000) as u32).to_be_bytes());
                data[8..12].copy_from_slice(&(totals.packets as u32 + 1).to_be_bytes());
            }
            match stream.send(&data, flags::DONT_WAIT) {
                Ok(count) => {
                    totals.bytes += count as u64;
                    totals.packets += 1;
                    progress = true;
                }
                Err(Error::Again) => {}
                Err(error) => return Err(error),
            }
        }
        if !progress {
            wait(streams, poll::OUT, next.min(end.max(now + 1_000_000)), test.rate > 0)?;
        }
    }
    let elapsed = time::now_ns() - start;
    totals.iter_mut().for_each(|totals| totals.elapsed = elapsed);
    Ok(totals)
}

/// Until `until`, or an event unless only time counts.
fn wait(streams: &[Socket], events: u16, until: u64, only_time: bool) -> Result<(), Error> {
    if only_time {
        time::sleep_ns(until.saturating_sub(time::now_ns()));
        return Ok(());
    }
    let mut fds: Vec<PollFd> =
        streams.iter().map(|stream| PollFd { fd: stream.fd(), events, ready: 0 }).collect();
    fs::poll(&mut fds, Some(until)).map(drop)
}

/// As a client: receives for the test's time, or until the amount is there.
pub fn receive_for(
    test: &Test,
    streams: &[Socket],
    control: &Socket,
) -> Result<Vec<Totals>, Error> {
    let end = if test.bytes > 0 {
        u64::MAX
    } else {
        time::now_ns().saturating_add(test.seconds * 1_000_000_000)
    };
    receive_while(test, streams, control, end)
}

/// As a server: until the client says so on the control connection.
pub fn receive(test: &Test, streams: &[Socket], control: &Socket) -> Result<Vec<Totals>, Error> {
    receive_while(test, streams, control, u64::MAX)
}

/// A receiver's state of one UDP stream.
#[derive(Clone, Copy, Default)]
struct Udp {
    highest: u64,
    transit: i64,
}

/// Receives from all `streams` until `end`, the test's amount, or a word on the control connection with
/// nothing more to be received.
fn receive_while(
    test: &Test,
    streams: &[Socket],
    control: &Socket,
    end: u64,
) -> Result<Vec<Totals>, Error> {
    let mut buffer = vec![0; TRANSFER_MAX];
    let mut totals = vec![Totals::default(); streams.len()];
    let mut udp = vec![Udp::default(); streams.len()];
    let mut ended = vec![false; streams.len()];
    let start = time::now_ns();
    loop {
        let all: u64 = totals.iter().map(|totals| totals.bytes).sum();
        let now = time::now_ns();
        if now >= end || end == u64::MAX && test.reverse && all >= test.bytes {
            break;
        }
        let mut fds = vec![PollFd { fd: control.fd(), events: poll::IN, ready: 0 }];
        fds.extend(streams.iter().zip(&ended).map(|(stream, ended)| PollFd {
            fd: stream.fd(),
            // An ended stream would always be ready.
            events: if *ended { 0 } else { poll::IN },
            ready: 0,
        }));
        fs::poll(&mut fds, Some(end.min(now + 1_000_000_000)))?;
        let mut progress = false;
        for (at, stream) in streams.iter().enumerate() {
            if fds[at + 1].ready == 0 || ended[at] {
                continue;
            }
            // Several at a time, so that a poll serves more than one.
            for _ in 0..16 {
                match stream.receive(&mut buffer, flags::DONT_WAIT) {
                    Ok(got) if got.count == 0 && !test.udp => {
                        ended[at] = true;
                        break;
                    }
                    Ok(got) => {
                        progress = true;
                        totals[at].bytes += got.count as u64;
                        if test.udp {
                            count(&mut totals[at], &mut udp[at], &buffer[..got.count]);
                        }
                    }
                    Err(Error::Again) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        if fds[0].ready != 0 && !progress {
            break;
        }
    }
    let elapsed = time::now_ns() - start;
    totals.iter_mut().for_each(|totals| totals.elapsed = elapsed);
    Ok(totals)
}

/// Losses and jitter (RFC 1889, appendix A.8).
fn count(totals: &mut Totals, udp: &mut Udp, packet: &[u8]) {
    let Some(head) = packet.get(..UDP_HEAD) else { return };
    let number =
        |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let id = u64::from(number(8));
    if id > udp.highest {
        totals.errors += id - udp.highest - 1;
        udp.highest = id;
    } else {
        // Out of order: it was counted as lost.
        totals.errors = totals.errors.saturating_sub(1);
    }
    totals.packets = udp.highest;
    let sent = i64::from(number(0)) * 1_000_000_000 + i64::from(number(4)) * 1000;
    let transit = time::wall_clock_ns() as i64 - sent;
    if udp.transit != 0 {
        let difference = (transit - udp.transit).unsigned_abs();
        let jitter = totals.jitter as i64;
        totals.jitter = (jitter + (difference as i64 - jitter) / 16).max(0) as u64;
    }
    udp.transit = transit;
}
