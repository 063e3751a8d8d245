use super::*;
use pcap_file::pcapng::{Block, PcapNgReader};
use xinim_devices::testing::net::NetPipe;

struct Pipe(NetPipe);

impl NetBackend for Pipe {
    fn send(&mut self, frame: &Frame) -> Sent {
        self.0.send(frame)
    }
    fn receive(&mut self, frame: &mut Frame) -> bool {
        self.0.receive(frame)
    }
}

impl Endpoint for Pipe {
    fn watch(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[test]
fn what_goes_over_the_wire_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wire.pcapng");
    let pipe = NetPipe::new();
    let mut capture = Capture::create(Box::new(Pipe(pipe.clone())), &path).unwrap();
    let (out, back) = (Frame::plain(vec![1; 60]), Frame::plain(vec![2; 99]));
    assert_eq!(capture.send(&out), Sent::Done);
    pipe.limit(Some(0));
    assert_eq!(capture.send(&out), Sent::Later);
    pipe.feed(back.clone());
    let mut frame = Frame::default();
    assert!(capture.receive(&mut frame) && !capture.receive(&mut frame));
    // Readable while the machine runs.
    let mut reader = PcapNgReader::new(File::open(&path).unwrap()).unwrap();
    let mut packets = Vec::new();
    let mut interfaces = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::EnhancedPacket(packet) => {
                packets.push((packet.data.to_vec(), format!("{:?}", packet.options)));
                assert_eq!(packet.original_len as usize, packet.data.len());
            }
            Block::InterfaceDescription(interface) => interfaces.push(interface.linktype),
            _ => {}
        }
    }
    assert_eq!(interfaces, [DataLink::ETHERNET]);
    let datas: Vec<_> = packets.iter().map(|(data, _)| data.clone()).collect();
    assert_eq!(datas, [out.data, back.data], "a frame that was not taken is not in it");
    assert!(packets[0].1.contains("Flags(2)") && packets[1].1.contains("Flags(1)"));
}

#[test]
fn a_file_that_cannot_be_made_is_a_sentence() {
    let pipe = Pipe(NetPipe::new());
    let error = Capture::create(Box::new(pipe), Path::new("/nonexistent/x")).err().unwrap();
    assert!(error.starts_with("capture file /nonexistent/x cannot be written: "), "{error}");
}
