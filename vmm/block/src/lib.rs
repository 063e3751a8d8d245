//! Disk images on the host, as [`BlockBackend`]s.
//!
//! ```text
//!   device model --submit--> HostDisk --> Throttle --> Uring   plain files
//!                                            |    `--> Pool    writes to the host's page cache; qcow2,
//!                                            |                 overlays, hosts without io_uring
//!                <--poll-----------------------------------'
//!                             wake descriptors --> the machine's epoll
//! ```
//! [`open`] and [`OpenDisk::serve`] make one of a [`DiskSpec`]: raw or [`qcow2`], under an [`overlay`] for `snapshot` and
//! `new:SIZE`. Nothing that a device does waits for the host; host errors come back as
//! completions. Data go straight between files and guest memory ([`memory`]), except for qcow2.
//!
//! Dropping a disk waits for what the host is doing for it.
#![deny(unsafe_code)]

pub mod image;
pub mod limits;
#[allow(unsafe_code)]
pub mod memory;
pub mod overlay;
mod pool;
pub mod qcow2;
pub mod raw;
mod throttle;
#[allow(unsafe_code)]
mod uring;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use xinim_devices::backend::{
    BackendError, BlockBackend, BlockInfo, Completion, Operation, Request,
};
use xinim_devices::dma::Dma;
use xinim_machine::image::Opened;
use xinim_machine::{CacheMode, DiskFormat, DiskSource, DiskSpec, IoMethod};

use image::Image;
use memory::{HostMemory, Pieces};
use overlay::Overlay;
use pool::{Job, Pool};
use qcow2::Qcow2Image;
use raw::RawImage;
use throttle::Throttle;
use uring::Uring;

/// An open disk, as the machine keeps it beside the device that has the [`HostDisk`].
#[derive(Clone)]
pub struct DiskHandle {
    image: Arc<dyn Image>,
}

impl DiskHandle {
    pub fn info(&self) -> BlockInfo {
        self.image.info()
    }

    /// Gives the image another length in bytes; the device must then be told
    /// ([`resized`](xinim_devices::backend::DriveBays::resized)). Waits for the host.
    pub fn resize(&self, length: u64) -> Result<(), String> {
        let info = self.image.info();
        if info.read_only {
            return Err("it is read-only".into());
        }
        if length == 0 || !length.is_multiple_of(info.logical_block.into()) {
            return Err(format!("{length} bytes are no multiple of {}", info.logical_block));
        }
        self.image.resize(length).map_err(|error| error.to_string())
    }
}

/// Who carries requests out.
///
/// A write to the page cache is never done within the submission (file systems take none without
/// waiting); io_uring gives those of one file to one worker, one after the other, and each completes
/// alone, as an interrupt of its own. Threads copy several at once, and what they finish meanwhile is
/// taken together.
enum Engine {
    Uring(Box<Uring>),
    Pool(Pool),
    /// Writes by threads, everything else by io_uring.
    Both(Box<Uring>, Pool),
}

impl Engine {
    fn parts(&mut self) -> (Option<&mut Uring>, Option<&mut Pool>) {
        match self {
            Engine::Uring(uring) => (Some(uring), None),
            Engine::Pool(pool) => (None, Some(pool)),
            Engine::Both(uring, pool) => (Some(uring), Some(pool)),
        }
    }

    fn submit(&mut self, job: Job) {
        let write = matches!(job.operation, Operation::Write { .. });
        match self.parts() {
            (Some(uring), None) => uring.submit(job),
            (Some(uring), Some(_)) if !write => uring.submit(job),
            (_, Some(pool)) => pool.submit(job),
            (None, None) => {}
        }
    }

    fn start(&mut self) {
        if let (Some(uring), _) = self.parts() {
            uring.start();
        }
    }

    fn poll(&mut self) -> Option<Completion> {
        let (uring, pool) = self.parts();
        uring.and_then(Uring::poll).or_else(|| pool.and_then(Pool::poll))
    }
}

/// A disk for a device model.
pub struct HostDisk {
    // Dropped first: it waits for the host.
    engine: Engine,
    throttle: Option<Throttle>,
    image: Arc<dyn Image>,
    memory: Arc<dyn HostMemory>,
    cache: CacheMode,
    done: VecDeque<Completion>,
    in_flight: usize,
    /// The images' locks.
    _files: Option<Opened>,
}

/// A disk whose files are open and locked, before it has a machine.
pub struct OpenDisk {
    spec: DiskSpec,
    image: Arc<dyn Image>,
    files: Option<Opened>,
}

/// Opens a disk. The error is a sentence for the user.
pub fn open(spec: &DiskSpec) -> Result<OpenDisk, String> {
    let files = xinim_machine::image::open(spec)?;
    let name = match &spec.source {
        DiskSource::File(path) => format!("disk image {}", path.display()),
        DiskSource::New(_) => "a blank disk".into(),
    };
    let failed = |error: std::io::Error| format!("{name} cannot be used: {error}");
    let image: Arc<dyn Image> = match (&spec.source, &files) {
        (DiskSource::File(path), Some(opened)) => {
            let base: Box<dyn Image> = match spec.format() {
                DiskFormat::Raw => {
                    let length = xinim_machine::image::raw_length(&opened.file, path)?;
                    let file = opened.file.try_clone().map_err(failed)?;
                    let raw = RawImage::new(file, length, !spec.writes_file(), spec.cache);
                    Box::new(raw.map_err(|error| match spec.cache {
                        CacheMode::None => format!("{name} cannot bypass the page cache: {error}"),
                        _ => failed(error),
                    })?)
                }
                DiskFormat::Qcow2 => {
                    let image = Qcow2Image::open(path, spec.writes_file(), spec.cache);
                    Box::new(image.map_err(failed)?)
                }
            };
            if spec.snapshot {
                let length = base.info().length;
                Arc::new(Overlay::new(Some(base), length).map_err(failed)?)
            } else {
                Arc::from(base)
            }
        }
        (DiskSource::New(bytes), _) => Arc::new(Overlay::new(None, *bytes).map_err(failed)?),
        (DiskSource::File(_), None) => return Err(format!("{name} has no file")),
    };
    Ok(OpenDisk { spec: spec.clone(), image, files })
}

impl OpenDisk {
    pub fn spec(&self) -> &DiskSpec {
        &self.spec
    }

    /// Ready to serve a machine with this RAM. The error is a sentence for the user.
    pub fn serve(self, memory: Arc<dyn HostMemory>) -> Result<HostDisk, String> {
        let Self { spec, image, files } = self;
        let failed = |error| format!("a disk cannot be served: {error}");
        let engine = engine(spec.io, spec.cache, &image).map_err(failed)?;
        let throttle = match spec.limits.any() {
            true => Some(Throttle::new(&spec.limits).map_err(failed)?),
            false => None,
        };
        let (cache, done) = (spec.cache, VecDeque::new());
        Ok(HostDisk { engine, throttle, image, memory, cache, done, in_flight: 0, _files: files })
    }
}

fn engine(method: IoMethod, cache: CacheMode, image: &Arc<dyn Image>) -> std::io::Result<Engine> {
    let uring = match method {
        IoMethod::Auto | IoMethod::Uring if image.as_raw().is_some() => {
            match Uring::new(image.clone()) {
                Ok(uring) => Some(Box::new(uring)),
                Err(error) if method == IoMethod::Uring => return Err(error),
                Err(_) => None,
            }
        }
        _ => None,
    };
    let alone = method == IoMethod::Uring || cache == CacheMode::None;
    Ok(match uring {
        Some(uring) if alone => Engine::Uring(uring),
        Some(uring) => Engine::Both(uring, Pool::new(image.clone())?),
        None => Engine::Pool(Pool::new(image.clone())?),
    })
}

impl HostDisk {
    /// The descriptors that say, by becoming readable, that [`BlockBackend::poll`] has something
    /// to do. To be watched edge-triggered; nothing has to be read from them.
    pub fn wakes(&self) -> Vec<BorrowedFd<'_>> {
        let mut wakes = match &self.engine {
            Engine::Uring(uring) => vec![uring.wake()],
            Engine::Pool(pool) => vec![pool.wake()],
            Engine::Both(uring, pool) => vec![uring.wake(), pool.wake()],
        };
        wakes.extend(self.throttle.as_ref().map(Throttle::wake));
        wakes
    }

    pub fn handle(&self) -> DiskHandle {
        DiskHandle { image: self.image.clone() }
    }

    /// `uring`, `threads`, or both.
    pub fn method(&self) -> &'static str {
        match self.engine {
            Engine::Uring(_) => "uring",
            Engine::Pool(_) => "threads",
            Engine::Both(..) => "uring+threads",
        }
    }

    fn prepare(&self, request: Request) -> Result<Job, BackendError> {
        request.check(&self.image.info())?;
        let Request { tag, operation, offset, length, segments } = request;
        let data = Pieces::of_guest(&self.memory, &segments).ok_or(BackendError::FAULT)?;
        let operation = match operation {
            Operation::Write { .. } if self.cache == CacheMode::Unsafe => {
                Operation::Write { fua: false }
            }
            other => other,
        };
        Ok(Job { tag, operation, offset, length, data })
    }

    fn begin(&mut self, job: Job) {
        let nothing = match job.operation {
            Operation::Flush => self.cache == CacheMode::Unsafe,
            _ => job.length == 0,
        };
        if nothing {
            self.done.push_back(Completion { tag: job.tag, result: Ok(()) });
            return;
        }
        self.engine.submit(job);
    }

    /// Sends on what the limits let pass.
    fn release(&mut self) {
        while let Some(job) = self.throttle.as_mut().and_then(Throttle::next) {
            self.begin(job);
        }
        self.engine.start();
    }
}

impl BlockBackend for HostDisk {
    fn info(&self) -> BlockInfo {
        self.image.info()
    }

    fn submit(&mut self, request: Request, _dma: &dyn Dma) {
        self.in_flight += 1;
        let tag = request.tag;
        match (self.prepare(request), &mut self.throttle) {
            (Ok(job), Some(throttle)) => throttle.submit(job),
            (Ok(job), None) => self.begin(job),
            (Err(error), _) => self.done.push_back(Completion { tag, result: Err(error) }),
        }
    }

    fn start(&mut self) {
        self.release();
    }

    fn poll(&mut self) -> Option<Completion> {
        if self.in_flight == 0 {
            return None;
        }
        if self.throttle.is_some() {
            self.release();
        }
        let completion = self.done.pop_front();
        let completion = completion.or_else(|| self.throttle.as_mut().and_then(Throttle::poll));
        let completion = completion.or_else(|| self.engine.poll())?;
        self.in_flight -= 1;
        Some(completion)
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn cancel(&mut self) {
        if let Some(throttle) = &mut self.throttle {
            throttle.cancel();
        }
        if let (_, Some(pool)) = self.engine.parts() {
            pool.cancel();
        }
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
#[path = "tests.rs"]
mod tests;
