//! The committed definitions are the generated ones.

use std::path::Path;

#[test]
fn committed_definitions_equal_the_types() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, text) in audittrail_crds::manifest::files().expect("definitions render") {
        for folder in ["yaml", "../charts/audittrail/files/crds"] {
            let path = root.join(folder).join(name);
            let committed = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}; run `make generate`", path.display()));
            assert!(committed == text, "{} differs from the types; run `make generate`", path.display());
        }
    }
}
