//! The corpus of the fuzz targets, which also holds what fuzzing once found: each file through its reader.

#[path = "../fuzz/src/lib.rs"]
mod readers;

use std::path::Path;

fn corpus(target: &str, read: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> =
        std::fs::read_dir(&directory).expect("a corpus").map(|file| file.expect("a file").path()).collect();
    assert!(files.len() >= 5, "{} has {} files", directory.display(), files.len());
    for file in files {
        println!("{}", file.display());
        read(&std::fs::read(&file).expect("readable"));
    }
}

#[test]
fn native_events() {
    corpus("native", readers::native);
}

#[test]
fn lines_of_events() {
    corpus("ndjson", readers::ndjson);
}

#[test]
fn cloud_events() {
    corpus("cloudevents", readers::cloudevents);
}

#[test]
fn audit_events_of_kubernetes() {
    corpus("kubernetes", readers::kubernetes);
}

#[test]
fn calls_of_segment() {
    corpus("segment", readers::segment);
}
