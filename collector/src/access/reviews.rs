//! Who a token belongs to and what it may do, asked of the cluster: TokenReview
//! (`authentication.k8s.io/v1`), then SubjectAccessReview (`authorization.k8s.io/v1`).

use super::cache::{Cache, Decision, Key};
use super::{Identity, Verb};
use crate::event::SubmitterKind;
use crate::problem::Problem;
use audittrail_crds::document::{ApiServerTokens, ClusterAccess, Trail};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;
use sha2::{Digest, Sha256};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long all reviews of one request may take. A client would rather be told to come back.
pub const REVIEWS_TIMEOUT: Duration = Duration::from_secs(2);

/// Requests whose reviews run at once, at most: a flood of new tokens must not become a flood of reviews.
pub const REVIEWS_MAX: usize = 16;

/// When a client may try again after reviews failed, in seconds.
pub const RETRY_AFTER_SECONDS: u32 = 2;

/// API group of the resources that RBAC speaks of.
const GROUP: &str = "audittrail.dev";

/// The non-resource URL of the metrics.
pub const METRICS_PATH: &str = "/metrics";

/// How the cluster names service accounts: `system:serviceaccount:NAMESPACE:NAME`.
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Why the cluster says no.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Denial {
    /// Not a token of this cluster, or not any more.
    UnknownToken,
    /// The token of this service account, made for another audience.
    OtherAudience(String),
    /// The token of this person, made for the API server, where such tokens are not taken.
    ApiServerToken(String),
    /// RBAC does not allow it to this user.
    NotAllowed(String),
    /// The operator's account, which asks for events.
    Operator,
}

impl Verb {
    /// The verb in RBAC.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read | Self::Health | Self::Metrics => "get",
            Self::Write => "create",
            Self::Replay => "update",
        }
    }

    /// The subresource of the trail; none where the question is not about the trail.
    fn subresource(self) -> Option<&'static str> {
        match self {
            Self::Read | Self::Write | Self::Replay => Some("events"),
            Self::Health => Some("health"),
            Self::Metrics => None,
        }
    }

    /// The resource in RBAC, as a rule names it.
    pub fn resource(self) -> String {
        self.subresource().map_or_else(|| METRICS_PATH.to_owned(), |name| format!("audittrails/{name}"))
    }
}

/// Asks the cluster, and remembers what it said.
pub struct Reviews {
    client: kube::Client,
    cache: Mutex<Cache>,
    running: Semaphore,
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviews").finish_non_exhaustive()
    }
}

impl Reviews {
    /// Asks with `client`, whose account needs `create` on both kinds of review.
    pub fn new(client: kube::Client) -> Self {
        Self { client, cache: Mutex::default(), running: Semaphore::new(REVIEWS_MAX) }
    }

    /// What the cluster says of `token`, now or within the last seconds. A problem (503) when it cannot be asked.
    pub async fn decide(
        &self,
        token: &str,
        cluster: &ClusterAccess,
        trail: &Trail,
        verb: Verb,
    ) -> Result<Decision, Problem> {
        let key = key(token, cluster, verb);
        let asked = Instant::now();
        if let Some(decision) = self.cache().get(&key, asked) {
            return Ok(decision);
        }
        let decision = match timeout(REVIEWS_TIMEOUT, self.ask(token, cluster, trail, verb)).await {
            Ok(Ok(decision)) => decision,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a review failed");
                return Err(unavailable("the cluster could not be asked who you are and what you may do"));
            }
            Err(_) => {
                tracing::warn!("reviews took more than {} s", REVIEWS_TIMEOUT.as_secs());
                return Err(unavailable("the cluster did not answer in time who you are and what you may do"));
            }
        };
        // Its age counts from the question: what has changed since is not in the answer.
        self.cache().put(key, decision.clone(), asked);
        Ok(decision)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        // Nothing that panics runs under the lock.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(
        &self,
        token: &str,
        cluster: &ClusterAccess,
        trail: &Trail,
        verb: Verb,
    ) -> Result<Decision, kube::Error> {
        let _permit = self.running.acquire().await;
        let user = match self.authenticate(token, cluster).await? {
            Ok(user) => user,
            Err(denial) => return Ok(Err(denial)),
        };
        let identity = identity(&user);
        if is_kept_from_events(&identity, cluster, verb) {
            return Ok(Err(Denial::Operator));
        }
        let who = who(&identity);
        let allowed = self.allowed(user, trail, verb).await?;
        Ok(if allowed { Ok(identity) } else { Err(Denial::NotAllowed(who)) })
    }

    /// A token for the trail's audience may be anybody's. A person's own token carries the API server's, and is taken
    /// where the document says so.
    ///
    /// One review with both audiences would do if we knew the API server's. It vouches for an OIDC token only when it is
    /// asked for one of its own (`--api-audiences`, by default the issuer of service accounts' tokens), and nothing tells a
    /// collector that name; a review without audiences stands for it. It comes second: what most send costs one review.
    async fn authenticate(
        &self,
        token: &str,
        cluster: &ClusterAccess,
    ) -> Result<Result<UserInfo, Denial>, kube::Error> {
        let for_trail = self.review_token(token, Some(&cluster.audience)).await?;
        if let Some(user) = authenticated(for_trail, Some(&cluster.audience)) {
            return Ok(Ok(user));
        }
        let for_api_server = self.review_token(token, None).await?;
        let Some(user) = authenticated(for_api_server, None) else { return Ok(Err(Denial::UnknownToken)) };
        Ok(take_api_server_token(user, cluster.api_server_tokens))
    }

    async fn review_token(&self, token: &str, audience: Option<&str>) -> Result<TokenReviewStatus, kube::Error> {
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: audience.map(|audience| vec![audience.to_owned()]),
            },
            status: None,
        };
        let answer = Api::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        Ok(answer.status.unwrap_or_default())
    }

    async fn allowed(&self, user: UserInfo, trail: &Trail, verb: Verb) -> Result<bool, kube::Error> {
        let review = SubjectAccessReview { spec: question(user, trail, verb), ..SubjectAccessReview::default() };
        let answer = Api::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

fn unavailable(detail: &str) -> Problem {
    Problem::unavailable(RETRY_AFTER_SECONDS, detail)
}

/// All that a decision depends on, separated by a byte that none of them contains: a document that changes what is taken is
/// in force at once.
fn key(token: &str, cluster: &ClusterAccess, verb: Verb) -> Key {
    let ClusterAccess { audience, api_server_tokens, operator } = cluster;
    let of_people = match api_server_tokens {
        ApiServerTokens::Accept => "accept",
        ApiServerTokens::Refuse => "refuse",
    };
    let (operator, resource) = (operator.as_deref().unwrap_or_default(), verb.resource());
    let parts = [audience, of_people, operator, verb.word(), &resource, token];
    parts.iter().fold(Sha256::new(), |hasher, part| hasher.chain_update(part).chain_update([0])).finalize().into()
}

/// Whether this user is let in with a token for the API server. A service account is not: it can have one made for the
/// trail, and its token for the API server lies in every pod that runs as it.
fn take_api_server_token(user: UserInfo, taken: ApiServerTokens) -> Result<UserInfo, Denial> {
    let identity = identity(&user);
    match (identity.kind, taken) {
        (SubmitterKind::ServiceAccount, _) => Err(Denial::OtherAudience(who(&identity))),
        (_, ApiServerTokens::Refuse) => Err(Denial::ApiServerToken(who(&identity))),
        (_, ApiServerTokens::Accept) => Ok(user),
    }
}

/// RBAC would let the operator's account see, add and replay events, see [`ClusterAccess::operator`].
fn is_kept_from_events(identity: &Identity, cluster: &ClusterAccess, verb: Verb) -> bool {
    let is_operator =
        identity.kind == SubmitterKind::ServiceAccount && cluster.operator.as_deref() == Some(&identity.name);
    is_operator && matches!(verb, Verb::Read | Verb::Write | Verb::Replay)
}

/// The user of a review that says yes. A server which does not know audiences leaves them out of its
/// answer: then nothing says that the token was made for ours.
fn authenticated(status: TokenReviewStatus, audience: Option<&str>) -> Option<UserInfo> {
    let carries = |audience: &str| status.audiences.as_ref().is_some_and(|all| all.iter().any(|one| one == audience));
    if status.authenticated == Some(true) && audience.is_none_or(carries) { status.user } else { None }
}

fn question(user: UserInfo, trail: &Trail, verb: Verb) -> SubjectAccessReviewSpec {
    SubjectAccessReviewSpec {
        user: user.username,
        uid: user.uid,
        groups: user.groups,
        extra: user.extra,
        resource_attributes: verb.subresource().map(|subresource| ResourceAttributes {
            group: Some(GROUP.to_owned()),
            resource: Some("audittrails".to_owned()),
            subresource: Some(subresource.to_owned()),
            verb: Some(verb.word().to_owned()),
            name: Some(trail.name.clone()),
            namespace: Some(trail.namespace.clone()),
            ..ResourceAttributes::default()
        }),
        non_resource_attributes: verb
            .subresource()
            .is_none()
            .then(|| NonResourceAttributes { path: Some(METRICS_PATH.to_owned()), verb: Some(verb.word().to_owned()) }),
    }
}

fn identity(user: &UserInfo) -> Identity {
    let name = user.username.clone().unwrap_or_default();
    match name.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':')) {
        Some((namespace, account)) => {
            Identity { kind: SubmitterKind::ServiceAccount, name: format!("{namespace}/{account}") }
        }
        None => Identity { kind: SubmitterKind::User, name },
    }
}

/// For the sentence that says no.
fn who(identity: &Identity) -> String {
    match identity.kind {
        SubmitterKind::ServiceAccount => format!("service account {:?}", identity.name),
        _ => format!("user {:?}", identity.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::tests::document;
    use std::collections::{BTreeMap, HashSet};

    fn cluster() -> ClusterAccess {
        ClusterAccess {
            audience: "a".to_owned(),
            api_server_tokens: ApiServerTokens::Accept,
            operator: Some("system/operator".to_owned()),
        }
    }

    fn user(name: &str) -> UserInfo {
        UserInfo { username: Some(name.to_owned()), ..UserInfo::default() }
    }

    fn review(authenticated: bool, audiences: &[&str]) -> TokenReviewStatus {
        TokenReviewStatus {
            authenticated: Some(authenticated),
            audiences: Some(audiences.iter().map(|audience| (*audience).to_owned()).collect()),
            user: Some(user("jane")),
            error: None,
        }
    }

    #[test]
    fn a_yes_counts_only_for_the_audience_asked() {
        assert!(authenticated(review(true, &["trail"]), Some("trail")).is_some());
        assert!(authenticated(review(true, &["other"]), Some("trail")).is_none());
        assert!(authenticated(review(true, &[]), Some("trail")).is_none());
        assert!(authenticated(review(true, &[]), None).is_some());
        assert!(authenticated(review(false, &["trail"]), Some("trail")).is_none());
        assert!(authenticated(TokenReviewStatus::default(), None).is_none());
    }

    #[test]
    fn a_service_account_is_named_by_namespace_and_name() {
        let account = identity(&user("system:serviceaccount:team-a:app"));
        assert_eq!(account, Identity { kind: SubmitterKind::ServiceAccount, name: "team-a/app".to_owned() });
        let person = identity(&user("jane@example.com"));
        assert_eq!(person, Identity { kind: SubmitterKind::User, name: "jane@example.com".to_owned() });
    }

    #[test]
    fn the_question_passes_everything_through_that_rbac_or_a_webhook_may_look_at() {
        let extra = BTreeMap::from([("scopes".to_owned(), vec!["a".to_owned()])]);
        let user = UserInfo {
            username: Some("jane".to_owned()),
            uid: Some("1".to_owned()),
            groups: Some(vec!["owners".to_owned()]),
            extra: Some(extra.clone()),
        };
        let spec = question(user, &document(1).trail, Verb::Write);
        assert_eq!(spec.user.as_deref(), Some("jane"));
        assert_eq!(spec.uid.as_deref(), Some("1"));
        assert_eq!(spec.groups, Some(vec!["owners".to_owned()]));
        assert_eq!(spec.extra, Some(extra));
        let attributes = spec.resource_attributes.expect("asked for a resource");
        let asked =
            [&attributes.group, &attributes.resource, &attributes.subresource, &attributes.verb, &attributes.name];
        let asked = asked.map(|part| part.as_deref().unwrap_or_default());
        assert_eq!(asked, ["audittrail.dev", "audittrails", "events", "create", "acme"]);
        assert_eq!(attributes.namespace.as_deref(), Some("team-a"));
    }

    #[test]
    fn metrics_are_a_question_about_a_url_and_not_about_the_trail() {
        let spec = question(user("prometheus"), &document(1).trail, Verb::Metrics);
        assert_eq!(spec.resource_attributes, None);
        let asked = spec.non_resource_attributes.expect("asked for a URL");
        assert_eq!((asked.path.as_deref(), asked.verb.as_deref()), (Some("/metrics"), Some("get")));
    }

    #[test]
    fn every_verb_is_asked_and_remembered_apart() {
        let verbs = [Verb::Read, Verb::Write, Verb::Replay, Verb::Health, Verb::Metrics];
        let keys: HashSet<Key> = verbs.into_iter().map(|verb| key("token", &cluster(), verb)).collect();
        assert_eq!(keys.len(), verbs.len());
    }

    #[test]
    fn what_was_decided_under_other_rules_is_asked_again() {
        let of = |cluster| key("token", &cluster, Verb::Read);
        assert_eq!(of(cluster()), of(cluster()));
        assert_ne!(of(cluster()), of(ClusterAccess { audience: "b".to_owned(), ..cluster() }));
        assert_ne!(of(cluster()), of(ClusterAccess { api_server_tokens: ApiServerTokens::Refuse, ..cluster() }));
        assert_ne!(of(cluster()), of(ClusterAccess { operator: None, ..cluster() }));
    }

    #[test]
    fn the_operator_sees_how_the_trail_is_and_no_event() {
        let kept = |name: &str, verb| is_kept_from_events(&identity(&user(name)), &cluster(), verb);
        let operator = "system:serviceaccount:system:operator";
        assert!(kept(operator, Verb::Read) && kept(operator, Verb::Write) && kept(operator, Verb::Replay));
        assert!(!kept(operator, Verb::Health) && !kept(operator, Verb::Metrics));
        // A person of this name is somebody else.
        assert!(!kept("system/operator", Verb::Read));
        assert!(!kept("system:serviceaccount:team-a:operator", Verb::Read));
    }

    #[test]
    fn a_token_for_the_api_server_is_taken_from_people_while_the_document_says_so() {
        let (jane, app) = (user("jane"), user("system:serviceaccount:team-a:app"));
        assert_eq!(take_api_server_token(jane.clone(), ApiServerTokens::Accept), Ok(jane.clone()));
        let refused = Err(Denial::ApiServerToken("user \"jane\"".to_owned()));
        assert_eq!(take_api_server_token(jane, ApiServerTokens::Refuse), refused);
        for taken in [ApiServerTokens::Accept, ApiServerTokens::Refuse] {
            let refused = Err(Denial::OtherAudience("service account \"team-a/app\"".to_owned()));
            assert_eq!(take_api_server_token(app.clone(), taken), refused);
        }
    }

    /// A server that takes the connection and never answers.
    #[tokio::test]
    async fn a_cluster_that_hangs_is_a_503_within_the_time_out() {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = silent.local_addr().expect("bound");
        let config = kube::Config::new(format!("http://{address}").parse().expect("valid"));
        let reviews = Reviews::new(kube::Client::try_from(config).expect("a client"));
        let problem =
            reviews.decide("token", &cluster(), &document(1).trail, Verb::Read).await.expect_err("no decision");
        assert_eq!(problem.status(), axum::http::StatusCode::SERVICE_UNAVAILABLE);
        assert!(problem.detail().contains("in time"));
    }
}
