//! What a file system whose writes all outlive its server promises to the files that were open without a name.

use alloc::vec;

use xinim_abi::error::Error;
use xinim_abi::services::fs::mounted;

use super::{FILE, list};
use crate::{FileSystem, NewFile};

const LEN: usize = 30_000;

/// `next` makes the server's next instance over what the last one left; it is dropped without a word.
/// The volume is unmounted at the end, and has the names it had before.
pub fn nameless_files_outlive_the_server<F: FileSystem>(source: &str, mut next: impl FnMut() -> F) {
    let mut fs = next();
    let root = fs.mount(source, 0).expect("mounted").root;
    let before = list(&mut fs, root, 4096).expect("names");
    let free = fs.statfs().expect("statfs").blocks_free;
    let [one, two] = [b"one".as_slice(), b"two"].map(|name| {
        let ino = fs.create(root, name, &NewFile::new(FILE)).expect("created").ino;
        assert_eq!(fs.write(ino, 0, &vec![name[0]; LEN]), Ok(LEN));
        fs.hold(ino).expect("held");
        fs.unlink(root, name, false).expect("unlinked");
        ino
    });
    drop(fs);

    // One is held twice by now, the other no more.
    let mut fs = next();
    let info = fs.mount_again(source, 0, &[one, one]).expect("mounted");
    let both = mounted::RESTORED | mounted::HELD;
    assert_eq!(info.flags & both, both);
    let mut out = vec![0; LEN + 1];
    assert_eq!(fs.read(one, 0, &mut out), Ok(LEN));
    assert!(out[..LEN].iter().all(|&byte| byte == b'o'));
    assert_eq!(fs.write(one, LEN as u64, b"more"), Ok(4));
    // Its number is nobody else's.
    let other = fs.create(root, b"other", &NewFile::new(FILE)).expect("created").ino;
    assert_ne!(other, one);
    fs.release(one).expect("released");
    assert_eq!(fs.attributes(one).map(|stat| stat.size), Ok(LEN as u64 + 4));
    drop(fs);

    let mut fs = next();
    let info = fs.mount_again(source, 0, &[one]).expect("mounted");
    assert_eq!(info.flags & both, both);
    assert_eq!(fs.read(one, LEN as u64, &mut out), Ok(4));
    fs.release(one).expect("released");
    assert_eq!(fs.attributes(one).map(|stat| stat.size), Err(Error::Stale));
    fs.unlink(root, b"other", false).expect("unlinked");
    drop(fs);

    // What is not there is not held, nor anything else.
    let mut fs = next();
    let three = fs
        .mount(source, 0)
        .and_then(|info| fs.create(info.root, b"three", &NewFile::new(FILE)).map(|stat| stat.ino));
    let three = three.expect("created");
    fs.hold(three).expect("held");
    fs.unlink(root, b"three", false).expect("unlinked");
    drop(fs);
    let mut fs = next();
    let info = fs.mount_again(source, 0, &[three, u64::MAX - 1]).expect("mounted");
    assert_eq!(info.flags & mounted::HELD, 0);
    assert!(fs.attributes(two).is_err() || two == three);
    assert_eq!(list(&mut fs, root, 4096).expect("names"), before);
    assert_eq!(fs.statfs().expect("statfs").blocks_free, free);
    fs.unmount().expect("unmounted");
}
