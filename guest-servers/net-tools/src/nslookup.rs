//! `nslookup`: addresses of a name.

use xinim_abi::error::Error;
use xinim_rt::net::{self, query};
use xinim_rt::println;

use crate::common;

pub fn main(words: &[&str]) -> i32 {
    let (family, name) = match words {
        [name] if !name.starts_with('-') => (0, *name),
        ["-4", name] => (4, *name),
        ["-6", name] => (6, *name),
        _ => return common::usage("nslookup [-4|-6] NAME"),
    };
    if let Ok(servers) = net::ask_about(query::RESOLVERS)
        && let Some(server) = servers.lines().next()
    {
        println!("Server: {server}");
    }
    match net::resolve(name, family) {
        Ok(found) => {
            println!("Name: {name}");
            for address in &found {
                println!("Address: {}", common::ip_text(address));
            }
            0
        }
        Err(error) => {
            match error {
                Error::NoEnt => xinim_rt::eprintln!("nslookup: {name}: unknown host"),
                Error::NetUnreach => xinim_rt::eprintln!("nslookup: no name server is known"),
                other => xinim_rt::eprintln!("nslookup: {name}: {other}"),
            }
            1
        }
    }
}
