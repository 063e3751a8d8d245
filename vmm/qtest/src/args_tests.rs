use super::*;

fn parse(text: &str) -> Result<Setup, String> {
    let args: Vec<String> = text.split(' ').map(str::to_owned).collect();
    Setup::parse(&args).map_err(|error| error.to_string())
}

/// What libqtest puts before and after a test's own arguments.
fn whole(own: &str) -> Result<Setup, String> {
    parse(&format!(
        "-qtest unix:/tmp/q.sock -qtest-log /dev/null -chardev socket,path=/tmp/q.qmp,id=char0 \
         -mon chardev=char0,mode=control -display none -audio none {own} -accel qtest"
    ))
}

#[test]
fn the_arguments_of_ahci_test_are_understood() {
    let setup = whole(
        "-drive if=none,id=drive0,file=/tmp/a,,b,cache=writeback,format=raw -M q35 \
         -device ide-hd,drive=drive0 -global ide-hd.serial=testdisk -global ide-hd.ver=version",
    )
    .unwrap();
    assert_eq!((setup.qtest.as_str(), setup.board), ("/tmp/q.sock", Board::Q35));
    assert_eq!(setup.monitors, ["/tmp/q.qmp"]);
    let drive = &setup.drives[0];
    assert_eq!((drive.id.as_str(), drive.path.as_deref()), ("drive0", Some("/tmp/a,b")));
    let device = &setup.devices[0];
    assert_eq!((device.head.as_str(), device.get("serial")), ("ide-hd", Some("testdisk")));
    assert_eq!(device.get("ver"), Some("version"));
}

#[test]
fn faults_delays_and_limits_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    std::fs::write(&rules, "[inject-error]\nevent = \"write_aio\"\n").unwrap();
    let setup = whole(&format!(
        "-m 384 -drive file=blkdebug:{}:/tmp/x,if=none,id=d,rerror=stop,werror=stop \
         -drive if=none,id=t,file=/tmp/y,throttling.bps-write=6144 \
         -blockdev driver=file,node-name=f,filename=/tmp/z,read-only=on \
         -blockdev driver=blkdebug,node-name=c,image=f,inject-error.0.iotype=read,\
inject-error.0.delay-ns=1000 -device ide-cd,drive=c",
        rules.display()
    ))
    .unwrap();
    assert_eq!(setup.memory, 384 << 20);
    let [faulty, slow, file, over] = &setup.drives[..] else { panic!("four drives") };
    assert!(faulty.stop_on_error && faulty.faults.as_deref().unwrap().contains("write_aio"));
    assert_eq!(slow.write_limit, Some(6144));
    assert!(file.read_only);
    assert_eq!((over.over.as_deref(), over.read_delay_ns), (Some("f"), 1000));
}

#[test]
fn what_cannot_be_done_is_said() {
    for (own, why) in [
        ("-incoming unix:/tmp/m", "migration"),
        ("-M microvm", "machine microvm"),
        ("-m 4T", "-m 4T"),
        ("-m 64G", "-m 64G"),
        ("-drive file=x,format=vmdk", "vmdk"),
        ("-blockdev driver=nbd,node-name=n", "nbd"),
        ("-blockdev {broken", "{broken"),
        ("-frobnicate 1", "-frobnicate"),
        ("-global nothing", "-global nothing"),
    ] {
        let error = whole(own).unwrap_err();
        assert!(error.contains(why), "{own}: {error}");
    }
    assert!(parse("-M q35").unwrap_err().contains("-qtest"));
    assert!(parse("-M").unwrap_err().contains("-M"));
}

#[test]
fn json_is_the_same_as_options() {
    let json = r#"{"node-name":"n","driver":"raw","file":{"driver":"file","filename":"/tmp/i"}}"#;
    let args = node(&flat(json).unwrap()).unwrap();
    assert_eq!((args.id.as_str(), args.path.as_deref()), ("n", Some("/tmp/i")));
}
