//! Asking a trail's collector for its status, with a token of the operator's own account.

use crate::board::Applied;
use crate::context::Context;
use crate::names::Names;
use audittrail_crds::report::Report;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use reqwest::StatusCode;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(4);

/// Largest report that is read, in bytes: room for thousands of forwardings.
const REPORT_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Life of a token, in seconds. The API server grants no less than ten minutes.
const TOKEN_SECONDS: i64 = 3600;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server gave no token.
    #[error("cannot get a token for the collector: {0}")]
    Token(#[source] kube::Error),
    /// The trail's authority is no certificate.
    #[error("cannot trust the trail's certificate authority: {0}")]
    Authority(#[source] reqwest::Error),
    /// No answer.
    #[error("{}", innermost(.0))]
    Transport(#[from] reqwest::Error),
    /// An answer that is no report.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// A report that is too large.
    #[error("its report is larger than {REPORT_MAX_BYTES} bytes")]
    TooLarge,
    /// A report that cannot be read.
    #[error("its report cannot be read: {0}")]
    Format(#[from] serde_json::Error),
}

/// The collector of one trail, as the operator talks to it.
pub struct Collector {
    host: String,
    /// With the authority that it trusts.
    client: Option<(String, reqwest::Client)>,
    token: Option<Token>,
}

struct Token {
    text: String,
    renew_at: Timestamp,
}

impl Collector {
    /// The collector of the trail with these names.
    pub fn new(names: &Names) -> Self {
        Self { host: names.collector_host(), client: None, token: None }
    }

    /// Asks for the status.
    pub async fn ask(&mut self, context: &Context, applied: &Applied) -> Result<Report, Error> {
        let token = self.token(context).await?;
        let port = context.settings.collector_address.map_or(443, |address| address.port());
        let url = format!("https://{}:{port}/v1/status", self.host);
        let client = self.client(context, &applied.authority)?;
        let response = client.get(url).bearer_auth(token).send().await?;
        if response.status() != StatusCode::OK {
            // The collector may have been told to trust other tokens than this one by now.
            self.token = None;
            return Err(Error::Status(response.status()));
        }
        Ok(serde_json::from_slice(&body(response).await?)?)
    }

    fn client(&mut self, context: &Context, authority: &str) -> Result<reqwest::Client, Error> {
        match &self.client {
            Some((trusted, client)) if trusted == authority => Ok(client.clone()),
            _ => {
                let client = connect(context, &self.host, authority).map_err(Error::Authority)?;
                self.client = Some((authority.to_owned(), client.clone()));
                Ok(client)
            }
        }
    }

    async fn token(&mut self, context: &Context) -> Result<String, Error> {
        let now = Timestamp::now();
        if let Some(token) = self.token.as_ref().filter(|token| now < token.renew_at) {
            return Ok(token.text.clone());
        }
        let text = mint(context, &self.host).await.map_err(Error::Token)?;
        // At four fifths of its life.
        let renew_at = now + SignedDuration::from_secs(TOKEN_SECONDS / 5 * 4);
        self.token = Some(Token { text: text.clone(), renew_at });
        Ok(text)
    }
}

/// A client that trusts the trail's authority and nobody else.
fn connect(context: &Context, host: &str, authority: &str) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(authority.as_bytes())?)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        // A new connection each time: it goes through the Service, to any ready pod.
        .pool_max_idle_per_host(0);
    if let Some(address) = context.settings.collector_address {
        builder = builder.resolve(host, address);
    }
    builder.build()
}

async fn mint(context: &Context, audience: &str) -> Result<String, kube::Error> {
    let accounts = Api::<ServiceAccount>::namespaced(context.client.clone(), &context.settings.namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![audience.to_owned()],
            expiration_seconds: Some(TOKEN_SECONDS),
            bound_object_ref: None,
        },
        ..TokenRequest::default()
    };
    let answer =
        accounts.create_token_request(&context.settings.service_account, &PostParams::default(), &request).await?;
    Ok(answer.status.map(|status| status.token).unwrap_or_default())
}

async fn body(mut response: reqwest::Response) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > REPORT_MAX_BYTES {
            return Err(Error::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What really happened stands at the end of the chain: "connection refused", "invalid peer certificate".
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_timeout() { format!("no answer within {} s", TOTAL_TIMEOUT.as_secs()) } else { cause.to_string() }
}
