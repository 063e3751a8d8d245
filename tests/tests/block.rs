//! Block devices as files and their tools, in the guest on both engines.

use std::fs;

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image, fsck_fat, noise, tool};
use xinim_tests::machine::{engines, exec};

/// What allows ringbench to write.
const SCRATCH: &[u8] = b"XINIM BENCH SCRATCH";

#[test]
fn raw_devices_are_files_and_a_mounted_one_is_nobody_elses() {
    for engine in engines("raw_devices_are_files_and_a_mounted_one_is_nobody_elses") {
        let dir = tempdir().expect("directory");
        let (image, plain) = (dir.path().join("fat.img"), dir.path().join("plain.img"));
        fat_image(&image, 48 << 20, 32);
        let mut bytes = noise(7, 4 << 20);
        fs::write(&plain, &bytes).expect("image");
        // Odd offsets and lengths; an end; then the first disk while it is mounted and after.
        let script = "
            printf hello | dd of=/dev/vdb bs=1 seek=1000003 conv=notrunc,fsync status=none
            dd if=/dev/vdb bs=1 skip=1000003 count=5 status=none; echo
            stat -c %s /dev/vdb
            printf xyz | dd of=/dev/vdb bs=1 seek=4194303 status=none; echo end $?
            mount /dev/vda /mnt && echo data > /mnt/file
            echo x | dd of=/dev/vda bs=512 seek=2000 conv=notrunc status=none; echo busy $?
            dd if=/dev/vda of=/dev/null bs=64k count=16 status=none; echo read $?
            umount /mnt
            dd if=/dev/vda bs=512 skip=2000 count=1 status=none > /tmp/s
            dd if=/tmp/s of=/dev/vda bs=512 seek=2000 conv=notrunc status=none; echo free $?";
        let output = exec(engine, script, &["--disk", arg(&image), "--disk", arg(&plain)]);
        let output = output.output().expect(0);
        let expected = "hello\n4194304\nend 1\nbusy 1\nread 0\nfree 0\n";
        assert_eq!(output.out(), expected, "{engine}: {}", output.err());
        assert!(output.err().contains("device or resource busy"), "{}", output.err());
        bytes[1_000_003..1_000_008].copy_from_slice(b"hello");
        bytes[4_194_303] = b'x';
        assert!(fs::read(&plain).expect("image") == bytes, "{engine}: not what was written");
    }
}

/// On both buses, through VFS, devfs, the driver and the model, down to holes in the image.
#[test]
fn discarded_blocks_become_holes_of_the_image() {
    use std::os::unix::fs::MetadataExt;
    const MIB: usize = 1 << 20;
    for engine in engines("discarded_blocks_become_holes_of_the_image") {
        let dir = tempdir().expect("directory");
        let images = [dir.path().join("virtio.img"), dir.path().join("ahci.img")];
        let bytes = noise(11, 16 * MIB);
        for image in &images {
            fs::write(image, &bytes).expect("image");
        }
        let script = "for d in vda sda; do
                blkdiscard -v -o 1M -l 8M /dev/$d
                blkdiscard -z -o 12M -l 1M /dev/$d
                blkdiscard -o 13000k -l 100 /dev/$d 2> /dev/null; echo $?
                blkdiscard -o 1G /dev/$d 2> /dev/null; echo $?
                blkdiscard -v -p 512k -o 15M /dev/$d
                mkfs.ext2 /dev/$d 4096 > /dev/null; mount /dev/$d /mnt
                blkdiscard /dev/$d 2> /dev/null; echo $?
                blkdiscard -f /dev/$d 2> /dev/null; echo $?
                umount /mnt
            done; blkdiscard /tmp 2> /dev/null; echo $?";
        let ahci = format!("{},bus=ahci", arg(&images[1]));
        let disks = ["--disk", arg(&images[0]), "--disk", &ahci];
        let output = exec(engine, script, &disks).output().expect(0);
        let told = |d: &str| {
            format!(
                "/dev/{d}: Discarded 8388608 bytes from the offset 1048576\n1\n1\n\
                 /dev/{d}: Discarded 524288 bytes from the offset 15728640\n\
                 /dev/{d}: Discarded 524288 bytes from the offset 16252928\n1\n1\n"
            )
        };
        let expected = format!("{}{}1\n", told("vda"), told("sda"));
        assert_eq!(output.out(), expected, "{engine}: {}", output.err());
        for image in &images {
            let now = fs::read(image).expect("image");
            // The file system is in the first 4 MiB.
            assert!(now[4 * MIB..9 * MIB].iter().all(|&byte| byte == 0), "{engine}: discarded");
            assert!(now[9 * MIB..12 * MIB] == bytes[9 * MIB..12 * MIB], "{engine}: between");
            assert!(now[12 * MIB..13 * MIB].iter().all(|&byte| byte == 0), "{engine}: zeros");
            assert!(now[13 * MIB..15 * MIB] == bytes[13 * MIB..15 * MIB], "{engine}: behind");
            let taken = fs::metadata(image).expect("image").blocks() as usize * 512;
            assert!(taken <= 11 * MIB, "{engine}: {taken} bytes are taken on the host");
        }
    }
}

/// `fstrim` of each format that has it: what a removed file held becomes holes, and nothing else.
#[test]
fn trimmed_volumes_keep_their_files_only() {
    use std::os::unix::fs::MetadataExt;
    const MIB: usize = 1 << 20;
    for engine in engines("trimmed_volumes_keep_their_files_only") {
        let dir = tempdir().expect("directory");
        let files = dir.path().join("files");
        fs::create_dir(&files).expect("directory");
        let kept = noise(21, 5 * MIB);
        for (name, bytes) in [("kept", &kept), ("gone", &noise(22, 20 * MIB))] {
            fs::write(files.join(name), bytes).expect("file");
        }
        let fat = [16, 32].map(|width| {
            let image = dir.path().join(format!("fat{width}.img"));
            fat_image(&image, 64 << 20, width);
            let names = ["kept", "gone"].map(|name| files.join(name));
            tool("mcopy", &["-i", arg(&image), arg(&names[0]), arg(&names[1]), "::/"]);
            image
        });
        let ext = dir.path().join("ext4.img");
        fs::File::create(&ext).and_then(|file| file.set_len(64 << 20)).expect("image");
        tool("mke2fs", &["-q", "-t", "ext4", "-d", arg(&files), arg(&ext)]);
        let images = [&fat[0], &fat[1], &ext];
        let before = images.map(|image| fs::metadata(image).expect("image").blocks());
        let script = "for d in vda vdb vdc; do
                mount /dev/$d /mnt && rm /mnt/gone && fstrim -v /mnt && fstrim -v /mnt && umount /mnt
            done";
        let disks = images.map(|image| ["--disk", arg(image)]);
        let output = exec(engine, script, disks.as_flattened()).output().expect(0);
        let trimmed: Vec<u64> = output
            .out()
            .lines()
            .filter_map(|line| {
                line.strip_prefix("/mnt: ")?.strip_suffix(" bytes trimmed")?.parse().ok()
            })
            .collect();
        assert_eq!(trimmed.len(), 6, "{engine}: {}{}", output.out(), output.err());
        assert!(trimmed.iter().all(|&bytes| bytes >= 20 << 20), "{engine}: {trimmed:?}");
        for (image, before) in images.into_iter().zip(before) {
            let after = fs::metadata(image).expect("image").blocks();
            let given = before.saturating_sub(after) * 512;
            assert!(given >= 19 << 20, "{engine}: {} gave back {given} bytes", image.display());
        }
        for image in &fat {
            fsck_fat(image);
            let out = dir.path().join("out");
            tool("mcopy", &["-n", "-i", arg(image), "::kept", arg(&out)]);
            assert!(fs::read(&out).expect("file") == kept, "{engine}: {}", image.display());
            fs::remove_file(out).expect("file");
        }
        tool("e2fsck", &["-fn", arg(&ext)]);
        let out = dir.path().join("out");
        tool("debugfs", &["-R", &format!("dump kept {}", arg(&out)), arg(&ext)]);
        assert!(fs::read(&out).expect("file") == kept, "{engine}: ext4");
    }
}

#[test]
fn tools_tell_what_disks_are_and_hold() {
    for engine in engines("tools_tell_what_disks_are_and_hold") {
        let dir = tempdir().expect("directory");
        let (whole, volume) = (dir.path().join("whole.img"), dir.path().join("volume.img"));
        fat_image(&volume, 16 << 20, 16);
        tool("mlabel", &["-i", arg(&volume), "::INNER"]);
        let mut disk = vec![0; 1 << 20];
        disk.extend(fs::read(&volume).expect("volume"));
        disk.resize(40 << 20, 0);
        fs::write(&whole, disk).expect("image");
        let layout = dir.path().join("layout");
        fs::write(&layout, "label: gpt\nstart=2048,size=16M,name=\"first\"\n,8M,S\n")
            .expect("layout");
        let command = format!("sfdisk -q '{}' < '{}'", arg(&whole), arg(&layout));
        tool("sh", &["-c", &command]);
        let script = "
            blkid -o value -s TYPE /dev/vda1; blkid -o value -s LABEL /dev/vda1
            blkid -o value -s PARTLABEL /dev/vda1; blkid -o value -s PTTYPE /dev/vda
            fdisk -l /dev/vda | grep -c '^/dev/vda'
            lsblk | grep -c vda
            readlink /dev/disk/by-label/INNER
            mount /dev/vda1 /mnt && echo text > /mnt/file && umount /mnt
            iostat | grep -c '^vda '
            grep -c ' vda ' /proc/diskstats
            dd if=/dev/vda2 of=/dev/null bs=1M 2> /dev/null
            set -- $(grep ' vda ' /proc/diskstats); test $6 -ge 16384 && echo counted";
        let output = exec(engine, script, &["--disk", arg(&whole)]).output().expect(0);
        let expected = "vfat\nINNER\nfirst\ngpt\n2\n3\n../../vda1\n1\n1\ncounted\n";
        assert_eq!(output.out(), expected, "{engine}: {}", output.err());
    }
}

#[test]
fn rings_are_measured_and_only_a_scratch_disk_is_written_to() {
    for engine in engines("rings_are_measured_and_only_a_scratch_disk_is_written_to") {
        let dir = tempdir().expect("directory");
        let (scratch, other) = (dir.path().join("scratch.img"), dir.path().join("other.img"));
        let mut bytes = noise(3, 8 << 20);
        fs::write(&other, &bytes).expect("image");
        bytes[..SCRATCH.len()].copy_from_slice(SCRATCH);
        fs::write(&scratch, &bytes).expect("image");
        let script = "ringbench vda rand_read_4k_d32 seq_write_64k_d4 | grep -c _per_second
            ringbench vdb seq_read_1m_d2 | grep -c _per_second
            ringbench vdb rand_write_4k_d1 > /dev/null; echo $?
            ringbench vdb rand_write_4k 2> /dev/null > /dev/null; echo $?
            ringbench nothing 2> /dev/null; echo $?";
        let disks = ["--disk", arg(&scratch), "--disk", arg(&other)];
        let output = exec(engine, script, &disks).output().expect(0);
        assert_eq!(output.out(), "4\n2\n1\n1\n1\n", "{engine}: {}", output.err());
        assert!(output.err().contains("operation not permitted"), "{}", output.err());
        let now = fs::read(&other).expect("image");
        assert!(now[SCRATCH.len()..] == bytes[SCRATCH.len()..], "not a byte was written");
        let now = fs::read(&scratch).expect("image");
        assert!(now[..1 << 20] == bytes[..1 << 20], "the start is left alone");
        assert!(now[1 << 20..] != bytes[1 << 20..], "the rest was written to");
    }
}
