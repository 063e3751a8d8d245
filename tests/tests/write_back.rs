//! A file-system server is killed with writes that no `sync` has seen: its next instance has them
//! (docs/reliability.md), and files that were open without a name. Nobody is told of a loss, and the volume is
//! sound for the host.

use std::path::Path;

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image, fsck_fat, tool};
use xinim_tests::machine::{engines, exec};

const LEN: u64 = 24 << 20;
const DEATHS: u32 = 3;

/// A format: its server, how an image is made, how the host judges it.
struct Format {
    server: &'static str,
    make: fn(&Path),
    check: fn(&Path),
}

fn empty(path: &Path, mkfs: &str, options: &[&str]) {
    std::fs::File::create(path).and_then(|file| file.set_len(LEN)).expect("image");
    tool(mkfs, &[options, &[arg(path)]].concat());
}

fn check_ext(path: &Path) {
    tool("e2fsck", &["-fn", arg(path)]);
}

const FORMATS: [Format; 5] = [
    Format { server: "fs-fat", make: |path| fat_image(path, LEN, 16), check: fsck_fat },
    Format { server: "fs-fat", make: |path| fat_image(path, 40 << 20, 32), check: fsck_fat },
    Format {
        server: "fs-minix",
        make: |path| empty(path, "mkfs.minix", &["-3"]),
        check: |path| {
            let text = tool("fsck.minix", &["-f", "-s", arg(path)]);
            let bad = ["Warning", "ad ", "used", "Clear"].iter().find(|word| text.contains(**word));
            assert_eq!(bad, None, "{text}");
        },
    },
    Format {
        server: "fs-ext",
        make: |path| empty(path, "mke2fs", &["-q", "-F", "-t", "ext4"]),
        check: check_ext,
    },
    Format {
        server: "fs-ext",
        make: |path| empty(path, "mke2fs", &["-q", "-F", "-t", "ext2", "-b", "1024"]),
        check: check_ext,
    },
];

#[test]
fn what_was_written_survives_the_server() {
    // One descriptor stays open over all deaths; names come, move and go; data goes over what was there.
    let changes = |n| {
        format!(
            "cp /bin/posixtest /mnt/f && mkdir /mnt/d-{n} && mv /mnt/f /mnt/d-{n}/g
            cp /bin/sh /mnt/gone; rm /mnt/gone; echo {n} >> /mnt/log; echo open {n} >&5
            echo nameless {n} >&6
            dd if=/bin/sh of=/mnt/over bs=700 seek={n} count=9 conv=notrunc 2>/dev/null
            service kill $server || exit 8
            echo behind {n} >&5; cmp /bin/posixtest /mnt/d-{n}/g || echo {n} is lost
            if [ -e /mnt/gone ]; then echo undead; fi
            sha256sum < /mnt/over\n"
        )
    };
    let reference = |n| {
        format!(
            "dd if=/bin/sh of=/tmp/over bs=700 seek={n} count=9 conv=notrunc 2>/dev/null
            sha256sum < /tmp/over\n"
        )
    };
    for engine in engines("what_was_written_survives_the_server") {
        let dir = tempdir().expect("directory");
        for (at, format) in FORMATS.iter().enumerate() {
            let path = dir.path().join(format!("{at}.img"));
            (format.make)(&path);
            let mut script = format!(
                "server={}; mount /dev/vda /mnt || exit 9; exec 5> /mnt/open
                exec 6> /mnt/nameless; exec 7< /mnt/nameless; rm /mnt/nameless\n",
                format.server
            );
            script += &(1..=DEATHS).map(changes).collect::<String>();
            script += "echo expected\n";
            script += &(1..=DEATHS).map(reference).collect::<String>();
            script += "sync; echo sync $?; exec 5>&-; cat /mnt/log /mnt/open
                cat <&7; ls /mnt | grep -c nameless; exec 6>&- 7<&-
                umount /mnt && echo unmounted
                service alerts | tail -n +2";
            let output = exec(engine, &script, &["--disk", arg(&path)]).output().expect(0);
            let text = output.out();
            let what = format!("{engine} {}: {text}{}", format.server, output.err());
            let (found, rest) = text.split_once("expected\n").unwrap_or_else(|| panic!("{what}"));
            let wanted: String = rest.split_inclusive('\n').take(DEATHS as usize).collect();
            assert_eq!(found, wanted, "{what}");
            let log: String = (1..=DEATHS).map(|n| format!("{n}\n")).collect();
            let open: String = (1..=DEATHS).map(|n| format!("open {n}\nbehind {n}\n")).collect();
            let nameless: String = (1..=DEATHS).map(|n| format!("nameless {n}\n")).collect();
            let rest = &rest[wanted.len()..];
            let expected = format!("sync 0\n{log}{open}{nameless}0\nunmounted\n");
            assert_eq!(rest, expected, "{what}");
            assert_eq!(output.err(), "", "{what}");
            (format.check)(&path);
        }
    }
}

#[test]
fn what_has_no_name_survives_the_file_system_in_memory() {
    for engine in engines("what_has_no_name_survives_the_file_system_in_memory") {
        let script = "exec 6> /tmp/x; exec 7< /tmp/x; rm /tmp/x
            for n in 1 2 3; do echo $n >&6; service kill ramfs || exit 8; done; cat <&7";
        let output = exec(engine, script, &[]).output().expect(0);
        assert_eq!((output.out().as_str(), output.err().as_str()), ("1\n2\n3\n", ""), "{engine}");
    }
}
