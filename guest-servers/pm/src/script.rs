//! Interpreted programs: files that begin with `#!`.

/// Longest first line that is looked at, as on Linux.
pub const LINE_MAX: usize = 256;

/// What the first line of a script says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpreter<'a> {
    pub path: &'a str,
    /// All behind the path, as one argument.
    pub argument: Option<&'a str>,
}

/// The interpreter of a file by its first bytes, if it is a script. A line without an end within
/// [`LINE_MAX`] bytes, or without an absolute path, makes none.
pub fn interpreter(file: &[u8]) -> Option<Interpreter<'_>> {
    let head = file.get(..file.len().min(LINE_MAX))?.strip_prefix(b"#!")?;
    let end = head.iter().position(|&b| b == b'\n');
    let line = match end {
        Some(end) => &head[..end],
        None if file.len() < LINE_MAX => head,
        None => return None,
    };
    let line = core::str::from_utf8(line).ok()?.trim_matches([' ', '\t', '\r']);
    let (path, argument) = match line.split_once([' ', '\t']) {
        Some((path, argument)) => (path, Some(argument.trim_start_matches([' ', '\t']))),
        None => (line, None),
    };
    (path.starts_with('/') && !path.contains('\0') && !argument.is_some_and(|a| a.contains('\0')))
        .then_some(Interpreter { path, argument })
}
