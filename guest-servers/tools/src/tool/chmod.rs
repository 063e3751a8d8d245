//! `chmod MODE FILE...`: octal, or `[ugoa...][+-=][rwx...]` with commas between.

use alloc::format;

use crate::Context;

pub fn run(c: &mut Context<'_>) -> i32 {
    let Some((mode, files)) = c.args.split_first().filter(|(_, files)| !files.is_empty()) else {
        return c.usage("usage: chmod MODE FILE...");
    };
    if change(mode, 0).is_none() {
        return c.usage(format!("{mode}: bad mode"));
    }
    for path in files {
        let result = c.os.stat(path).and_then(|stat| {
            let new = change(mode, stat.mode & 0o7777).unwrap_or(stat.mode);
            c.os.chmod(path, new & 0o7777)
        });
        if let Err(error) = result {
            c.problem(path, error);
        }
    }
    0
}

/// The bits after a change of `old`.
fn change(mode: &str, old: u32) -> Option<u32> {
    if mode.starts_with(|c: char| c.is_ascii_digit()) {
        return u32::from_str_radix(mode, 8).ok().filter(|bits| *bits <= 0o7777);
    }
    mode.split(',').try_fold(old, |bits, clause| {
        let at = clause.find(['+', '-', '='])?;
        let mut who = 0;
        for letter in clause[..at].chars() {
            who |= match letter {
                'u' => 0o700,
                'g' => 0o070,
                'o' => 0o007,
                'a' => 0o777,
                _ => return None,
            };
        }
        if who == 0 {
            who = 0o777;
        }
        let mut what = 0;
        for letter in clause[at + 1..].chars() {
            what |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                _ => return None,
            };
        }
        Some(match &clause[at..=at] {
            "+" => bits | what & who,
            "-" => bits & !(what & who),
            _ => bits & !who | what & who,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::change;

    #[test]
    fn modes() {
        assert_eq!(change("644", 0), Some(0o644));
        assert_eq!(change("+x", 0o644), Some(0o755));
        assert_eq!(change("u+x,go-r", 0o644), Some(0o700));
        assert_eq!(change("a=r", 0o777), Some(0o444));
        for bad in ["", "x", "+s", "z+x", "99", "77777"] {
            assert_eq!(change(bad, 0), None, "{bad}");
        }
    }
}
