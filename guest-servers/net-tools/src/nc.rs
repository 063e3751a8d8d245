//! `nc`: a stream or datagrams between standard input and output and the network.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use xinim_abi::error::Error;
use xinim_abi::services::socket::Address;
use xinim_abi::services::vfs::poll;
use xinim_rt::fs::{self, PollFd};
use xinim_rt::net::{self, Socket, domain, kind, option};
use xinim_rt::time;
use zerocopy::IntoBytes;

use crate::common;

const USAGE: &str = "nc [-4|-6] [-u] [-N] [-w SECONDS] HOST PORT
       nc -l [-u] [-N] [-k] [-w SECONDS] PORT
       nc -U [-l] PATH
-l listens, -u UDP, -U Unix-domain, -N ends the connection at the end of input, -k serves one
connection after the other, -w goes on for SECONDS after the end of input";
const STDIN: u32 = 0;
const STDOUT: u32 = 1;

#[derive(Default)]
struct Plan<'a> {
    listen: bool,
    udp: bool,
    unix: bool,
    half_close: bool,
    keep: bool,
    family: u32,
    /// ns after the end of input.
    linger: Option<u64>,
    operands: alloc::vec::Vec<&'a str>,
}

pub fn main(words: &[&str]) -> i32 {
    let mut plan = Plan::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "-w" => match words.next().and_then(|text| text.parse::<u32>().ok()) {
                Some(seconds) => plan.linger = Some(u64::from(seconds) * 1_000_000_000),
                None => return common::usage(USAGE),
            },
            "-l" => plan.listen = true,
            "-u" => plan.udp = true,
            "-U" => plan.unix = true,
            "-N" => plan.half_close = true,
            "-k" => plan.keep = true,
            "-4" => plan.family = 4,
            "-6" => plan.family = 6,
            word if word.starts_with('-') => return common::usage(USAGE),
            word => plan.operands.push(word),
        }
    }
    match run(&plan) {
        Ok(Some(())) => 0,
        Ok(None) => common::usage(USAGE),
        Err(text) => {
            xinim_rt::eprintln!("nc: {text}");
            1
        }
    }
}

fn say(what: &str) -> impl Fn(Error) -> String + '_ {
    move |error| format!("{what}: {error}")
}

/// `None`: wrong usage.
fn run(plan: &Plan<'_>) -> Result<Option<()>, String> {
    let stream = if plan.udp { kind::DATAGRAM } else { kind::STREAM };
    match (plan.operands.as_slice(), plan.listen, plan.unix) {
        ([path], false, true) => {
            let socket = Socket::open(domain::UNIX, kind::STREAM, 0).map_err(say(path))?;
            socket.connect_path(path).map_err(say(path))?;
            carry(&socket, plan, None).map_err(say(path))?;
        }
        ([path], true, true) => {
            let socket = Socket::open(domain::UNIX, kind::STREAM, 0).map_err(say(path))?;
            socket.bind_path(path).map_err(say(path))?;
            serve(&socket, plan).map_err(say(path))?;
            let _ = fs::unlink(path);
        }
        ([port], true, false) => {
            let port_number = common::parse_port(port)?;
            let family = if plan.family == 6 { domain::INET6 } else { domain::INET };
            let socket = Socket::open(family, stream, 0).map_err(say(port))?;
            socket.set_option(option::REUSE_ADDRESS, 1).map_err(say(port))?;
            let any = if plan.family == 6 {
                Address { family: 6, port: port_number.to_be_bytes(), ..Address::default() }
            } else {
                net::v4([0; 4], port_number)
            };
            socket.bind(&any).map_err(say(port))?;
            if plan.udp {
                answer_datagrams(&socket, plan).map_err(say(port))?;
            } else {
                serve(&socket, plan).map_err(say(port))?;
            }
        }
        ([host, port], false, false) => {
            let address = common::host(host, plan.family, common::parse_port(port)?)?;
            let family = if address.family == 6 { domain::INET6 } else { domain::INET };
            let socket = Socket::open(family, stream, 0).map_err(say(host))?;
            socket.connect(&address).map_err(say(host))?;
            carry(&socket, plan, None).map_err(say(host))?;
        }
        _ => return Ok(None),
    }
    Ok(Some(()))
}

fn serve(socket: &Socket, plan: &Plan<'_>) -> Result<(), Error> {
    socket.listen(16)?;
    loop {
        let (connection, _) = socket.accept(0)?;
        carry(&connection, plan, None)?;
        if !plan.keep {
            return Ok(());
        }
    }
}

/// The first datagram's sender is the one answered.
fn answer_datagrams(socket: &Socket, plan: &Plan<'_>) -> Result<(), Error> {
    let mut buffer = vec![0; 65536];
    let first = socket.receive(&mut buffer, 0)?;
    fs::write_all(STDOUT, &buffer[..first.count])?;
    carry(socket, plan, first.address())
}

/// Until the peer ends, or (datagrams, or with `-w`) the input has ended.
fn carry(socket: &Socket, plan: &Plan<'_>, to: Option<Address>) -> Result<(), Error> {
    let datagrams = socket.option(option::KIND)? == u64::from(kind::DATAGRAM);
    let mut buffer = vec![0; 64 * 1024];
    let mut input = true;
    let mut end = None;
    loop {
        let mut fds = [
            PollFd { fd: socket.fd(), events: poll::IN, ready: 0 },
            PollFd { fd: STDIN, events: poll::IN, ready: 0 },
        ];
        let count = if input { 2 } else { 1 };
        if fs::poll(&mut fds[..count], end)? == 0 {
            return Ok(());
        }
        if fds[0].ready != 0 {
            let got = socket.receive(&mut buffer, 0)?;
            if got.count == 0 && !datagrams {
                return Ok(());
            }
            fs::write_all(STDOUT, &buffer[..got.count])?;
        }
        if input && fds[1].ready != 0 {
            let part = if datagrams { 1400 } else { buffer.len() };
            let count = fs::read(STDIN, &mut buffer[..part])?;
            if count == 0 {
                input = false;
                end = plan.linger.map(|linger| time::now_ns().saturating_add(linger));
                if datagrams && end.is_none() {
                    return Ok(());
                }
                if plan.half_close {
                    socket.shutdown(1)?;
                }
                continue;
            }
            match &to {
                Some(address) => {
                    socket.send_to(&buffer[..count], address.as_bytes(), 0)?;
                }
                None if datagrams => {
                    socket.send(&buffer[..count], 0)?;
                }
                None => socket.send_all(&buffer[..count])?,
            }
        }
    }
}
