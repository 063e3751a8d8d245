//! Path strings: last component, directory part, joining. No file is looked at.

use alloc::string::String;

fn trim_slashes(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() && path.starts_with('/') { "/" } else { trimmed }
}

/// The last component, as `basename` prints it: `/` of the root, `.` of nothing.
pub fn base_name(path: &str) -> &str {
    let path = trim_slashes(path);
    match path.rfind('/') {
        _ if path == "/" => "/",
        _ if path.is_empty() => ".",
        Some(at) => &path[at + 1..],
        None => path,
    }
}

/// What stands before the last component, as `dirname` prints it.
pub fn dir_name(path: &str) -> &str {
    let path = trim_slashes(path);
    match path.rfind('/') {
        _ if path == "/" => "/",
        Some(at) => match trim_slashes(&path[..=at]) {
            "" => "/",
            dir => dir,
        },
        None => ".",
    }
}

/// `name` below `dir`.
pub fn join(dir: &str, name: &str) -> String {
    let mut path = String::with_capacity(dir.len() + name.len() + 1);
    path.push_str(dir);
    if !dir.is_empty() && !dir.ends_with('/') {
        path.push('/');
    }
    path.push_str(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let cases = [
            ("/a/b", "/a", "b"),
            ("/a/b//", "/a", "b"),
            ("a", ".", "a"),
            ("/a", "/", "a"),
            ("/", "/", "/"),
            ("//", "/", "/"),
            ("a//b", "a", "b"),
        ];
        for (path, dir, base) in cases {
            assert_eq!((dir_name(path), base_name(path)), (dir, base), "{path}");
        }
        assert_eq!(join("/", "x"), "/x");
        assert_eq!(join("a", "x"), "a/x");
    }
}
