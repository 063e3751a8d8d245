//! Each rule: a driver that breaks it, and the same driver without that mistake.

mod ahci;
mod any;
mod e1000;
mod machine;
mod virtio;

use super::*;

#[test]
fn ids_are_unique_and_plain() {
    for (index, rule) in RULES.iter().enumerate() {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(rule.id.chars().all(plain), "{}", rule.id);
        assert!(!rule.title.is_empty() && !rule.section.is_empty(), "{}", rule.id);
        assert!(rule.explanation.ends_with('.'), "{}", rule.id);
        assert!(RULES[..index].iter().all(|other| other.id != rule.id), "{} twice", rule.id);
    }
}

/// Every rule is exercised by a test of this folder, so that a new one cannot come without.
#[test]
fn every_rule_has_its_test() {
    let tests = [
        include_str!("ahci.rs"),
        include_str!("any.rs"),
        include_str!("e1000.rs"),
        include_str!("virtio.rs"),
    ];
    for rule in RULES {
        let quoted = format!("\"{}\"", rule.id);
        assert!(tests.iter().any(|text| text.contains(&quoted)), "{} has no test", rule.id);
    }
}
