//! Texts.

use super::world::*;
use xinim_abi::error::Error;
use xinim_abi::services::rs::query;

#[test]
fn list() {
    let mut w = World::boot(&CHAIN);
    w.announce("a");
    let text = w.core.query(&w.host, query::LIST, &name(""), 4096).unwrap();
    assert_eq!(
        text,
        "rs\trunning\t1\t0\tsbin/rs\t-\na\trunning\t101\t0\tsbin/a\t-\n\
         b\tstarting\t102\t0\tsbin/b\t-\nc\twaiting\t0\t0\tsbin/c\t-\n"
    );
    let cut = w.core.query(&w.host, query::LIST, &name(""), 40).unwrap();
    assert_eq!(cut, "rs\trunning\t1\t0\tsbin/rs\t-\n", "whole lines");
    assert_eq!(w.core.query(&w.host, 99, &name(""), 50), Err(Error::Inval));
}
