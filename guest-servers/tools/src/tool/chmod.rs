//! `chmod [-R] MODE FILE...`: octal, or `[ugoa...][+-=][rwxXst...|u|g|o]` with commas between.

use alloc::format;

use xinim_os::{is_kind, join, mode};

use crate::{Context, Options};

const DEPTH_MAX: usize = 128;

pub fn run(c: &mut Context<'_>) -> i32 {
    // A mode such as -x looks like an option.
    let recursive = c.args.first().is_some_and(|arg| arg == "-R");
    let args = &c.args[usize::from(recursive)..];
    let known = args.first().is_some_and(|arg| change(arg, 0, false, 0).is_some());
    if !known && let Err(message) = Options::parse(args, "", "chmod [-R] MODE FILE...") {
        return c.usage(message);
    }
    let Some((text, files)) = args.split_first().filter(|(_, files)| !files.is_empty()) else {
        return c.usage("usage: chmod [-R] MODE FILE...");
    };
    if !known {
        return c.usage(format!("{text}: bad mode"));
    }
    let mask = c.os.umask(0).unwrap_or(0);
    let _ = c.os.umask(mask);
    for path in files {
        set(c, path, text, mask, recursive, 0);
    }
    0
}

fn set(c: &mut Context<'_>, path: &str, text: &str, mask: u32, recursive: bool, depth: usize) {
    // Links below a directory are left alone: they have no permissions.
    let found = if depth > 0 { c.os.lstat(path) } else { c.os.stat(path) };
    let stat = match found {
        Ok(stat) if depth > 0 && is_kind(&stat, mode::SYMLINK) => return,
        Ok(stat) => stat,
        Err(error) => return c.problem(path, error),
    };
    let directory = is_kind(&stat, mode::DIRECTORY);
    let old = stat.mode & mode::PERMISSIONS;
    let mut new = change(text, old, directory, mask).unwrap_or(old);
    if directory && text.starts_with(|c: char| c.is_ascii_digit()) && text.len() < 5 {
        // Digits leave a directory's set-ID bits unless they name them.
        new |= old & (mode::SET_UID | mode::SET_GID);
    }
    if let Err(error) = c.os.chmod(path, new) {
        return c.problem(path, error);
    }
    if !directory || !recursive || depth == DEPTH_MAX {
        return;
    }
    match c.os.read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                set(c, &join(path, &entry.name), text, mask, recursive, depth + 1);
            }
        }
        Err(error) => c.problem(path, error),
    }
}

/// The bits after a change of `old`. Where a clause names nobody, the bits of `mask` stay.
pub(super) fn change(text: &str, old: u32, directory: bool, mask: u32) -> Option<u32> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777);
    }
    text.split(',').try_fold(old, |bits, clause| clause_change(clause, bits, directory, mask))
}

fn clause_change(clause: &str, old: u32, directory: bool, mask: u32) -> Option<u32> {
    let start = clause.find(['+', '-', '='])?;
    let mut who = 0;
    for letter in clause[..start].chars() {
        who |= match letter {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    let mask = if who == 0 { mask } else { 0 };
    if who == 0 {
        who = 0o7777;
    }
    let mut bits = old;
    let mut rest = &clause[start..];
    while let Some(action) = rest.chars().next() {
        let letters = &rest[1..];
        let end = letters.find(['+', '-', '=']).unwrap_or(letters.len());
        let (mut what, list) = (0, &letters[..end]);
        rest = &letters[end..];
        for letter in list.chars() {
            what |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if directory || bits & 0o111 != 0 => 0o111,
                'X' => 0,
                's' => 0o6000,
                't' => 0o1000,
                // As somebody else has it, for everybody named.
                'u' | 'g' | 'o' if list.len() == 1 => {
                    let shift = match letter {
                        'u' => 6,
                        'g' => 3,
                        _ => 0,
                    };
                    (bits >> shift & 7) * 0o111
                }
                _ => return None,
            };
        }
        let what = what & who & !mask;
        bits = match action {
            '+' => bits | what,
            '-' => bits & !what,
            '=' => {
                // A directory keeps its set-ID bits unless they are named.
                let cleared = if directory { who & !0o6000 } else { who };
                bits & !(cleared & !mask) | what
            }
            _ => return None,
        };
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    fn change(text: &str, old: u32) -> Option<u32> {
        super::change(text, old, false, 0o022)
    }

    #[test]
    fn modes() {
        assert_eq!(change("644", 0), Some(0o644));
        assert_eq!(change("+x", 0o644), Some(0o755));
        assert_eq!(change("+w", 0o444), Some(0o644), "the umask's bits stay");
        assert_eq!(change("u+x,go-r", 0o644), Some(0o700));
        assert_eq!(change("a=r", 0o777), Some(0o444));
        assert_eq!(change("u+s,+t", 0o755), Some(0o5755));
        assert_eq!(change("g=u,o=", 0o640), Some(0o660));
        assert_eq!(change("a+X", 0o644), Some(0o644));
        assert_eq!(change("a+X", 0o744), Some(0o755));
        assert_eq!(super::change("a+X", 0o644, true, 0), Some(0o755));
        assert_eq!(change("u=rw-w+x", 0), Some(0o500));
        for bad in ["", "x", "z+x", "99", "77777", "u+ug", "+y"] {
            assert_eq!(change(bad, 0), None, "{bad}");
        }
    }
}
