//! The manifests in configs/services are sound.

use xinim_manifest::{Catalog, Manifest, Policy};

/// Those that come to an end by themselves, or that VFS ends.
const END: [&str; 6] = ["blkbench", "fs-ext", "fs-fat", "fs-iso", "fs-minix", "programs"];

#[test]
fn configs_services() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/services");
    let mut manifests = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let label = path.file_stem().unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            manifests.push(Manifest::parse(label, &text).unwrap_or_else(|e| panic!("{e}")));
        }
    }
    // A service that was damaged may end as if it were in order.
    for manifest in manifests.iter().filter(|manifest| !END.contains(&manifest.label.as_str())) {
        assert_eq!(manifest.restart.policy, Policy::Always, "{}", manifest.label);
    }
    let catalog = Catalog::strict(manifests).unwrap_or_else(|e| panic!("{e}"));
    assert!(catalog.find("vfs").is_some() && catalog.programs().is_some());
}
