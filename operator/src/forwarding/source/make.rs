//! A source that a forwarding asks for: found or made, and its write key kept.

use super::answer::{Failure, Source};
use super::api::PublicApi;
use super::attempts::{Attempt, Key, With, attempt, wait};
use super::secret::{self, Holder};
use super::trouble::Trouble;
use super::{known, slug, tie};
use crate::api::status as api_status;
use crate::api::write::{self, Error};
use crate::context::{Context, RECHECK};
use crate::forwarding::read::Inputs;
use crate::forwarding::validate;
use crate::secret_text;
use audittrail_crds::document::Sensitive;
use audittrail_crds::forwarding::{CreateSource, CreatedSource};
use audittrail_crds::{AuditForwarding, AuditForwardingStatus};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::Api;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long one attempt may take with all its requests.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// Reason of the Event that a source was made in place of one that is gone.
const REPLACED: &str = "SourceReplaced";

/// Sees to the source that `create` asks for, when it is time to. Returns what was read, with the Secret or what is in its
/// way, and when to come again.
pub async fn make(context: &Context, mut inputs: Inputs, create: &CreateSource) -> Result<(Inputs, Duration), Error> {
    let wanted = tie::wanted(&inputs.forwarding);
    inputs.forwarding = tie::settle(&context.client, inputs.forwarding, wanted.as_ref()).await?;
    let holder = secret::holder(&inputs.forwarding, inputs.write_key.as_ref());
    // The next stage says what is wrong with these.
    let authorities = validate::authorities(&inputs);
    let (true, Holder::Nobody | Holder::Ours, Ok(authorities)) = (inputs.trail_exists, holder, authorities) else {
        return Ok((inputs, RECHECK));
    };
    let before = Before::read(context, &inputs, create, authorities).await?;
    inputs.trouble = before.trouble();
    let Ok(token) = before.token.clone() else { return Ok((inputs, RECHECK)) };
    let wait = wait(before.last.as_ref(), &before.with, Instant::now());
    if !wait.is_zero() {
        return Ok((inputs, wait));
    }
    let found = obtain(context, &inputs, token, before.with.authorities.as_deref()).await;
    let now = Instant::now();
    let attempt = before.attempt(&found, &create.token_secret_ref.name, now);
    let again = attempt.next.saturating_duration_since(now);
    inputs.trouble.clone_from(&attempt.trouble);
    context.sources.remember(&inputs.forwarding.uid().unwrap_or_default(), attempt, now);
    if let Ok(found) = found {
        inputs = keep(context, inputs, found).await?;
    }
    Ok((inputs, again))
}

/// What is known before an attempt.
struct Before {
    key: Key,
    last: Option<Attempt>,
    with: With,
    token: Result<Sensitive, secret_text::Error>,
}

impl Before {
    async fn read(
        context: &Context,
        inputs: &Inputs,
        create: &CreateSource,
        authorities: Option<String>,
    ) -> Result<Self, Error> {
        let (forwarding, secret) = (&inputs.forwarding, inputs.write_key.as_ref());
        let token = write::read(&secrets(context, forwarding), &create.token_secret_ref.name).await?;
        let key = secret::key(forwarding, secret);
        Ok(Self {
            last: context.sources.last(&forwarding.uid().unwrap_or_default()),
            token: super::token(token.as_ref(), &create.token_secret_ref),
            with: With {
                generation: forwarding.metadata.generation,
                token: token.and_then(|secret| secret.resource_version()),
                authorities,
                key: secret::present(secret).filter(|_| key == Key::Kept).map(Sensitive::new),
            },
            key,
        })
    }

    /// What is to be said until the next attempt. Once the key is kept, the token is needed no more but for the deletion.
    fn trouble(&self) -> Option<Trouble> {
        match &self.token {
            Err(error) if self.key == Key::Lacking => Some(Trouble::Token(error.clone())),
            _ => self.last.as_ref().filter(|last| last.kept || self.key == Key::Lacking)?.trouble.clone(),
        }
    }

    /// The attempt that brought `found`, with the token of the Secret `secret`.
    fn attempt(self, found: &Result<Found, Failure>, secret: &str, now: Instant) -> Attempt {
        let Self { key, last, mut with, .. } = self;
        let outcome = match found {
            Ok(found) => {
                with.key = Some(found.write_key.clone());
                Ok((!found.enabled).then(|| Trouble::switched_off(&found.created)))
            }
            Err(failure) => Err((failure, Trouble::of(failure, secret))),
        };
        attempt(last.as_ref(), with, key, outcome, now)
    }
}

/// A source with what is needed of it.
struct Found {
    created: CreatedSource,
    enabled: bool,
    write_key: Sensitive,
}

async fn obtain(
    context: &Context,
    inputs: &Inputs,
    token: Sensitive,
    authorities: Option<&str>,
) -> Result<Found, Failure> {
    let forwarding = &inputs.forwarding;
    let endpoint = tie::api_endpoint(forwarding).unwrap_or_default();
    let api = PublicApi::new(endpoint, token, authorities, &context.settings.allowed_source_networks)?;
    let slug = slug(forwarding);
    // An id is of one workspace; the slug is the same in each.
    let known = known(forwarding).filter(|_| made_elsewhere(inputs).is_none());
    let source = timeout(ATTEMPT_TIMEOUT, api.obtain(known, &slug))
        .await
        .unwrap_or_else(|_| Err(Failure::unavailable(format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()))))?;
    let Source { ref id, enabled, .. } = source;
    let Some(key) = source.write_key(secret::present(inputs.write_key.as_ref())) else {
        return Err(Failure::refused(format!("the source {slug} (id {id}) has no write key")));
    };
    Ok(Found { created: CreatedSource { id: id.clone(), slug }, enabled, write_key: key.clone() })
}

/// First the status, which deletion goes by, then the Secret.
async fn keep(context: &Context, mut inputs: Inputs, found: Found) -> Result<Inputs, Error> {
    let before = inputs.forwarding.status.clone().unwrap_or_default();
    if before.created_source.as_ref() != Some(&found.created) {
        let CreatedSource { id, slug } = &found.created;
        let forwarding = &inputs.forwarding;
        tracing::info!(name = forwarding.name_any(), namespace = forwarding.namespace(), id, slug, "there is a source");
        if let Some(note) = replaced(&inputs, id) {
            context.warn(forwarding, REPLACED, "Create", &note).await;
        }
        let status = AuditForwardingStatus { created_source: Some(found.created), ..before };
        let namespace = forwarding.namespace().unwrap_or_default();
        let api = Api::<AuditForwarding>::namespaced(context.client.clone(), &namespace);
        api_status::write(&api, &forwarding.name_any(), &status).await?;
        inputs.forwarding.status = Some(status);
    }
    let forwarding = &inputs.forwarding;
    let desired = secret::build(forwarding, &found.write_key);
    inputs.write_key = Some(write::apply(&secrets(context, forwarding), &desired).await?);
    Ok(inputs)
}

/// The Public API that the key in our Secret is from, where another one is asked now: its workspace is another one, too, or
/// there is another way to it.
fn made_elsewhere(inputs: &Inputs) -> Option<&str> {
    secret::api(inputs.write_key.as_ref()).filter(|api| Some(*api) != tie::api_endpoint(&inputs.forwarding))
}

/// What became of the source that was known before, when the one with this `id` was found or made.
fn replaced(inputs: &Inputs, id: &str) -> Option<String> {
    let forwarding = &inputs.forwarding;
    let (before, slug, api) = (known(forwarding)?, slug(forwarding), tie::api_endpoint(forwarding)?);
    Some(match made_elsewhere(inputs) {
        Some(other) => format!(
            "the source {slug} (id {before}) of {other} stays in its workspace: delete it there when nothing needs it; \
             events go to that of {api} (id {id}) from now on"
        ),
        None => format!("{api} has no source {slug} with the id {before}: it was made anew (id {id})"),
    })
}

fn secrets(context: &Context, forwarding: &AuditForwarding) -> Api<Secret> {
    Api::namespaced(context.client.clone(), &forwarding.namespace().unwrap_or_default())
}
