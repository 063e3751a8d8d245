use super::*;
use crate::tests::{Ram, base_image};
use proptest::prelude::*;
use std::sync::Arc;

const SECTORS: u64 = 600;

fn pieces(ram: &Arc<Ram>, length: u64) -> Pieces {
    let segment = xinim_devices::dma::Segment { address: 0, length: length as u32 };
    let ram: Arc<dyn crate::memory::HostMemory> = ram.clone();
    Pieces::of_guest(&ram, &[segment]).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u64, u8),
    Zero(u64, u64),
    Read(u64, u64),
    Resize(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0..SECTORS, 1..200u64);
    prop_oneof![
        (range(), any::<u8>()).prop_map(|((at, count), fill)| Step::Write(at, count, fill)),
        range().prop_map(|(at, count)| Step::Zero(at, count)),
        range().prop_map(|(at, count)| Step::Read(at, count)),
        (1..SECTORS).prop_map(Step::Resize),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// An overlay acts like a copy of its base, and the base stays as it is.
    #[test]
    fn it_is_a_copy(steps in proptest::collection::vec(step(), 1..30), blank: bool) {
        let content: Vec<u8> = (0..SECTORS * 512).map(|i| (i / 512 + i) as u8).collect();
        let base = base_image(&content);
        let mut model = if blank { vec![0; content.len()] } else { content.clone() };
        let under: Option<Box<dyn Image>> = if blank { None } else { Some(Box::new(base.1)) };
        let overlay = Overlay::new(under, content.len() as u64).unwrap();
        let ram = Ram::new(0, (SECTORS * 512) as usize);
        for step in steps {
            let range = |at: u64, count: u64| {
                let end = ((at + count) * 512).min(model.len() as u64);
                ((at * 512).min(end) as usize)..end as usize
            };
            match step {
                Step::Write(at, count, fill) => {
                    let range = range(at, count);
                    ram.fill(0, range.len(), fill);
                    let mut data = pieces(&ram, range.len() as u64);
                    overlay.write(range.start as u64, &mut data).unwrap();
                    model[range].fill(fill);
                }
                Step::Zero(at, count) => {
                    let range = range(at, count);
                    if !range.is_empty() {
                        let (start, length) = (range.start as u64, range.len() as u64);
                        overlay.write_zeroes(start, length, false).unwrap();
                        model[range].fill(0);
                    }
                }
                Step::Read(at, count) => {
                    let range = range(at, count);
                    let mut data = pieces(&ram, range.len() as u64);
                    overlay.read(range.start as u64, &mut data).unwrap();
                    prop_assert_eq!(data.left(), 0);
                    prop_assert!(ram.dump(0, range.len()) == model[range]);
                }
                Step::Resize(sectors) => {
                    overlay.resize(sectors * 512).unwrap();
                    model.resize((sectors * 512) as usize, 0);
                    prop_assert_eq!(overlay.info().length, sectors * 512);
                }
            }
        }
        let mut unchanged = vec![0; content.len()];
        std::os::unix::fs::FileExt::read_exact_at(&base.0, &mut unchanged, 0).unwrap();
        prop_assert!(unchanged == content);
    }
}

#[test]
fn a_blank_disk_costs_nothing_until_it_is_written() {
    let overlay = Overlay::new(None, 1 << 30).unwrap();
    assert_eq!(overlay.occupied().unwrap(), 0);
    let ram = Ram::new(0, 4096);
    overlay.write(512 << 20, &mut pieces(&ram, 4096)).unwrap();
    assert!(overlay.occupied().unwrap() <= 64 << 10);
}
