//! Sources that are made for a forwarding, against a fake of Segment's Public API which also fails in the middle.

#[path = "../fixture.rs"]
mod fixture;
mod made;
mod moved;
mod refused;
mod removed;
mod scene;
