//! Who may, each rule of it with real credentials of a real API server, over HTTP: the operator makes a trail, and the
//! collector's program serves it with the permissions, the document and the certificate that it is given.

#[path = "../fixture.rs"]
mod fixture;
#[path = "../../store/program.rs"]
#[expect(dead_code, reason = "these tests need less of it than others")]
mod program;

mod accounts;
mod document;
mod keys;
mod people;
mod removed;
mod routes;
mod scene;
mod trouble;
