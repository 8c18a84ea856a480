//! Who may: write keys, and tokens of the cluster or of the document.
//!
//! | credential | may |
//! |---|---|
//! | a write key, as Bearer or as the user of Basic | write |
//! | a token of the cluster, as Bearer | what its RBAC says (TokenReview, SubjectAccessReview) |
//! | an owner's token of a document without Kubernetes, as Bearer | read, and replay |

mod cache;
pub mod credential;
pub mod keys;
pub mod reviews;

use crate::event::{SubmittedBy, SubmitterKind};
use crate::problem::Problem;
use crate::server::App;
use audittrail_crds::document::{self, Document};
use axum::http::HeaderMap;
use credential::Credential;
use reviews::{Denial, METRICS_PATH, Reviews};
use std::sync::Arc;
use tokio::sync::watch;

/// What every generated write key begins with. An unknown one is refused without asking anybody.
pub const GENERATED_KEY_PREFIX: &str = "atk_";

/// What a request wants to do to the trail.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verb {
    /// See events: `get` on `audittrails/events`.
    Read,
    /// Add events: `create` on `audittrails/events`.
    Write,
    /// Have parked events sent again: `update` on `audittrails/events`.
    Replay,
    /// See how the trail is: `get` on `audittrails/health`.
    Health,
    /// See the metrics: `get` on the non-resource URL `/metrics`, as everywhere in Kubernetes.
    Metrics,
}

/// Whose request it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Kind of credential.
    pub kind: SubmitterKind,
    /// Name of the write key, `namespace/name` of the service account, or name of the person.
    pub name: String,
}

impl Identity {
    /// What events that it writes carry.
    pub fn submitted_by(self) -> SubmittedBy {
        SubmittedBy { kind: self.kind, name: self.name }
    }
}

/// Who sent these headers, if they may: [`Access::authorize`].
pub async fn authorize(app: &App, headers: &HeaderMap, verb: Verb) -> Result<Identity, Problem> {
    app.access.authorize(headers, verb).await
}

/// Decides who may, by the document in force.
#[derive(Debug)]
pub struct Access {
    documents: watch::Receiver<Arc<Document>>,
    reviews: Option<Reviews>,
}

impl Access {
    /// `client` asks the cluster; without one, only write keys and the document's own tokens are known.
    pub fn new(documents: watch::Receiver<Arc<Document>>, client: Option<kube::Client>) -> Self {
        Self { documents, reviews: client.map(Reviews::new) }
    }

    /// Who sent these headers, if they may. Problems: 401 for a bad credential, 403 when it does not
    /// allow this, 503 when the cluster cannot be asked.
    pub async fn authorize(&self, headers: &HeaderMap, verb: Verb) -> Result<Identity, Problem> {
        let document = Arc::clone(&self.documents.borrow());
        let credential = Credential::of(headers)?;
        if let Some(name) = keys::write_key(&document.ingest.write_keys, credential.secret()) {
            return match verb {
                Verb::Write => Ok(Identity { kind: SubmitterKind::WriteKey, name: name.to_owned() }),
                Verb::Read | Verb::Replay | Verb::Health | Verb::Metrics => Err(Problem::forbidden(
                    "this is a write key, which only adds events: to see them, send an owner's token",
                )),
            };
        }
        let token = match credential {
            Credential::Bearer(token) if !token.starts_with(GENERATED_KEY_PREFIX) => token,
            Credential::Bearer(_) | Credential::BasicUser(_) => {
                return Err(write_key_unknown());
            }
        };
        match &document.access {
            document::Access::Tokens(tokens) => owner(tokens, &token, verb),
            document::Access::Kubernetes(cluster) => {
                let Some(reviews) = &self.reviews else { return Err(without_cluster()) };
                let decision = reviews.decide(&token, cluster, &document.trail, verb).await?;
                decision.map_err(|denial| refuse(&denial, &document.trail, &cluster.audience, verb))
            }
        }
    }

    /// Whose write key this is: for clients that send it in the body, where no header names anybody.
    pub fn authorize_write_key(&self, key: &str) -> Result<Identity, Problem> {
        let document = self.documents.borrow();
        let name = keys::write_key(&document.ingest.write_keys, key).ok_or_else(write_key_unknown)?;
        Ok(Identity { kind: SubmitterKind::WriteKey, name: name.to_owned() })
    }
}

fn write_key_unknown() -> Problem {
    Problem::credential_unknown("the write key is not one of this trail: it may have been replaced")
}

fn without_cluster() -> Problem {
    tracing::error!("the document wants access decided by Kubernetes, and this collector has no cluster to ask");
    Problem::unavailable(reviews::RETRY_AFTER_SECONDS, "the collector has no Kubernetes cluster to ask who you are")
}

/// Owners of a document without Kubernetes see and replay everything and write nothing: events carry the name of a
/// write key.
fn owner(tokens: &[document::OwnerToken], token: &str, verb: Verb) -> Result<Identity, Problem> {
    let name = keys::owner(tokens, token)
        .ok_or_else(|| Problem::credential_unknown("the token is not one that this collector's document lists"))?;
    match verb {
        Verb::Read | Verb::Replay | Verb::Health | Verb::Metrics => {
            Ok(Identity { kind: SubmitterKind::Token, name: name.to_owned() })
        }
        Verb::Write => {
            Err(Problem::forbidden("this is an owner's token, which only reads: to add events, send a write key"))
        }
    }
}

/// Tells what is missing, and what to do about it.
fn refuse(denial: &Denial, trail: &document::Trail, audience: &str, verb: Verb) -> Problem {
    let document::Trail { namespace, name, .. } = trail;
    match denial {
        Denial::UnknownToken => Problem::credential_unknown(format!(
            "the cluster does not know this token, or it has expired. A service account's must be made for this trail: \
             kubectl create token NAME --audience={audience}"
        )),
        Denial::OtherAudience(account) => Problem::credential_unknown(format!(
            "the token of {account} was not made for this trail: kubectl create token NAME --audience={audience}"
        )),
        Denial::ApiServerToken(who) => Problem::credential_unknown(format!(
            "the token of {who} was made for the API server, which spec.access.apiServerTokens of the AuditTrail refuses: \
             send one that was made for this trail. Owners may: \
             kubectl create token {name}-owner --namespace={namespace} --audience={audience}"
        )),
        Denial::Operator => Problem::forbidden(
            "this is the operator's account, which sees how the trail is, and no event: send an owner's token",
        ),
        Denial::NotAllowed(who) => {
            let (word, resource) = (verb.word(), verb.resource());
            let remedy = match verb {
                Verb::Read | Verb::Replay => "list them in spec.access.owners of the AuditTrail",
                Verb::Write => "list the service account in spec.ingest of the AuditTrail, or send its write key",
                Verb::Health => "only the operator needs this; a Role may grant it to others",
                Verb::Metrics => {
                    return Problem::forbidden(format!(
                        "{who} may not get {METRICS_PATH}: bind it to a ClusterRole with nonResourceURLs [{METRICS_PATH}], verb get"
                    ));
                }
            };
            Problem::forbidden(format!(
                "{who} may not {word} {resource} of {name:?} in namespace {namespace:?}: {remedy}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::tests::document;
    use audittrail_crds::document::Sensitive;
    use axum::http::{HeaderValue, StatusCode, header};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    fn access() -> Access {
        let document = Document {
            access: document::Access::Tokens(vec![document::OwnerToken {
                name: "jane".to_owned(),
                token: Sensitive::new("owner-token"),
            }]),
            ingest: document::Ingest {
                write_keys: vec![
                    document::WriteKey { name: "acme/writeKey".to_owned(), key: Sensitive::new("atk_new") },
                    document::WriteKey { name: "acme/writeKeyPrevious".to_owned(), key: Sensitive::new("old") },
                ],
                ..document::Ingest::default()
            },
            ..document(1)
        };
        Access::new(watch::Sender::new(Arc::new(document)).subscribe(), None)
    }

    async fn ask(authorization: &str, verb: Verb) -> Result<Identity, StatusCode> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(authorization).expect("valid"));
        access().authorize(&headers, verb).await.map_err(|problem| problem.status())
    }

    fn identity(kind: SubmitterKind, name: &str) -> Identity {
        Identity { kind, name: name.to_owned() }
    }

    #[tokio::test]
    async fn both_write_keys_write_each_under_its_name() {
        let new = identity(SubmitterKind::WriteKey, "acme/writeKey");
        let old = identity(SubmitterKind::WriteKey, "acme/writeKeyPrevious");
        assert_eq!(ask("Bearer atk_new", Verb::Write).await, Ok(new.clone()));
        assert_eq!(ask("Bearer old", Verb::Write).await, Ok(old));
        assert_eq!(ask(&format!("Basic {}", STANDARD.encode("atk_new:")), Verb::Write).await, Ok(new));
    }

    #[tokio::test]
    async fn a_write_key_sees_nothing() {
        for verb in [Verb::Read, Verb::Replay, Verb::Health, Verb::Metrics] {
            assert_eq!(ask("Bearer atk_new", verb).await, Err(StatusCode::FORBIDDEN));
        }
    }

    #[tokio::test]
    async fn an_owner_reads_and_replays_and_does_not_write() {
        let jane = identity(SubmitterKind::Token, "jane");
        for verb in [Verb::Read, Verb::Replay, Verb::Health, Verb::Metrics] {
            assert_eq!(ask("Bearer owner-token", verb).await, Ok(jane.clone()));
        }
        assert_eq!(ask("Bearer owner-token", Verb::Write).await, Err(StatusCode::FORBIDDEN));
    }

    #[tokio::test]
    async fn an_unknown_credential_is_not_authenticated() {
        let basic_owner = format!("Basic {}", STANDARD.encode("owner-token:"));
        for authorization in ["Bearer atk_other", "Bearer other", basic_owner.as_str()] {
            assert_eq!(ask(authorization, Verb::Read).await, Err(StatusCode::UNAUTHORIZED), "{authorization}");
        }
    }

    #[tokio::test]
    async fn no_credential_is_not_authenticated() {
        let problem = access().authorize(&HeaderMap::new(), Verb::Read).await.expect_err("refused");
        assert_eq!(problem.status(), StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn a_refused_token_is_told_how_to_get_one_that_is_taken() {
        let trail = document(1).trail;
        let refused = |denial| refuse(&denial, &trail, "audience", Verb::Read);
        let token = refused(Denial::ApiServerToken("user \"jane\"".to_owned()));
        assert_eq!(token.status(), StatusCode::UNAUTHORIZED);
        assert!(token.detail().ends_with("kubectl create token acme-owner --namespace=team-a --audience=audience"));
        let other = refused(Denial::OtherAudience("service account \"team-a/app\"".to_owned()));
        assert_eq!(other.status(), StatusCode::UNAUTHORIZED);
        assert!(other.detail().ends_with("kubectl create token NAME --audience=audience"));
    }

    #[test]
    fn a_refusal_names_who_what_and_what_to_do() {
        let trail = document(1).trail;
        let who = "user \"jane\"".to_owned();
        assert_eq!(
            refuse(&Denial::NotAllowed(who), &trail, "audience", Verb::Read).detail(),
            "user \"jane\" may not get audittrails/events of \"acme\" in namespace \"team-a\": \
             list them in spec.access.owners of the AuditTrail"
        );
        let who = "service account \"team-a/app\"".to_owned();
        assert_eq!(
            refuse(&Denial::NotAllowed(who), &trail, "audience", Verb::Replay).detail(),
            "service account \"team-a/app\" may not update audittrails/events of \"acme\" in namespace \"team-a\": \
             list them in spec.access.owners of the AuditTrail"
        );
    }
}
