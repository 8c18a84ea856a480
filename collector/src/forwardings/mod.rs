//! Forwardings over HTTP: how they are, what they have parked, and to have that sent again. All of it is what the database says,
//! so any replica answers for the one that forwards ([`crate::forward`]).
//!
//! | module | what |
//! |---|---|
//! | [`list`] | `GET /v1/forwardings` |
//! | [`words`] | how a forwarding is, in words (pure) |
//! | [`parked`] | `GET /v1/forwardings/{name}/parked` |
//! | [`replay`] | `POST /v1/forwardings/{name}/replay` |

pub mod list;
pub mod parked;
pub mod replay;
pub mod words;

use crate::problem::Problem;
use audittrail_crds::document::{Document, Forwarding};
use axum::extract::Path;
use axum::extract::rejection::PathRejection;

/// The forwarding of the document that the path names. Problem: 404, which lists those that there are.
fn named(document: &Document, path: Result<Path<String>, PathRejection>) -> Result<&Forwarding, Problem> {
    // What is not UTF-8 is no name either.
    let found = path.ok().and_then(|Path(name)| document.forwardings.iter().find(|entry| entry.name == name));
    found.ok_or_else(|| Problem::not_found(unknown(document)))
}

fn unknown(document: &Document) -> String {
    let names: Vec<&str> = document.forwardings.iter().map(|entry| entry.name.as_str()).collect();
    if names.is_empty() {
        "this trail has no forwarding".to_owned()
    } else {
        format!("no forwarding of this trail has this name: there are {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::tests::document;
    use audittrail_crds::document::Sensitive;

    #[test]
    fn an_unknown_name_is_told_the_known_ones_and_no_key() {
        let entry = |name: &str| Forwarding::new(name, "https://segment.example", Sensitive::new("secret"));
        let document = Document { forwardings: vec![entry("a"), entry("b")], ..document(1) };
        let find = |document: &Document, name: &str| {
            named(document, Ok(Path(name.to_owned()))).map(|entry| entry.name.clone()).map_err(|problem| {
                assert_eq!(problem.status(), axum::http::StatusCode::NOT_FOUND);
                problem.detail().to_owned()
            })
        };
        assert_eq!(find(&document, "b"), Ok("b".to_owned()));
        let told = "no forwarding of this trail has this name: there are a, b";
        assert_eq!(find(&document, "B"), Err(told.to_owned()));
        let none = Document { forwardings: Vec::new(), ..document };
        assert_eq!(find(&none, "b"), Err("this trail has no forwarding".to_owned()));
    }
}
