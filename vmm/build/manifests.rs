//! Refuses a bundle whose service manifests are not sound: RS would boot without those services.

use std::path::Path;

use crate::list::List;
use xinim_manifest::{Catalog, Instances, Manifest};

/// Checks `configs/services`: each manifest, the graph they make, and that each has its program
/// in the bundle.
pub fn check(root: &Path, list: &List) -> Result<(), String> {
    let dir = root.join("configs/services");
    let error = |e: std::io::Error| format!("{}: {e}", dir.display());
    let mut manifests = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(error)?;
        let label = path.file_stem().unwrap_or_default().to_string_lossy();
        manifests
            .push(Manifest::parse(&label, &text).map_err(|e| format!("configs/services/{e}"))?);
    }
    for manifest in manifests.iter().filter(|m| m.instances != Instances::Programs) {
        if !list.program.iter().any(|program| program.path == manifest.program) {
            return Err(format!(
                "configs/services/{}.toml: {} is not in configs/bundle.toml",
                manifest.label, manifest.program
            ));
        }
    }
    Catalog::strict(manifests).map(drop).map_err(|e| format!("configs/services/{e}"))
}
