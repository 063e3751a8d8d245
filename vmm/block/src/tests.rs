//! Disks as a device sees them, each way of serving them against the same model.

use std::cell::UnsafeCell;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xinim_devices::dma::Segment;
use xinim_devices::testing::FlatMemory;
use xinim_machine::{Limits, Rate};

use super::*;

/// Guest memory for tests.
pub struct Ram {
    base: u64,
    bytes: Vec<UnsafeCell<u8>>,
}

// SAFETY: bytes are accessed by raw pointers only; a test looks at what it does not transfer.
unsafe impl Sync for Ram {}
// SAFETY: as above.
unsafe impl Send for Ram {}

// SAFETY: the vector is never resized, and all accesses are by raw pointer.
unsafe impl HostMemory for Ram {
    fn host_address(&self, address: u64, length: u64) -> Option<NonNull<u8>> {
        let start = address.checked_sub(self.base)?;
        let end = start.checked_add(length)?;
        let inside = length > 0 && end <= self.bytes.len() as u64;
        let cell = self.bytes.get(start as usize).filter(|_| inside)?;
        NonNull::new(cell.get())
    }
}

impl Ram {
    pub fn new(base: u64, size: usize) -> Arc<Self> {
        let bytes = (0..size).map(|_| UnsafeCell::new(0)).collect();
        Arc::new(Self { base, bytes })
    }

    pub fn dump(&self, at: usize, count: usize) -> Vec<u8> {
        // SAFETY: the cells are this test's while nothing is in flight.
        self.bytes[at..at + count].iter().map(|cell| unsafe { *cell.get() }).collect()
    }

    pub fn fill(&self, at: usize, count: usize, value: u8) {
        for cell in &self.bytes[at..at + count] {
            // SAFETY: as in `dump`.
            unsafe { *cell.get() = value };
        }
    }
}

/// A raw image with this content: the file, and the image over the same.
pub fn base_image(content: &[u8]) -> (File, RawImage) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    let clone = file.try_clone().unwrap();
    (file, RawImage::new(clone, content.len() as u64, true, CacheMode::Writeback).unwrap())
}

struct Rig {
    disk: HostDisk,
    ram: Arc<Ram>,
    dma: Arc<FlatMemory>,
    tag: u64,
}

impl Rig {
    fn new(spec: &DiskSpec) -> Self {
        let ram = Ram::new(0, 4 << 20);
        let disk = open(spec).unwrap().serve(ram.clone()).unwrap();
        Self { disk, ram, dma: FlatMemory::new(0, 0), tag: 0 }
    }

    fn submit(&mut self, operation: Operation, offset: u64, length: u64, at: u64) -> u64 {
        self.tag += 1;
        let segments = match operation {
            Operation::Read | Operation::Write { .. } => {
                // In two pieces, of which neither is aligned.
                let first = (length / 3) as u32;
                let rest = length as u32 - first;
                vec![
                    Segment { address: at, length: first },
                    Segment { address: at + u64::from(first), length: rest },
                ]
            }
            _ => Vec::new(),
        };
        let request = Request { tag: self.tag, operation, offset, length, segments };
        self.disk.submit(request, &*self.dma);
        self.tag
    }

    /// Completions until nothing is in flight, by sleeping on the descriptors as a machine does.
    fn finish(&mut self) -> Vec<Completion> {
        self.disk.start();
        let mut all = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            while let Some(completion) = self.disk.poll() {
                all.push(completion);
            }
            if self.disk.in_flight() == 0 {
                return all;
            }
            assert!(Instant::now() < deadline, "lost completions");
            let wakes = self.disk.wakes();
            let mut fds: Vec<_> =
                wakes.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
            let timeout = Timespec { tv_sec: 5, tv_nsec: 0 };
            let ready = poll(&mut fds, Some(&timeout)).unwrap();
            assert!(ready > 0, "nobody woke the machine");
        }
    }

    fn run(&mut self, operation: Operation, offset: u64, length: u64) -> Result<(), BackendError> {
        let tag = self.submit(operation, offset, length, 0);
        let all = self.finish();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].tag, tag);
        all[0].result
    }
}

const WRITE: Operation = Operation::Write { fua: false };

fn image(directory: &Path, length: u64) -> std::path::PathBuf {
    let path = directory.join("disk.img");
    File::create(&path).unwrap().set_len(length).unwrap();
    path
}

/// Every way to serve a disk: raw by ring and by threads, with all caches, overlays, qcow2.
fn kinds(directory: &Path) -> Vec<(String, DiskSpec)> {
    let mut kinds = Vec::new();
    for io in [IoMethod::Auto, IoMethod::Uring, IoMethod::Threads] {
        for cache in
            [CacheMode::Writeback, CacheMode::Writethrough, CacheMode::None, CacheMode::Unsafe]
        {
            let name = format!("{io:?} {cache:?}");
            let path = directory.join(&name);
            File::create(&path).unwrap().set_len(1 << 20).unwrap();
            kinds.push((name, DiskSpec { io, cache, ..DiskSpec::file(path) }));
        }
    }
    let spec = DiskSpec { snapshot: true, ..DiskSpec::file(image(directory, 1 << 20)) };
    kinds.push(("snapshot".into(), spec));
    kinds.push(("blank".into(), DiskSpec::blank(1 << 20)));
    let qcow2 = directory.join("disk.qcow2");
    if qemu_img(&["create", "-q", "-f", "qcow2", qcow2.to_str().unwrap(), "1M"]) {
        kinds.push(("qcow2".into(), DiskSpec::file(qcow2)));
    }
    kinds
}

fn qemu_img(args: &[&str]) -> bool {
    match Command::new("qemu-img").args(args).output() {
        Ok(output) => {
            assert!(output.status.success(), "{args:?}: {output:?}");
            true
        }
        Err(_) => {
            xinim_machine::testing::skip("qcow2 images", "qemu-img is not installed");
            false
        }
    }
}

#[test]
fn every_kind_of_disk_is_an_array() {
    let directory = tempfile::tempdir().unwrap();
    for (name, spec) in kinds(directory.path()) {
        let mut rig = Rig::new(&spec);
        let mut model = vec![0u8; 1 << 20];
        let mut random = 0x1234_5678u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) % below
        };
        for step in 0..120u8 {
            let sector = next(2048);
            let count = (1 + next(300)).min(2048 - sector);
            let (offset, length) = (sector * 512, count * 512);
            let range = offset as usize..(offset + length) as usize;
            match next(8) {
                0..3 => {
                    rig.ram.fill(0, length as usize, step);
                    let fua = next(4) == 0;
                    assert_eq!(rig.run(Operation::Write { fua }, offset, length), Ok(()), "{name}");
                    model[range].fill(step);
                }
                3 => {
                    let unmap = next(2) == 0;
                    let zeroes = Operation::WriteZeroes { unmap };
                    assert_eq!(rig.run(zeroes, offset, length), Ok(()), "{name}");
                    model[range].fill(0);
                }
                4 => assert_eq!(rig.run(Operation::Flush, 0, 0), Ok(()), "{name}"),
                5 => {
                    // Undefined afterwards, so made definite.
                    assert_eq!(rig.run(Operation::Discard, offset, length), Ok(()), "{name}");
                    let zeroes = Operation::WriteZeroes { unmap: true };
                    assert_eq!(rig.run(zeroes, offset, length), Ok(()), "{name}");
                    model[range].fill(0);
                }
                _ => {
                    assert_eq!(rig.run(Operation::Read, offset, length), Ok(()), "{name}");
                    assert!(rig.ram.dump(0, length as usize) == model[range], "{name} at {sector}");
                }
            }
        }
        assert_eq!(rig.run(Operation::Read, 0, 1 << 20), Ok(()), "{name}");
        assert!(rig.ram.dump(0, 1 << 20) == model, "{name}");
        drop(rig);
        // What is to last has lasted; what is not has not.
        let lasts = spec.writes_file() && spec.source != DiskSource::New(1 << 20);
        if lasts {
            let mut again = Rig::new(&DiskSpec { read_only: true, ..spec });
            assert_eq!(again.run(Operation::Read, 0, 1 << 20), Ok(()), "{name}");
            assert!(again.ram.dump(0, 1 << 20) == model, "{name}");
        } else if let DiskSource::File(path) = &spec.source {
            assert!(std::fs::read(path).unwrap().iter().all(|byte| *byte == 0), "{name}");
        }
    }
}

#[test]
fn a_full_queue_completes_whole() {
    let directory = tempfile::tempdir().unwrap();
    for (name, spec) in kinds(directory.path()) {
        let mut rig = Rig::new(&spec);
        for i in 0..1024u64 {
            rig.ram.fill(i as usize * 512, 512, i as u8 ^ (i >> 3) as u8);
            rig.submit(WRITE, i * 512, 512, i * 512);
        }
        let all = rig.finish();
        assert!(all.iter().all(|completion| completion.result == Ok(())), "{name}");
        let mut tags: Vec<_> = all.iter().map(|completion| completion.tag).collect();
        tags.sort_unstable();
        assert_eq!(tags, (1..=1024).collect::<Vec<_>>(), "{name}");
        let written = rig.ram.dump(0, 512 << 10);
        for i in 0..1024 {
            rig.submit(Operation::Read, i * 512, 512, (1 << 20) + i * 512);
        }
        assert!(rig.finish().iter().all(|completion| completion.result == Ok(())), "{name}");
        assert!(rig.ram.dump(1 << 20, 512 << 10) == written, "{name}");
    }
}

#[test]
fn bad_requests_come_back_as_errors() {
    let directory = tempfile::tempdir().unwrap();
    for (name, spec) in kinds(directory.path()) {
        let mut rig = Rig::new(&spec);
        assert_eq!(rig.run(WRITE, 1 << 20, 512), Err(BackendError::INVALID), "{name}");
        assert_eq!(rig.run(Operation::Read, u64::MAX - 511, 512), Err(BackendError::INVALID));
        rig.submit(Operation::Read, 0, 1024, (4 << 20) - 512);
        assert_eq!(rig.finish()[0].result, Err(BackendError::FAULT), "{name}");
        assert_eq!(rig.run(Operation::Read, 0, 0), Ok(()), "{name}");
    }
    let path = image(directory.path(), 4096);
    let mut rig = Rig::new(&DiskSpec { read_only: true, ..DiskSpec::file(path) });
    assert_eq!(rig.run(WRITE, 0, 512), Err(BackendError::READ_ONLY));
}

#[test]
fn a_shrunken_image_is_an_error_not_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    for io in [IoMethod::Auto, IoMethod::Uring, IoMethod::Threads] {
        let path = image(directory.path(), 8192);
        let mut rig = Rig::new(&DiskSpec { io, ..DiskSpec::file(&path) });
        File::options().write(true).open(&path).unwrap().set_len(1024).unwrap();
        assert_eq!(rig.run(Operation::Read, 0, 4096), Err(BackendError::UNKNOWN));
        assert_eq!(rig.run(Operation::Read, 0, 1024), Ok(()));
    }
}

#[test]
fn a_write_that_the_host_refuses_keeps_its_errno() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path(), 64 << 10);
    let file = File::options().read(true).open(&path).unwrap();
    // Open for reading only, which the host notices at the write.
    let image = RawImage::new(file, 64 << 10, false, CacheMode::Writeback).unwrap();
    let image: Arc<dyn Image> = Arc::new(image);
    let ram = Ram::new(0, 4 << 20);
    for engine in [
        Engine::Uring(Box::new(Uring::new(image.clone()).unwrap())),
        Engine::Pool(Pool::new(image.clone()).unwrap()),
    ] {
        let disk = HostDisk {
            engine,
            throttle: None,
            image: image.clone(),
            memory: ram.clone(),
            cache: CacheMode::Writeback,
            done: VecDeque::new(),
            in_flight: 0,
            _files: None,
        };
        let mut rig = Rig { disk, ram: ram.clone(), dma: FlatMemory::new(0, 0), tag: 0 };
        assert_eq!(rig.run(WRITE, 0, 512), Err(BackendError { errno: libc::EBADF }));
    }
}

#[test]
fn limits_hold_and_waiting_requests_can_be_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let rate = Rate { per_second: 200, burst: 2 };
    let limits = Limits { operations: Some(rate), bytes: None };
    for io in [IoMethod::Auto, IoMethod::Uring, IoMethod::Threads] {
        let path = image(directory.path(), 1 << 20);
        let mut rig = Rig::new(&DiskSpec { limits, io, ..DiskSpec::file(path) });
        let start = Instant::now();
        for i in 0..22 {
            rig.submit(WRITE, i * 512, 512, 0);
        }
        assert_eq!(rig.finish().len(), 22);
        assert!(start.elapsed() >= Duration::from_millis(95), "{:?}", start.elapsed());

        for i in 0..1000 {
            rig.submit(WRITE, i * 512, 512, 0);
        }
        rig.disk.start();
        rig.disk.cancel();
        let start = Instant::now();
        let all = rig.finish();
        assert_eq!(all.len(), 1000);
        let cancelled = all.iter().filter(|c| c.result == Err(BackendError::CANCELLED)).count();
        assert!(cancelled >= 900, "{cancelled}");
        assert!(start.elapsed() < Duration::from_secs(4));
    }
}

#[test]
fn sizes_change_at_run_time() {
    let directory = tempfile::tempdir().unwrap();
    for (name, spec) in kinds(directory.path()) {
        let mut rig = Rig::new(&spec);
        let handle = rig.disk.handle();
        rig.ram.fill(0, 512, 9);
        assert_eq!(rig.run(WRITE, (1 << 20) - 512, 512), Ok(()), "{name}");
        handle.resize(2 << 20).unwrap();
        assert_eq!(BlockBackend::info(&rig.disk).length, 2 << 20, "{name}");
        assert_eq!(rig.run(Operation::Read, (1 << 20) - 512, 1024), Ok(()), "{name}");
        assert_eq!(rig.ram.dump(0, 512), [9; 512], "{name}");
        assert_eq!(rig.ram.dump(512, 512), [0; 512], "{name}");
        assert!(handle.resize(1000).unwrap_err().contains("multiple"), "{name}");
        handle.resize(512 << 10).unwrap();
        assert_eq!(rig.run(Operation::Read, 512 << 10, 512), Err(BackendError::INVALID));
    }
    let path = image(directory.path(), 4096);
    let spec = DiskSpec { read_only: true, ..DiskSpec::file(path) };
    assert!(Rig::new(&spec).disk.handle().resize(512).unwrap_err().contains("read-only"));
}

#[test]
fn qcow2_images_and_their_backing_files_agree_with_qemu() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let content: Vec<u8> = (0..1u32 << 20).map(|i| (i / 777) as u8).collect();
    std::fs::write(path("base.img"), &content).unwrap();
    let (base, middle, top) = (path("base.img"), path("middle.qcow2"), path("top.qcow2"));
    if !qemu_img(&["convert", "-f", "raw", "-O", "qcow2", "-c", &base, &middle]) {
        return;
    }
    // A relative name, as people write them.
    qemu_img(&["create", "-q", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", &top]);
    let mut model = content.clone();
    {
        let mut rig = Rig::new(&DiskSpec::file(&top));
        assert_eq!(rig.run(Operation::Read, 0, 1 << 20), Ok(()));
        assert!(rig.ram.dump(0, 1 << 20) == content);
        rig.ram.fill(0, 70_000, 0xAB);
        let length = 70_000 / 512 * 512;
        assert_eq!(rig.run(WRITE, 65_536 - 512, length), Ok(()));
        model[65_536 - 512..65_536 - 512 + length as usize].fill(0xAB);
        assert_eq!(rig.run(Operation::WriteZeroes { unmap: true }, 512 << 10, 128 << 10), Ok(()));
        model[512 << 10..640 << 10].fill(0);
        assert_eq!(rig.run(Operation::Flush, 0, 0), Ok(()));
        // Nobody else writes it or what it stands on, meanwhile.
        for other in [&top, &middle] {
            assert!(open(&DiskSpec::file(other)).err().unwrap().contains("in use"));
        }
    }
    assert!(qemu_img(&["check", "-q", &top]));
    let (out, expected) = (path("out.img"), path("expected.img"));
    std::fs::write(&expected, &model).unwrap();
    assert!(qemu_img(&["convert", "-O", "raw", &top, &out]));
    assert!(std::fs::read(&out).unwrap() == model, "QEMU reads what was written");
    // And a snapshot over the whole chain.
    let mut rig = Rig::new(&DiskSpec { snapshot: true, ..DiskSpec::file(&top) });
    rig.ram.fill(0, 4096, 0xCD);
    assert_eq!(rig.run(WRITE, 0, 4096), Ok(()));
    assert_eq!(rig.run(Operation::Read, 0, 1 << 20), Ok(()));
    model[..4096].fill(0xCD);
    assert!(rig.ram.dump(0, 1 << 20) == model);
    drop(rig);
    assert!(qemu_img(&["compare", "-q", &top, &expected]));
}

#[test]
fn images_that_are_not_what_they_seem() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.img");
    let refused = |spec: &DiskSpec| open(spec).err().unwrap();
    std::fs::write(&path, b"QFI\xFB".repeat(1024)).unwrap();
    assert!(refused(&DiskSpec::file(&path)).contains("looks like qcow2"));
    let raw = DiskSpec { format: Some(DiskFormat::Raw), ..DiskSpec::file(&path) };
    assert!(open(&raw).is_ok());
    let qcow2 = DiskSpec { format: Some(DiskFormat::Qcow2), ..DiskSpec::file(&path) };
    let error = refused(&qcow2);
    assert!(error.contains("a.img"), "{error}");
    std::fs::write(&path, [0; 1024]).unwrap();
    assert!(refused(&qcow2).contains("not in qcow2 format"));
}
