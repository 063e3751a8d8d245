//! The client.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Value, json};
use xinim_abi::error::Error;
use xinim_abi::services::socket::Address;
use xinim_rt::net::{Socket, domain, kind, option};
use xinim_rt::{kip, println};

use super::{COOKIE_LEN, Test, Totals, peer_totals, receive_json, receive_state, report, results};
use super::{send_json, send_state, state, streams, sum, text};
use crate::common;

const UDP_HELLO: u32 = 0x3637_3839;
/// Tries of the UDP handshake, a second each.
const UDP_TRIES: u32 = 5;

fn cookie() -> [u8; COOKIE_LEN] {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut cookie = [0; COOKIE_LEN];
    let mut word = 0;
    for (at, byte) in cookie[..COOKIE_LEN - 1].iter_mut().enumerate() {
        if at % 12 == 0 {
            word = kip::random_u64().unwrap_or_else(kip::tsc);
        }
        *byte = LETTERS[(word & 31) as usize];
        word >>= 5;
    }
    cookie
}

fn connect(address: &Address, kind: u32) -> Result<Socket, Error> {
    let family = if address.family == 6 { domain::INET6 } else { domain::INET };
    let socket = Socket::open(family, kind, 0)?;
    socket.connect(address)?;
    Ok(socket)
}

fn open_stream(address: &Address, test: &Test, cookie: &[u8]) -> Result<Socket, String> {
    if !test.udp {
        let socket = connect(address, kind::STREAM).map_err(text)?;
        socket.send_all(cookie).map_err(text)?;
        return Ok(socket);
    }
    let socket = connect(address, kind::DATAGRAM).map_err(text)?;
    socket.set_option(option::RECEIVE_TIMEOUT, 1_000_000_000).map_err(text)?;
    for _ in 0..UDP_TRIES {
        socket.send(&UDP_HELLO.to_le_bytes(), 0).map_err(text)?;
        let mut answer = [0; 4];
        match socket.receive(&mut answer, 0) {
            Ok(_) => {
                socket.set_option(option::RECEIVE_TIMEOUT, 0).map_err(text)?;
                return Ok(socket);
            }
            Err(Error::Again) => {}
            Err(error) => return Err(text(error)),
        }
    }
    Err("the server does not answer over UDP".into())
}

pub fn run(host: &str, port: u16, test: &Test, as_json: bool) -> Result<(), String> {
    let address = common::host(host, 0, port)?;
    let unable = |error| format!("unable to connect to {host} port {port}: {error}");
    let control = connect(&address, kind::STREAM).map_err(unable)?;
    control.set_option(option::NO_DELAY, 1).map_err(text)?;
    if !as_json {
        println!("Connecting to host {host}, port {port}");
    }
    let cookie = cookie();
    control.send_all(&cookie).map_err(text)?;
    let mut streams: Vec<Socket> = Vec::new();
    let mut own: Vec<Totals> = Vec::new();
    let mut peer = Value::Null;
    loop {
        match receive_state(&control)? {
            state::PARAM_EXCHANGE => send_json(&control, &parameters(test))?,
            state::CREATE_STREAMS => {
                for _ in 0..test.streams {
                    streams.push(open_stream(&address, test, &cookie)?);
                }
            }
            state::TEST_START => {}
            state::TEST_RUNNING => {
                own = run_test(test, &streams, &control)?;
                send_state(&control, state::TEST_END)?;
            }
            state::EXCHANGE_RESULTS => {
                send_json(&control, &results(test, &own, !test.reverse))?;
                peer = receive_json(&control)?;
            }
            state::DISPLAY_RESULTS => {
                send_state(&control, state::IPERF_DONE)?;
                break;
            }
            state::ACCESS_DENIED => return Err("the server is busy running a test".into()),
            state::SERVER_TERMINATE => return Err("the server has terminated".into()),
            state::SERVER_ERROR => return Err("the server met an error".into()),
            other => return Err(format!("the server sends state {other}")),
        }
    }
    let (own, peer) = (sum(&own), peer_totals(&peer));
    let (sent, received) = if test.reverse { (peer, own) } else { (own, peer) };
    report(test, &sent, &received, as_json);
    Ok(())
}

fn run_test(test: &Test, open: &[Socket], control: &Socket) -> Result<Vec<Totals>, String> {
    if !test.reverse {
        return streams::send(test, open).map_err(text);
    }
    streams::receive_for(test, open, control).map_err(text)
}

fn parameters(test: &Test) -> Value {
    let mut value = json!({
        "omit": 0,
        "parallel": test.streams,
        "len": test.block,
        "pacing_timer": 1000,
        "client_version": "3.12",
    });
    value[if test.udp { "udp" } else { "tcp" }] = Value::Bool(true);
    if test.bytes > 0 {
        value["num"] = test.bytes.into();
        value["time"] = 0.into();
    } else {
        value["time"] = test.seconds.into();
    }
    if test.reverse {
        value["reverse"] = Value::Bool(true);
    }
    if test.rate > 0 {
        value["bandwidth"] = test.rate.into();
    }
    value
}
