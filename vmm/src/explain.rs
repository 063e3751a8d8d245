//! `xinim-vmm explain`: what a rule of the strict checker is about.

use serde_json::json;
use xinim_devices::strict::{self, RULES, Rule};

use crate::cli::ExplainArgs;
use crate::error::Error;
use crate::output;

/// Columns of an explanation.
const WIDTH: usize = 90;

/// Prints one rule, or all of them in a line each.
pub fn explain(args: &ExplainArgs) -> Result<u8, Error> {
    let Some(id) = &args.id else {
        let line = |rule: &Rule| format!("{:28} {}\n", rule.id, rule.title);
        let all = || RULES.iter().map(json).collect::<serde_json::Value>();
        output::either(args.json, all, || RULES.iter().map(line).collect())?;
        return Ok(0);
    };
    let Some(rule) = strict::rule(id) else {
        return Err(Error::Usage(format!(
            "there is no rule {id}; `xinim-vmm explain` lists them all"
        )));
    };
    output::either(args.json, || json(rule), || text(rule))?;
    Ok(0)
}

fn json(rule: &Rule) -> serde_json::Value {
    json!({
        "id": rule.id,
        "title": rule.title,
        "section": rule.section,
        "explanation": rule.explanation,
    })
}

fn text(rule: &Rule) -> String {
    let mut text = format!("{}: {}\n{}\n\n", rule.id, rule.title, rule.section);
    let mut column = 0;
    for word in rule.explanation.split_whitespace() {
        if column + word.len() >= WIDTH {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_fits_a_terminal() {
        for rule in RULES {
            let text = text(rule);
            assert!(text.lines().all(|line| line.len() <= 100), "{text}");
            assert!(text.starts_with(rule.id) && text.contains(rule.section));
        }
    }

    #[test]
    fn unknown_rules_are_a_sentence() {
        let args = ExplainArgs { id: Some("no-such-rule".into()), json: false };
        assert!(explain(&args).unwrap_err().to_string().contains("no-such-rule"));
    }
}
