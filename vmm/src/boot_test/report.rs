//! The results for people, for CI's test viewers (JUnit XML), and for programs (JSON).

use std::fmt::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::case::{CaseResult, Ending};
use super::progress::count;

/// Of a stream shown in a report, so many bytes of its end.
const TAIL: usize = 8 << 10;
/// Lines of it on standard output.
const TAIL_LINES: usize = 20;

#[derive(Debug)]
pub struct Summary {
    results: Vec<CaseResult>,
    machines: usize,
    took: Duration,
}

impl Summary {
    pub fn new(results: Vec<CaseResult>, machines: usize, took: Duration) -> Self {
        Self { results, machines, took }
    }

    fn number(&self, wanted: impl Fn(&Ending) -> bool) -> usize {
        self.results.iter().filter(|result| wanted(&result.ending)).count()
    }

    pub fn passed(&self) -> usize {
        self.number(|ending| *ending == Ending::Passed)
    }

    pub fn failed(&self) -> usize {
        self.number(|ending| matches!(ending, Ending::Failed(_)))
    }

    pub fn not_run(&self) -> usize {
        self.number(|ending| matches!(ending, Ending::NotRun(_)))
    }

    fn per_minute(&self) -> f64 {
        self.machines as f64 * 60.0 / self.took.as_secs_f64().max(1e-3)
    }

    pub fn json(&self) -> String {
        let cases: Vec<Value> = self.results.iter().map(case_json).collect();
        let report = json!({
            "passed": self.passed(),
            "failed": self.failed(),
            "not_run": self.not_run(),
            "seconds": self.took.as_secs_f64(),
            "machines": self.machines,
            "machines_per_minute": self.per_minute(),
            "cases": cases,
        });
        serde_json::to_string_pretty(&report).unwrap_or_default()
    }

    /// A `testsuites` document, as the JUnit plugins of CI servers read it.
    pub fn junit(&self) -> String {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let totals = format!(
            "tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{:.3}\"",
            self.results.len(),
            self.failed(),
            self.not_run(),
            self.took.as_secs_f64()
        );
        out.push_str(&format!("<testsuites {totals}>\n<testsuite name=\"xinim-vmm\" {totals}>\n"));
        out.push_str(&format!(
            "<properties><property name=\"machines\" value=\"{}\"/></properties>\n",
            self.machines
        ));
        for result in &self.results {
            case_junit(&mut out, result);
        }
        out.push_str("</testsuite>\n</testsuites>\n");
        out
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for result in &self.results {
            let reasons = match &result.ending {
                Ending::Passed => continue,
                Ending::Failed(reasons) => reasons.clone(),
                Ending::NotRun(why) => vec![format!("could not be run: {why}")],
            };
            writeln!(f, "\n---- {} ({})", result.name, result.file.display())?;
            if !result.description.is_empty() {
                writeln!(f, "  ({})", result.description.replace('\n', " "))?;
            }
            for reason in reasons {
                writeln!(f, "  {}", reason.replace('\n', "\n  "))?;
            }
            for (what, bytes) in streams(result) {
                writeln!(f, "  {what}, last lines:")?;
                let text = tail(bytes);
                let lines: Vec<&str> = text.lines().collect();
                for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
                    writeln!(f, "  | {}", printable(line))?;
                }
            }
            if let Some(kept) = &result.kept {
                writeln!(f, "  kept in {}", kept.display())?;
            }
        }
        if self.passed() < self.results.len() {
            writeln!(f)?;
        }
        write!(f, "{} passed, {} failed", self.passed(), self.failed())?;
        if self.not_run() > 0 {
            write!(f, ", {} not run", self.not_run())?;
        }
        writeln!(
            f,
            " in {:.1} s; booted {}, {:.0} a minute",
            self.took.as_secs_f64(),
            count(self.machines, "machine"),
            self.per_minute()
        )
    }
}

/// What it said, and where, as far as it said anything.
fn streams(result: &CaseResult) -> impl Iterator<Item = (&'static str, &[u8])> {
    [
        ("standard output", &*result.stdout),
        ("standard error", &*result.stderr),
        ("console", &*result.console),
    ]
    .into_iter()
    .filter(|(_, bytes)| !bytes.is_empty())
}

fn tail(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL)..]).into_owned()
}

fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{FFFD}' } else { c }).collect()
}

fn case_json(result: &CaseResult) -> Value {
    let (word, reasons) = match &result.ending {
        Ending::Passed => ("passed", Vec::new()),
        Ending::Failed(reasons) => ("failed", reasons.clone()),
        Ending::NotRun(why) => ("not-run", vec![why.clone()]),
    };
    let mut value = json!({
        "name": result.name,
        "file": result.file.to_string_lossy(),
        "engine": result.engine,
        "result": word,
        "seconds": result.took.as_secs_f64(),
        "status": result.status,
        "reasons": reasons,
    });
    if result.ending != Ending::Passed {
        value["stdout"] = tail(&result.stdout).into();
        value["stderr"] = tail(&result.stderr).into();
        value["console"] = tail(&result.console).into();
        value["kept"] = result.kept.as_ref().map(|path| path.to_string_lossy()).into();
    }
    value
}

fn case_junit(out: &mut String, result: &CaseResult) {
    let open = format!(
        "<testcase classname=\"{}\" name=\"{}\" file=\"{}\" time=\"{:.3}\"",
        result.engine,
        xml(&result.name),
        xml(&result.file.to_string_lossy()),
        result.took.as_secs_f64()
    );
    let (element, message) = match &result.ending {
        Ending::Passed => {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{open}/>");
            return;
        }
        Ending::Failed(reasons) => ("failure", reasons.join("\n")),
        Ending::NotRun(why) => ("error", why.clone()),
    };
    let first = message.lines().next().unwrap_or_default();
    let _ = writeln!(
        out,
        "{open}>\n<{element} message=\"{}\">{}</{element}>",
        xml(first),
        xml(&message)
    );
    for (name, bytes) in [("system-out", &result.console), ("system-err", &result.stderr)] {
        if !bytes.is_empty() {
            let _ = writeln!(out, "<{name}>{}</{name}>", xml(&tail(bytes)));
        }
    }
    out.push_str("</testcase>\n");
}

/// Escaped, and without the characters that XML 1.0 (2.2) has no way to write.
fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            '\r' => out.push_str("&#13;"),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}
