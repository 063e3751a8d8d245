//! Tools that look at, make and move whole trees, beside the host's.

mod common;

use common::{compare, run, tool_dir};

const TREE: &str = "umask 022; mkdir -p d/e/f; seq 100 > d/a; seq 5000 > d/e/b; : > d/e/empty; \
    ln -s ../a d/e/link; ln d/a d/hard; mkfifo d/pipe; chmod 600 d/a; chmod 4755 d/e/b; ";

#[test]
fn find_as_the_hosts() {
    let scripts = [
        "find d | sort; find d -type f | sort; find d -type l -o -type p | sort; find d ! -type d | sort",
        "find d -name '*b*' | sort; find d -iname 'E*' | sort; find d -path '*/e/*' | sort",
        "find d -maxdepth 1 | sort; find d -mindepth 2 | sort; find d -depth -name 'e*'; find . -name e -prune -o -print | sort",
        "find d -size +1k -type f; find d -size -1 -type f; find d -empty | sort; find d -links 2 -type f | sort",
        "find d -perm 600; find d -perm -4000; find d -perm /111 -type f; find d -perm u=rw",
        "touch -d @1000 d/a; find d -newer d/a -type f | sort; find d -mtime +10 | sort; find d -mmin -60 -type f | sort",
        "find d -type f -exec echo {} \\; | sort; find d -name a -exec echo {} x {} \\;; find d -type f -exec echo {} + | wc -l",
        "find d -name b -delete; find d | sort; find nonexistent; echo $?; find d -nosuch 2>/dev/null; echo $?",
        "find d \\( -name a -o -name b \\) -print0 | tr '\\0' '\\n' | sort; find d -name a -quit; find d -uid 0 -name a -true | wc -l > /dev/null",
    ];
    compare(&scripts.map(|script| leak(format!("{TREE}{script}"))));
}

#[test]
fn du_diff_xargs_as_the_hosts() {
    let scripts = [
        "du -b d/a d/e/b; du -ab d/e | grep -v 'e$' | grep -v 'f$' | sort; du -s d nonexistent > /dev/null; echo $?; du -as d; echo $?",
        "seq 10 > x; seq 2 11 > y; diff x y; echo $?; diff x x; echo $?; diff x nonexistent; echo $?; diff -q x y",
        "seq 30 | sed 's/^5$/five/; s/^20$/twenty/' > x; seq 30 > y; diff -u x y | tail -n +3; diff -U 0 x y | tail -n +3; diff -U 1 x y | tail -n +3",
        "printf 'a\\nb' > x; printf 'a\\nb\\n' > y; diff x y; diff -u x y | tail -n +3; : > z; diff x z; diff z x; diff -u z x | tail -n +3; printf 'a\\0' > x; diff x y; echo $?",
        "mkdir o; seq 4 > o/x; seq 3 > x; diff x o; diff o x; echo $?",
        "seq 10 | xargs; seq 5 | xargs -n 2 echo a; echo 'a b' | xargs -I % echo x % y; printf 'a\\0b c\\0' | xargs -0 -n 1",
        ": | xargs echo none; : | xargs -r echo none; echo \"'a b' c\\\\ d\" | xargs -n 1; seq 3 | xargs false; echo $?; seq 3 | xargs nonexistent_x; echo $?",
    ];
    compare(&scripts.map(|script| leak(format!("{TREE}{script}"))));
}

#[test]
fn attributes_as_the_hosts() {
    let scripts = [
        "stat -c '%n %s %a %A %f %h %F %N' d d/a d/e/b d/e/link d/pipe d/e/empty; stat -c '%u %g %U %G' d/a; stat -L -c %F d/e/link",
        "touch -d @12345 d/a; stat -c '%X %Y' d/a; touch -a -d @99 d/a; stat -c '%X %Y' d/a; touch -r d/a new; stat -c '%X %Y' new; touch -h -d @5 d/e/link; stat -c %Y d/e/link",
        "chmod u+s,g=u,o= d/a; stat -c %a d/a; chmod -x d/e/b; stat -c %a d/e/b; chmod +t,g+s d; stat -c %A d; chmod -R a+X,go-w d; stat -c '%a %n' d d/* d/e/*; chmod 755 d; stat -c %a d; chmod +w,=r d/a; stat -c %a d/a",
        "mkfifo -m 640 p q; stat -c '%a %F' p q; mkfifo p; echo $?; umask 077; mkfifo r; stat -c %a r; mknod s p; stat -c '%F %a' s",
        "truncate -s 5k f; stat -c %s f; truncate -s +100 f; stat -c %s f; truncate -s -6k f; stat -c %s f; truncate -s %300 g; truncate -r d/a f; stat -c %s f; truncate -s '<100' f; stat -c %s f; truncate -c -s 1 none; ls; truncate f; echo $?",
        "ln -s x s; ln -sfn d s; ln -sfn e s; readlink s; mkdir t; ln -t t d/a d/e/b; ls t; ln -sT d t; echo $?; ln -v d/a h; ln -sv d/a i; ln d x; echo $?",
        "seq 3 > l; flock l echo in; flock -n l -c 'flock -n l echo never; echo $?'; flock -s l flock -s -n l echo shared; flock -s l flock -n -E 7 l true; echo $?; flock d echo dir; flock nonexistent/l true; echo $?",
    ];
    compare(&scripts.map(|script| leak(format!("{TREE}{script}"))));
}

#[test]
fn owners_as_the_hosts() {
    let output = std::process::Command::new("id").arg("-u").output().unwrap();
    if output.stdout != b"0\n" {
        return xinim_machine::testing::skip(
            "owners_as_the_hosts",
            "root, who alone changes owners",
        );
    }
    let scripts = [
        "chown 5 d/a; stat -c '%u %g' d/a; chown 6:7 d/a; stat -c '%u %g' d/a; chown :8 d/a; stat -c '%u %g' d/a; chown daemon: d/a; stat -c '%U %G' d/a; chgrp 9 d/a; stat -c %g d/a",
        "chown -R 3:4 d; stat -c '%u %g %n' d d/* d/e/*; chown -h 11 d/e/link; stat -c %u d/e/link d/a; chown nosuchuser d; echo $?; chown 1 none; echo $?; chown -R daemon d; find d -user daemon | wc -l",
        "mknod n c 1 3; stat -c '%F %t %T' n; head -c 3 n | wc -c; mknod b b 8 17; stat -c '%F %t %T' b; mknod x c 1; echo $?; rm n b",
        "id -u; id -g; id -G | wc -w > /dev/null; id -un; whoami; setpriv --reuid=1000 --regid=100 --clear-groups id -u; setpriv --reuid=1000 --regid=100 --clear-groups id -G; setpriv --reuid=1000 --clear-groups cat d/a; echo $?",
        "mkdir w; chmod 1777 w; : > w/f; setpriv --reuid=1000 --clear-groups rm -f w/f; echo $?; setpriv --reuid=1000 --regid=1000 --groups=5,6 touch w/g; stat -c '%u %g' w/g",
    ];
    compare(&scripts.map(|script| leak(format!("{TREE}{script}"))));
}

/// The host's tar packs, both unpack; both pack, the host's tar looks into it.
#[test]
fn tar_as_the_hosts() {
    let long = "mkdir -p $(printf 'l%.0s' $(seq 90))/$(printf 'm%.0s' $(seq 90)); \
        seq 7 > $(printf 'l%.0s' $(seq 90))/$(printf 'm%.0s' $(seq 90))/$(printf 'n%.0s' $(seq 120)); \
        ln -s $(printf 'x%.0s' $(seq 150)) d/long; ";
    let see = "find x -type f -exec stat -c '%a %s %h %Y %n' {} + | sort; find x -type l -exec readlink {} \\; | sort; find x | sort; ";
    // The same times in both runs.
    let settle = "/bin/find d l* -exec /bin/touch -h -d @1000000 {} + 2>/dev/null; ";
    let mut scripts = Vec::new();
    for format in ["ustar", "gnu", "pax", "v7"] {
        let more = if matches!(format, "gnu" | "pax") { long } else { "" };
        scripts.push(format!(
            "{more}{settle}/bin/tar --format={format} -cf t.tar d l*; mkdir x; tar xf t.tar -C x; {see} \
             tar tf t.tar | sort; tar -xvf t.tar d/e -C x | sort; rm t.tar"
        ));
    }
    scripts.push(format!(
        "{long}rm d/hard; {settle}tar cf t.tar d l*; mkdir x; /bin/tar xf t.tar -C x; {see} /bin/tar tvf t.tar | \
         sed 's/  */ /g' | sort; tar cvf u.tar d/e | sort; /bin/tar tf u.tar | sort; rm t.tar u.tar"
    ));
    scripts.push(
        "tar cf - d | /bin/tar tf - | sort; /bin/tar cf - d | tar xf - d/a; cat d/a | wc -l".into(),
    );
    scripts.push("tar tf nonexistent; echo $?; seq 1000 > no; tar tf no; echo $?; tar cf t.tar none; echo $?; rm t.tar; tar; echo $?; tar cf t.tar; echo $?; rm -f t.tar".into());
    scripts.push("/bin/tar cf t.tar d; head -c 9000 t.tar > u.tar; mkdir x; tar xf u.tar -C x; echo $?; rm -r x t.tar u.tar; truncate -s 3M d/sparse; tar cf t.tar d/sparse; rm d/sparse; /bin/tar xf t.tar; stat -c %s d/sparse; rm t.tar".into());
    let scripts: Vec<&str> =
        scripts.into_iter().map(|script| leak(format!("{TREE}{script}"))).collect();
    compare(&scripts);
}

#[test]
fn archives_stay_in_their_directory() {
    let tools = tool_dir();
    let script = "mkdir d; echo x > d/f; /bin/tar cPf t.tar d/../d/f /etc/hostname 2>/dev/null; \
        mkdir in; tar xf t.tar -C in; echo $?; find in -type f | sort; \
        ln -s ../elsewhere l; mkdir elsewhere; /bin/tar cf u.tar l; rm l; mkdir l; echo y > l/f; \
        /bin/tar rf u.tar l/f; rm -r l; mkdir in2; tar xf u.tar -C in2; ls elsewhere; rm t.tar u.tar";
    let (output, tree) = run(tools.path(), script);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text, "2\nin/etc/hostname\n", "{output:?}");
    assert!(!tree.contains("elsewhere/f"), "{tree}");
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}
