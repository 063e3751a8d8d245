use std::path::Path;

use tempfile::TempDir;
use xinim_machine::DiskBus;

use super::*;

fn spec(path: &Path, read_only: bool) -> DiskSpec {
    DiskSpec { path: path.to_path_buf(), bus: DiskBus::Virtio, read_only }
}

fn image(directory: &TempDir, length: u64) -> std::path::PathBuf {
    let path = directory.path().join("disk.img");
    File::create(&path).unwrap().set_len(length).unwrap();
    path
}

#[test]
fn reads_return_what_was_written() {
    let directory = TempDir::new().unwrap();
    let mut disk = RawImage::open(&spec(&image(&directory, 4096), false)).unwrap();
    assert_eq!((disk.length, disk.read_only), (4096, false));
    disk.write_at(512, &[5; 512]).unwrap();
    disk.flush().unwrap();
    let mut data = [0; 1024];
    disk.read_at(0, &mut data).unwrap();
    assert_eq!((data[511], data[512], data[1023]), (0, 5, 5));
}

#[test]
fn a_shrunken_image_is_an_error_not_a_panic() {
    let directory = TempDir::new().unwrap();
    let path = image(&directory, 4096);
    let mut disk = RawImage::open(&spec(&path, false)).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(512).unwrap();
    assert_eq!(disk.read_at(1024, &mut [0; 512]), Err(BackendError { errno: 0 }));
}

#[test]
fn a_writer_excludes_everyone_and_readers_share() {
    let directory = TempDir::new().unwrap();
    let path = image(&directory, 4096);
    let writer = RawImage::open(&spec(&path, false)).unwrap();
    for read_only in [false, true] {
        let error = RawImage::open(&spec(&path, read_only)).unwrap_err();
        assert!(error.contains("in use") && error.contains("disk.img"), "{error}");
    }
    drop(writer);
    let reader = RawImage::open(&spec(&path, true)).unwrap();
    let _second = RawImage::open(&spec(&path, true)).unwrap();
    assert!(RawImage::open(&spec(&path, false)).unwrap_err().contains("in use"));
    drop(reader);
}

#[test]
fn unfit_images_are_refused_in_a_sentence() {
    let directory = TempDir::new().unwrap();
    let message = |path: &Path| RawImage::open(&spec(path, true)).unwrap_err();
    assert!(message(&directory.path().join("none")).contains("does not exist"));
    assert!(message(directory.path()).contains("regular file"));
    assert!(message(Path::new("/dev/null")).contains("regular file"));
    assert!(message(&image(&directory, 1000)).contains("multiple of 512"));
    assert!(message(&image(&directory, 0)).contains("is empty"));
    let error = RawImage::open(&spec(directory.path(), false)).unwrap_err();
    assert!(error.contains("directory"), "{error}");
}
