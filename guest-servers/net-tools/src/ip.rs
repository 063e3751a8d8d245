//! `ip`: interfaces, addresses, routes.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::Error;
use xinim_rt::net::{self, query};
use xinim_rt::println;

const USAGE: &str = "ip addr|link|route|dns
       ip addr add ADDRESS/PREFIX dev NAME | del ADDRESS dev NAME | flush dev NAME
       ip link set [dev] NAME up|down
       ip route add DESTINATION|default [via ADDRESS] [dev NAME] | del DESTINATION [dev NAME]
       ip dhcp on|off dev NAME
       ip dns set [ADDRESS...]
       ip -s link";

pub fn main(words: &[&str]) -> i32 {
    let result = match words {
        [] | ["addr" | "address" | "a"] | ["addr" | "a", "show"] => show_addresses(),
        ["link" | "l"] | ["link" | "l", "show"] => show_links(false),
        ["-s", "link" | "l"] => show_links(true),
        ["route" | "r"] | ["route" | "r", "show"] => show_routes(),
        ["dns"] => net::ask_about(query::RESOLVERS).map(|text| xinim_rt::print!("{text}")),
        ["link", "set", name, state @ ("up" | "down")] => {
            net::configure(&format!("link set dev {name} {state}"))
        }
        ["addr" | "a", "add" | "del" | "flush", ..]
        | ["link" | "l", "set", ..]
        | ["route" | "r", "add" | "del", ..]
        | ["dhcp", ..]
        | ["dns", "set", ..] => {
            let long = match words[0] {
                "a" => "addr",
                "l" => "link",
                "r" => "route",
                other => other,
            };
            let rest = words[1..].join(" ");
            net::configure(&format!("{long} {rest}"))
        }
        _ => return crate::common::usage(USAGE),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            let text = match error {
                Error::Inval => String::from("the command is not understood; see 'ip help'"),
                Error::NoDev => String::from("there is no such interface"),
                Error::Exist => String::from("the address is there already"),
                Error::Srch => String::from("there is no such route"),
                Error::Perm => String::from("only root may change the configuration"),
                other => format!("{other}"),
            };
            xinim_rt::eprintln!("ip: {text}");
            1
        }
    }
}

fn show_addresses() -> Result<(), Error> {
    let links = net::ask_about(query::LINKS)?;
    let addresses = net::ask_about(query::ADDRESSES)?;
    for (number, line) in links.lines().enumerate() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, state, mac, mtu, ..] = fields.as_slice() else { continue };
        println!("{}: {name}: {state} mtu {mtu}", number + 1);
        println!("    link {mac}");
        for address in addresses.lines() {
            let mut fields = address.split('\t');
            if fields.next() == Some(name) {
                let (cidr, origin) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
                let family = if cidr.contains(':') { "inet6" } else { "inet" };
                println!("    {family} {cidr} {origin}");
            }
        }
    }
    Ok(())
}

fn show_links(statistics: bool) -> Result<(), Error> {
    for (number, line) in net::ask_about(query::LINKS)?.lines().enumerate() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, state, mac, mtu, dhcp, counters @ .., driver] = fields.as_slice() else {
            continue;
        };
        println!("{}: {name}: {state} mtu {mtu} driver {driver}", number + 1);
        println!("    link {mac}{}", if *dhcp == "dhcp" { " dhcp" } else { "" });
        if let (true, [rx_bytes, rx, rx_lost, tx_bytes, tx, tx_lost]) = (statistics, counters) {
            println!("    RX: {rx_bytes} bytes, {rx} packets, {rx_lost} dropped");
            println!("    TX: {tx_bytes} bytes, {tx} packets, {tx_lost} dropped");
        }
    }
    Ok(())
}

fn show_routes() -> Result<(), Error> {
    for line in net::ask_about(query::ROUTES)?.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [destination, gateway, name] = fields.as_slice() else { continue };
        let destination = match *destination {
            "0.0.0.0/0" | "::/0" => "default",
            other => other,
        };
        match *gateway {
            "-" => println!("{destination} dev {name}"),
            gateway => println!("{destination} via {gateway} dev {name}"),
        }
    }
    Ok(())
}
