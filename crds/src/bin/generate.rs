//! `make generate`: writes the custom resource definitions beside the types and into the chart.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, text) in audittrail_crds::manifest::files()? {
        for folder in ["yaml", "../charts/audittrail/files/crds"] {
            let folder = root.join(folder);
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join(name), &text)?;
        }
    }
    Ok(())
}
