//! A changed migration is a changed program: `sqlx::migrate!` alone does not tell Cargo.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
