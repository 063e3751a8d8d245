//! The network tools as one program; its name says which.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;

use xinim_os_rt::args;

mod common;
mod fetchload;
mod http;
mod httpd;
mod ip;
mod iperf3;
mod nc;
mod netstat;
mod nslookup;
mod ping;
mod tcpdump;
mod wget;

xinim_rt::program!(main);

fn main() -> i32 {
    let args = args();
    let path = args.first().map_or("", String::as_str);
    let name = path.rsplit('/').next().unwrap_or(path);
    let words: alloc::vec::Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match name {
        "fetchload" => fetchload::main(&words),
        "httpd" => httpd::main(&words),
        "ip" => ip::main(&words),
        "iperf3" => iperf3::main(&words),
        "nc" => nc::main(&words),
        "netstat" => netstat::main(&words),
        "nslookup" => nslookup::main(&words),
        "ping" => ping::main(&words),
        "tcpdump" => tcpdump::main(&words),
        "wget" => wget::main(&words),
        _ => {
            xinim_rt::eprintln!("{name}: no tool of this name");
            127
        }
    }
}
