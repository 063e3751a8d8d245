//! `netstat`: sockets, routes (`-r`), interfaces (`-i`), counters (`-s`).

use xinim_rt::net::{self, query};

use crate::common;

const USAGE: &str = "netstat [-r | -i | -s]";

pub fn main(words: &[&str]) -> i32 {
    let (kind, title) = match words {
        [] | ["-a" | "-an" | "-n"] => {
            (query::SOCKETS, "PROTO\tLOCAL\tPEER\tSTATE\tRECV-Q\tSEND-Q\tPID")
        }
        ["-r"] => (query::ROUTES, "DESTINATION\tGATEWAY\tINTERFACE"),
        ["-i"] => (
            query::LINKS,
            "NAME\tSTATE\tADDRESS\tMTU\tCONFIG\tRX-BYTES\tRX\tRX-DROP\tTX-BYTES\tTX\tTX-DROP\tDRIVER",
        ),
        ["-s"] => (query::STATISTICS, "NAME\tVALUE"),
        _ => return common::usage(USAGE),
    };
    match net::ask_about(kind) {
        Ok(text) => {
            common::table(title, &text);
            0
        }
        Err(error) => {
            xinim_rt::eprintln!("netstat: {error}");
            1
        }
    }
}
