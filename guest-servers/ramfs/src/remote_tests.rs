//! The same file system through messages: VFS's end and the server's end back to back.

use std::cell::RefCell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Request, decode_reply, error_message};
use xinim_abi::ipc::{Message, Tag, WORDS};
use xinim_abi::object::Handle;
use xinim_abi::services::fs::{WINDOW_LEN, fs};
use xinim_abi::services::vfs::mode;
use xinim_fs_kit::conformance::{self, Abilities};
use xinim_fs_kit::remote::{Remote, Transport};
use xinim_fs_kit::serve::Serve;
use xinim_fs_kit::{FileSystem, Window};

use crate::ramfs_tests::fresh;
use crate::{RamFs, Settings};

#[derive(Clone)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Window for Shared {
    fn len(&self) -> usize {
        self.0.borrow().len()
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        let bytes = self.0.borrow();
        let end = at.checked_add(out.len()).ok_or(Error::Fault)?;
        out.copy_from_slice(bytes.get(at..end).ok_or(Error::Fault)?);
        Ok(())
    }
    fn write(&self, at: usize, data: &[u8]) -> Result<()> {
        let mut bytes = self.0.borrow_mut();
        let end = at.checked_add(data.len()).ok_or(Error::Fault)?;
        bytes.get_mut(at..end).ok_or(Error::Fault)?.copy_from_slice(data);
        Ok(())
    }
}

struct Loopback {
    server: Serve<RamFs<'static>, Shared>,
    window: Shared,
    /// Mounts at which the next instances die.
    dying: u32,
    dead: bool,
}

impl Loopback {
    fn new() -> Self {
        let window = Shared(Rc::new(RefCell::new(vec![0; WINDOW_LEN])));
        Self { server: Serve::new(fresh()), window, dying: 0, dead: false }
    }
}

impl Transport for Loopback {
    type Window = Shared;
    fn call<R: Request>(&mut self, request: &R) -> Result<R::Reply> {
        if self.dead {
            return Err(Error::ServerDied);
        }
        let window = self.window.clone();
        let answer = self.server.call(&request.encode(), |_, _| Ok(window));
        decode_reply(&answer.unwrap_or_else(error_message))
    }
    fn window(&self) -> &Shared {
        &self.window
    }
    fn window_handle(&self) -> Handle {
        9
    }
    fn reconnect(&mut self) -> Result<()> {
        self.dead = self.dying > 0;
        self.dying = self.dying.saturating_sub(1);
        Ok(())
    }
}

fn remote() -> (Remote<Loopback>, u64) {
    let mut remote = Remote::new(Loopback::new());
    assert_eq!(remote.attributes(1).err(), Some(Error::NoDev), "not mounted yet");
    let root = remote.mount("none", 0).unwrap().root;
    (remote, root)
}

#[test]
fn conforms_through_messages() {
    conformance::check_all(&Abilities::default(), &mut remote);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn behaves_as_the_model_through_messages(seed: u64) {
        let (mut remote, root) = remote();
        conformance::model::exercise(&mut remote, root, &Abilities::default(), seed, 100);
    }

    #[test]
    fn any_message_is_answered(
        messages in prop::collection::vec((0u16..26, 0u64..3, any::<[u16; WORDS]>(), any::<bool>()), 1..50),
    ) {
        let (mut remote, _) = remote();
        for (op, handles, words, wild) in messages {
            let words = words.map(|word| match wild {
                true => u64::from(word) << 48 | u64::from(word),
                false => u64::from(word % 20),
            });
            let message = Message { tag: Tag::new(fs::INTERFACE << 8 | op, handles), words };
            let loopback = remote.transport();
            let window = loopback.window.clone();
            let _ = loopback.server.call(&message, |_, _| Ok(window));
        }
    }
}

#[test]
fn long_transfers_go_in_pieces() {
    let (mut remote, root) = remote();
    let ino =
        remote.create(root, b"f", &xinim_fs_kit::NewFile::new(mode::REGULAR | 0o644)).unwrap().ino;
    let data: Vec<u8> = (0..3 * WINDOW_LEN as u32).map(|n| (n / 5) as u8).collect();
    assert_eq!(remote.write(ino, 7, &data), Ok(data.len()));
    let mut back = vec![0; data.len() + 100];
    assert_eq!(remote.read(ino, 7, &mut back), Ok(data.len()));
    assert!(back[..data.len()] == data);
}

#[test]
fn a_new_instance_is_mounted_as_the_old_one() {
    let (mut remote, root) = remote();
    remote.transport().dead = true;
    assert_eq!(remote.attributes(root).err(), Some(Error::ServerDied));
    assert_eq!(remote.recover(&[]).map(|info| info.root), Ok(root));
    assert!(remote.attributes(root).is_ok());
    remote.transport().dead = true;
    remote.transport().dying = 2;
    assert!(remote.recover(&[]).is_ok(), "two die at their mount, the third lives");
    remote.transport().dead = true;
    remote.transport().dying = 3;
    assert_eq!(remote.recover(&[]), Err(Error::ServerDied));
}

#[test]
fn a_new_vfs_goes_on_with_the_mount() {
    let (mut remote, root) = remote();
    let new = xinim_fs_kit::NewFile::new(mode::REGULAR | 0o644);
    let ino = [b"a", b"b", b"c"].map(|name| remote.create(root, name, &new).unwrap().ino);
    for ino in ino {
        remote.hold(ino).unwrap();
        remote.write(ino, 0, b"data").unwrap();
    }
    for name in [b"a", b"b", b"c"] {
        remote.unlink(root, name, false).unwrap();
    }
    // The old instance had released one and held another twice when it died, and did not know.
    remote.release(ino[1]).unwrap();
    remote.hold(ino[2]).unwrap();
    let info = remote.attach(&[ino[0], ino[2]]).unwrap();
    assert_eq!(info.root, root);
    assert_eq!(remote.attributes(ino[1]).err(), Some(Error::Stale));
    for ino in [ino[0], ino[2]] {
        assert_eq!(remote.attributes(ino).unwrap().size, 4);
        remote.release(ino).unwrap();
        assert_eq!(remote.attributes(ino).err(), Some(Error::Stale), "no hold too many");
    }
    remote.unmount().unwrap();
    assert_eq!(remote.attach(&[]), Err(Error::NoDev));
}

#[test]
fn settings_are_used() {
    let settings = Settings { memory_limit: 1 << 20, clock: || 42 };
    let mut fs = RamFs::new(settings);
    let root = fs.mount("", 0).unwrap().root;
    assert_eq!(fs.attributes(root).unwrap().mtime, 42);
}
