//! The server: one test at a time.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;
use xinim_rt::net::{self, Socket, option};
use xinim_rt::println;
use zerocopy::IntoBytes;

use super::{COOKIE_LEN, Test, Totals, peer_totals, receive_json, receive_state, report, results};
use super::{send_json, send_state, state, streams, sum, text};

/// Answer to a client's hello over UDP.
const UDP_ANSWER: u32 = 0x3938_3736;
/// How long a client may take for each step.
const PATIENCE_NS: u64 = 10_000_000_000;

pub fn run(port: u16, once: bool, as_json: bool) -> Result<(), String> {
    let listener = Socket::tcp().map_err(text)?;
    listener.set_option(option::REUSE_ADDRESS, 1).map_err(text)?;
    listener.bind(&net::v4([0; 4], port)).map_err(text)?;
    listener.listen(16).map_err(text)?;
    println!("Server listening on {port}");
    loop {
        listener.set_option(option::RECEIVE_TIMEOUT, 0).map_err(text)?;
        let (control, _) = listener.accept(0).map_err(text)?;
        let result = serve(&listener, &control, port, as_json);
        if once {
            return result;
        }
        if let Err(problem) = result {
            xinim_rt::eprintln!("iperf3: {problem}");
        }
    }
}

fn parameters(value: &Value) -> Result<Test, String> {
    let number = |key: &str| value[key].as_u64();
    let udp = value["udp"].as_bool().unwrap_or(false);
    let streams = number("parallel").unwrap_or(1);
    if !(1..=64).contains(&streams) {
        return Err(format!("{streams} streams are too many"));
    }
    if value["sctp"].as_bool() == Some(true) || value["bidirectional"].as_bool() == Some(true) {
        return Err("SCTP and two directions at once are not supported".into());
    }
    let block = number("len").unwrap_or(128 * 1024);
    let longest = if udp { 65507 } else { 128 * 1024 };
    Ok(Test {
        udp,
        reverse: value["reverse"].as_bool().unwrap_or(false),
        seconds: number("time").unwrap_or(10).min(86400),
        bytes: number("num").unwrap_or(0),
        streams: streams as usize,
        block: block.clamp(16, longest) as usize,
        rate: number("bandwidth").unwrap_or(0),
    })
}

fn serve(listener: &Socket, control: &Socket, port: u16, as_json: bool) -> Result<(), String> {
    control.set_option(option::NO_DELAY, 1).map_err(text)?;
    control.set_option(option::RECEIVE_TIMEOUT, PATIENCE_NS).map_err(text)?;
    let mut cookie = [0; COOKIE_LEN];
    control.receive_exact(&mut cookie).map_err(text)?;
    send_state(control, state::PARAM_EXCHANGE)?;
    let test = match parameters(&receive_json(control)?) {
        Ok(test) => test,
        Err(problem) => {
            // Two error numbers follow, which say nothing here.
            send_state(control, state::SERVER_ERROR)?;
            control.send_all(&[0; 8]).map_err(text)?;
            return Err(problem);
        }
    };
    // Clients over UDP come to a socket that is there before they are asked to.
    let datagrams = if test.udp { Some(udp_socket(port)?) } else { None };
    send_state(control, state::CREATE_STREAMS)?;
    let mut streams: Vec<Socket> = Vec::new();
    listener.set_option(option::RECEIVE_TIMEOUT, PATIENCE_NS).map_err(text)?;
    if let Some(first) = datagrams {
        accept_udp(first, port, test.streams, &mut streams)?;
    } else {
        while streams.len() < test.streams {
            let (stream, _) = listener.accept(0).map_err(text)?;
            let mut own = [0; COOKIE_LEN];
            stream.set_option(option::RECEIVE_TIMEOUT, PATIENCE_NS).map_err(text)?;
            stream.receive_exact(&mut own).map_err(text)?;
            if own == cookie {
                streams.push(stream);
            } else {
                // Another client while a test runs.
                let _ = stream.send_all(&[state::ACCESS_DENIED]);
            }
        }
    }
    send_state(control, state::TEST_START)?;
    send_state(control, state::TEST_RUNNING)?;
    let own: Vec<Totals> = if test.reverse {
        streams::send_until(&test, &streams, control).map_err(text)?
    } else {
        streams::receive(&test, &streams, control).map_err(text)?
    };
    control.set_option(option::RECEIVE_TIMEOUT, PATIENCE_NS).map_err(text)?;
    match receive_state(control)? {
        state::TEST_END => {}
        state::CLIENT_TERMINATE => return Err("the client has terminated".into()),
        other => return Err(format!("the client sends state {other}")),
    }
    send_state(control, state::EXCHANGE_RESULTS)?;
    let peer = receive_json(control)?;
    send_json(control, &results(&test, &own, test.reverse))?;
    send_state(control, state::DISPLAY_RESULTS)?;
    // Some clients close instead of saying so.
    let _ = receive_state(control);
    let (own, peer) = (sum(&own), peer_totals(&peer));
    let (sent, received) = if test.reverse { (own, peer) } else { (peer, own) };
    report(&test, &sent, &received, as_json);
    Ok(())
}

fn udp_socket(port: u16) -> Result<Socket, String> {
    let socket = Socket::udp().map_err(text)?;
    socket.set_option(option::REUSE_ADDRESS, 1).map_err(text)?;
    socket.set_option(option::RECEIVE_BUFFER, 1 << 20).map_err(text)?;
    socket.bind(&net::v4([0; 4], port)).map_err(text)?;
    socket.set_option(option::RECEIVE_TIMEOUT, PATIENCE_NS).map_err(text)?;
    Ok(socket)
}

/// Each stream gets the socket that was waiting, connected to its client.
fn accept_udp(
    mut waiting: Socket,
    port: u16,
    count: usize,
    streams: &mut Vec<Socket>,
) -> Result<(), String> {
    loop {
        let mut hello = [0; 4];
        let got = waiting.receive(&mut hello, 0).map_err(text)?;
        let from = got.address().ok_or("a datagram from nowhere")?;
        let next = if streams.len() + 1 < count { Some(udp_socket(port)?) } else { None };
        waiting.connect(&from).map_err(text)?;
        waiting.send_to(&UDP_ANSWER.to_le_bytes(), from.as_bytes(), 0).map_err(text)?;
        waiting.set_option(option::RECEIVE_TIMEOUT, 0).map_err(text)?;
        streams.push(waiting);
        match next {
            Some(next) => waiting = next,
            None => return Ok(()),
        }
    }
}
