use std::vec::Vec;

/// Tools of the program that are not in the library.
const FROM_BELOW: &[&str] = &["breakout", "ipcbench", "ringbench"];

#[test]
fn the_bundle_has_a_name_for_each_tool() {
    let bundle = include_str!("../../../configs/bundle.toml");
    let entry = bundle.split("[[program]]").find(|entry| entry.contains("\"bin/tools\""));
    let names = entry.and_then(|entry| entry.split_once("names = [")).unwrap().1;
    let names = names.split("\n]").next().unwrap();
    let mut listed: Vec<&str> = names.split('"').skip(1).step_by(2).collect();
    listed.sort_unstable();
    let mut own: Vec<&str> = super::names().chain(FROM_BELOW.iter().copied()).collect();
    own.sort_unstable();
    assert_eq!(listed, own);
}
