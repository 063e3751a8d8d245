use super::*;

#[test]
fn a_seed_is_one_fault_for_ever() {
    for seed in 0..500 {
        let fault = Fault::new(seed, &Class::ALL);
        assert_eq!(fault, Fault::new(seed, &Class::ALL));
        assert!(fault.wait_ms < 100);
        if let Step::Rule(rule) = &fault.step {
            rule.parse::<xinim_devices::fault::Rule>().unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn every_class_comes_up() {
    for class in Class::ALL {
        let seeds = (0..2000).filter(|seed| Fault::new(*seed, &Class::ALL).class == class);
        assert!(seeds.count() > 20, "{}", class.name());
        assert_eq!(choose(&[class.name().to_owned()]), Ok(vec![class]));
        assert_eq!(Fault::new(7, &[class]).class, class);
    }
    assert!(choose(&["weather".to_owned()]).unwrap_err().contains("kill, wild-pointer"));
    let all = choose(&[]).unwrap();
    assert!(Class::ALL.into_iter().all(|class| all.contains(&class)));
    let count = |class| all.iter().filter(|one| **one == class).count();
    assert!(count(Class::Memory) < count(Class::IrqLost));
}
