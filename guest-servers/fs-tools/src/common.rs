//! What mkfs and fsck of all formats have in common: options, the device, reports. The exit
//! statuses differ, as those of the tools they are called after do.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use xinim_tools::{Context, Options, parse_size};

use crate::device::{Device, open, open_for_change};

/// Options with one operand, a device, and up to `more` behind it; then what `judge` makes of
/// them. `None`: it is wrong, and has been said.
pub fn parse<T>(
    c: &mut Context<'_>,
    letters: &str,
    usage: &str,
    more: usize,
    judge: impl FnOnce(&Context<'_>, &Options) -> Result<T, String>,
) -> Option<(Options, T)> {
    let parsed = Options::parse(c.args, letters, usage).and_then(|options| {
        if !(1..=1 + more).contains(&options.operands.len()) {
            return Err(format!("a device is needed\nusage: {usage}"));
        }
        let judged = judge(c, &options)?;
        Ok((options, judged))
    });
    match parsed {
        Ok(parsed) => Some(parsed),
        Err(message) => {
            c.usage(message);
            None
        }
    }
}

/// The device of an fsck: to be changed where it repairs.
pub fn open_for_check<'a>(c: &mut Context<'a>, path: &str, repair: bool) -> Option<Device<'a>> {
    if repair { open_for_change(c, path) } else { open(c, path, false) }
}

/// The value of an option that is a size above 0.
pub fn size(options: &Options, letter: char) -> Result<Option<u64>, String> {
    let Some(text) = options.value(letter) else { return Ok(None) };
    let size = parse_size(text).filter(|&size| size > 0);
    size.map(Some).ok_or_else(|| format!("-{letter}: bad size '{text}'"))
}

/// The operand behind the device: a number of blocks.
pub fn blocks<N: core::str::FromStr>(options: &Options) -> Result<Option<N>, String> {
    let Some(text) = options.operands.get(1) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| format!("bad number '{text}'"))
}

/// The problems that a check has found, each behind `prefix`. `found` counts those too that are not told
/// one by one.
pub fn tell(c: &mut Context<'_>, prefix: &str, problems: &[String], found: u64) {
    // A sink that cannot be written to is reported at the end.
    for problem in problems {
        let _ = writeln!(c.out, "{prefix}{problem}");
    }
    let told = problems.len() as u64;
    if found > told {
        let _ = writeln!(c.out, "{prefix}and {} more", found - told);
    }
}
