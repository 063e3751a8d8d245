//! What fsync promises, as a workload that keeps book of it.
//!
//! ```ignore
//! let promises = promises::workload(&mut fs, root, &image, seed);
//! let cut = image.recording().cut(&mut random);
//! // mount cut.image, which repairs or replays, then:
//! promises::assert_kept(&mut fs, root, &promises[mark], "seed 1");
//! ```

use std::collections::BTreeMap;

use xinim_abi::services::vfs::mode;
use xinim_fs_kit::{FileSystem, Ino, NewFile, SetAttributes};

use crate::{Image, Random};

/// What was fsynced: name in the root and content, by the mark set then. A name that is changed
/// afterwards is taken out by the next mark.
pub type Promises = Vec<BTreeMap<String, Vec<u8>>>;

/// A name is about to change: what was promised of it holds no longer.
fn withdraw(promise: &mut BTreeMap<String, Vec<u8>>, name: &str) {
    promise.retain(|names, _| names.split('|').all(|own| own != name));
}

/// A workload with fsyncs; the promise in force after mark `n` is element `n`.
pub fn workload<F: FileSystem>(fs: &mut F, root: Ino, image: &Image, seed: u64) -> Promises {
    let mut random = Random::new(seed);
    image.record();
    let mut promises: Promises = vec![BTreeMap::new()];
    let mut now: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    image.mark(0);
    for step in 0..60 {
        let name = format!("f{}", random.below(8));
        let other = format!("f{}", random.below(8));
        let data = vec![step as u8 + 1; random.below(24_000) as usize];
        // From before the change until the next fsync a file may be old or new: no promise.
        let mut promise = promises.last().expect("one").clone();
        match random.below(8) {
            0..3 => {
                withdraw(&mut promise, &name);
                promises.push(promise);
                image.mark(promises.len() as u64 - 1);
                let ino = match fs.lookup(root, name.as_bytes()) {
                    Ok(stat) => stat.ino,
                    Err(_) => {
                        fs.create(root, name.as_bytes(), &NewFile::new(mode::REGULAR | 0o644))
                            .expect("create")
                            .ino
                    }
                };
                let size = Some(0);
                let cut = SetAttributes { size, ..Default::default() };
                fs.set_attributes(ino, &cut).expect("truncate");
                assert_eq!(fs.write(ino, 0, &data), Ok(data.len()));
                now.insert(name.clone(), data);
                if random.below(2) == 0 {
                    fs.fsync(ino).expect("fsync");
                    promises.push(now.clone());
                    image.mark(promises.len() as u64 - 1);
                }
            }
            3 => {
                withdraw(&mut promise, &name);
                promises.push(promise);
                image.mark(promises.len() as u64 - 1);
                let _ = fs.unlink(root, name.as_bytes(), false);
                now.remove(&name);
            }
            4 | 5 => {
                // The old way to replace a file: write another, fsync it, rename it. The target is
                // one of the two at any time, so a promised target stays promised in some form;
                // what is checked here is that the file is not lost under both names.
                if name != other && now.contains_key(&name) {
                    let held = promise.get(&name) == now.get(&name);
                    withdraw(&mut promise, &name);
                    withdraw(&mut promise, &other);
                    if held {
                        promise.insert(format!("{name}|{other}"), now[&name].clone());
                    }
                    promises.push(promise);
                    image.mark(promises.len() as u64 - 1);
                    fs.rename((root, name.as_bytes()), (root, other.as_bytes())).expect("rename");
                    let data = now.remove(&name).expect("there");
                    now.insert(other, data);
                }
            }
            6 => {
                let _ = fs.create(
                    root,
                    format!("d{step}").as_bytes(),
                    &NewFile::new(mode::DIRECTORY | 0o755),
                );
            }
            _ => {
                fs.sync().expect("sync");
                promises.push(now.clone());
                image.mark(promises.len() as u64 - 1);
            }
        }
    }
    promises
}

/// What a promise says is there: under its name, or under either of two. `what` goes into the
/// message.
pub fn assert_kept<F: FileSystem>(
    fs: &mut F,
    root: Ino,
    promise: &BTreeMap<String, Vec<u8>>,
    what: &str,
) {
    for (names, data) in promise {
        let found = names.split('|').any(|name| {
            let Ok(stat) = fs.lookup(root, name.as_bytes()) else { return false };
            let mut content = vec![0; stat.size as usize];
            fs.read(stat.ino, 0, &mut content) == Ok(data.len()) && content == *data
        });
        assert!(found, "{what}: {names} with {} bytes was fsynced", data.len());
    }
}
