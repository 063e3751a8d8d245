//! The virtual file system in the guest: POSIX behaviours on several file systems, users, a slow
//! file system, tools on real files.

use xinim_tests::host::{arg, tool};
use xinim_tests::machine::{engines, exec};

/// `posixtest` has no failure, and did not stop half-way.
#[track_caller]
fn all_ok(output: &str, least: usize) {
    let ok = output.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(!output.contains("FAILED"), "{output}");
    assert!(ok >= least, "{ok} checks only: {output}");
}

#[test]
fn posix_behaviours() {
    for engine in engines("posix_behaviours") {
        let commands =
            "posixtest /tmp && mkdir /m && mount -t tmpfs -o nodev none /m && posixtest /m";
        let output = exec(engine, commands, &["--memory", "128M"]).output().expect(0).out();
        all_ok(&output, 60);
    }
}

/// A file system without links and owners, on a disk.
#[test]
fn posix_behaviours_on_fat() {
    let dir = tempfile::tempdir().expect("directory");
    let image = dir.path().join("fat.img");
    tool("mkfs.fat", &["-C", arg(&image), "16384"]);
    let commands = "mount /dev/vda /mnt && posixtest -n /mnt && umount /mnt";
    let output = exec("auto", commands, &["--disk", arg(&image)]).output().expect(0).out();
    all_ok(&output, 20);
    tool("fsck.fat", &["-n", arg(&image)]);
}

/// A file system on a slow disk keeps who uses it waiting for seconds, and nobody else.
#[test]
fn a_slow_file_system_stops_nobody_else() {
    let dir = tempfile::tempdir().expect("directory");
    let image = dir.path().join("fat.img");
    tool("mkfs.fat", &["-C", arg(&image), "16384"]);
    let commands = "mount /dev/vda /mnt; seq 500000 > /mnt/big; umount /mnt";
    exec("auto", commands, &["--disk", arg(&image)]).output().expect(0);
    let commands = "mount /dev/vda /mnt; sha256sum < /mnt/big > /tmp/late & sleep 0.3; \
        echo quick > /tmp/now; cat /tmp/now | cat; grep -c vda /proc/mounts; ps | grep -c sha256; \
        wait; seq 500000 | sha256sum | cmp - /tmp/late && echo same";
    let disk = format!("{},bps=1M", arg(&image));
    let output = exec("auto", commands, &["--disk", &disk]).output().expect(0);
    assert_eq!(output.out(), "quick\n1\n1\nsame\n", "{}", output.err());
}

#[test]
fn users() {
    let commands = "id; umask; su user -c 'id; whoami; touch /tmp/mine; mkdir /tmp/d; touch /etc/x'; \
        stat -c '%U %G %a' /tmp/mine; su user -c 'su root -c id'; \
        setpriv --reuid=nobody --regid=nogroup --clear-groups sh -c 'id -un; rm /tmp/mine; ls -d /tmp/mine'; \
        chown root:disk /tmp/mine; stat -c '%U:%G' /tmp/mine; umask 027; mkdir /tmp/e; stat -c %a /tmp/e; \
        chmod u+s,g=u,o= /tmp/mine; stat -c %A /tmp/mine";
    let output = exec("auto", commands, &[]).output();
    let (out, err) = (output.out(), output.err());
    let expected = "\
uid=0(root) gid=0(root) groups=0(root)
0022
uid=1000(user) gid=1000(user) groups=1000(user),100(users)
user
user user 644
nobody
/tmp/mine
root:disk
750
-rwSrw----
";
    assert_eq!(out, expected, "{err}");
    assert!(err.contains("touch: /etc/x: permission denied"), "{err}");
    assert!(err.contains("su: root: operation not permitted"), "{err}");
}

#[test]
fn locks_fifos_and_proc() {
    let commands = "cd /tmp; mkfifo p; sh -c 'echo through > p' & cat p; wait; \
        flock l sh -c 'flock -n l echo never || echo busy; grep -c \"^file write\" /proc/locks'; \
        cat /proc/filesystems | grep -c nodev; mount -o remount,ro /; touch /tmp/x; \
        mount | grep bundle; mount -o remount,rw /; touch /tmp/x && echo back; \
        mknod /tmp/null c 1 3; stat -c '%F %t,%T' /tmp/null; \
        seq 1000 > f; tar cf t.tar f l p; tar tf t.tar; rm f; tar xf t.tar f; wc -l < f; \
        find /tmp -type p; du -s /tmp > /dev/null && echo done";
    let output = exec("auto", commands, &[]).output();
    let expected = "\
through
busy
1
4
bundle on / type ramfs (ro)
back
character special file 1,3
f
l
p
1000
/tmp/p
done
";
    assert_eq!(output.out(), expected, "{}", output.err());
}
