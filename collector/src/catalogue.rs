//! The catalogue of the document in force, compiled when it changes.

use audittrail_crds::catalogue::{Catalogue, CatalogueError};
use audittrail_crds::document::Document;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Gives the catalogue of the document in force.
#[derive(Debug)]
pub struct Current {
    documents: watch::Receiver<Arc<Document>>,
    compiled: Mutex<(Arc<Document>, Arc<Catalogue>)>,
}

impl Current {
    /// Follows `documents`.
    pub fn new(documents: watch::Receiver<Arc<Document>>) -> Self {
        let document = Arc::clone(&documents.borrow());
        let catalogue = Catalogue::of(&document.catalogue).unwrap_or_else(|error| {
            log(&error);
            Catalogue::default()
        });
        Self { documents, compiled: Mutex::new((document, Arc::new(catalogue))) }
    }

    /// The catalogue in force. Whoever asks first after a change compiles it.
    pub fn get(&self) -> Arc<Catalogue> {
        let document = Arc::clone(&self.documents.borrow());
        // What it guards is replaced whole: a panic elsewhere left it as it was.
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&compiled.0, &document) {
            if compiled.0.catalogue != document.catalogue {
                match Catalogue::of(&document.catalogue) {
                    Ok(catalogue) => compiled.1 = Arc::new(catalogue),
                    Err(error) => log(&error),
                }
            }
            compiled.0 = document;
        }
        Arc::clone(&compiled.1)
    }
}

/// Documents are refused before they come into force ([`crate::document::accept`]).
fn log(error: &CatalogueError) {
    tracing::error!(%error, "a document with a bad catalogue came into force");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::tests::document;
    use audittrail_crds::document::CatalogueMode;

    #[test]
    fn a_change_is_in_force_for_whoever_asks_next_and_nothing_else_recompiles() {
        let documents = watch::Sender::new(Arc::new(document(1)));
        let current = Current::new(documents.subscribe());
        let first = current.get();
        documents.send_replace(Arc::new(document(2)));
        assert!(Arc::ptr_eq(&first, &current.get()));
        let mut strict = document(3);
        strict.catalogue.mode = CatalogueMode::Strict;
        documents.send_replace(Arc::new(strict));
        assert!(first.spelling("Unheard Of").is_ok());
        assert!(current.get().spelling("Unheard Of").is_err());
    }
}
