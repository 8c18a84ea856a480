//! An OpenID Connect issuer of the tests' own, which the control plane trusts: people sign in there, and use kubectl with
//! what they get.

use crate::jwt;
use axum::routing::get;
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use jiff::Timestamp;
use rcgen::KeyPair;
use serde_json::{Value, json};
use std::fmt;
use std::net::TcpListener;
use std::thread;

/// The audience of its tokens: the client as which kubectl is registered there.
pub const CLIENT: &str = "kubectl";

/// What the API server writes before its names, so that no issuer can make a `system:` user.
pub const PREFIX: &str = "oidc:";

/// Id of the key that signs.
const KEY_ID: &str = "1";

/// How long a person is signed in, in seconds.
const LIFE_SECONDS: i64 = 600;

/// An issuer. Serves its documents until the process ends.
pub struct Issuer {
    url: String,
    /// Its certificate, which signed itself.
    certificate: String,
    key: KeyPair,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Issuer {
    /// Starts to serve the discovery document and the key (OpenID Connect Discovery 1.0, section 4).
    ///
    /// # Panics
    /// When no port is free.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("https://{}", listener.local_addr().expect("it is bound"));
        let tls = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let key = KeyPair::generate().expect("a key can be made");
        let keys = json!({"keys": [jwt::public_key(&key, KEY_ID)]});
        let discovery = json!({
            "issuer": url, "jwks_uri": format!("{url}/keys"), "authorization_endpoint": format!("{url}/authorize"),
            "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(async || Json(discovery)))
            .route("/keys", get(async || Json(keys)));
        let certificate = tls.cert.pem();
        serve(listener, (certificate.clone(), tls.signing_key.serialize_pem()), routes);
        Self { url, certificate, key }
    }

    /// The API server's configuration (`--authentication-config`).
    pub fn authentication(&self) -> Value {
        json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AuthenticationConfiguration",
            "jwt": [{
                "issuer": {"url": self.url, "certificateAuthority": self.certificate, "audiences": [CLIENT]},
                "claimMappings": {
                    "username": {"claim": "email", "prefix": PREFIX},
                    "groups": {"claim": "groups", "prefix": PREFIX},
                },
            }],
        })
    }

    /// What a person is, as the issuer says it: signed in a moment ago.
    pub fn claims(&self, email: &str, groups: &[&str]) -> Value {
        let now = Timestamp::now().as_second();
        json!({
            "iss": self.url, "aud": CLIENT, "sub": email, "email": email, "groups": groups,
            "iat": now, "exp": now + LIFE_SECONDS,
        })
    }

    /// The token of these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.token_by(&self.key, claims)
    }

    /// The same signed by somebody else.
    pub fn token_by(&self, key: &KeyPair, claims: &Value) -> String {
        jwt::sign(key, &json!({"alg": "ES256", "typ": "JWT", "kid": KEY_ID}), claims)
    }
}

/// In a thread with a runtime of its own, since each test has one and takes it along.
fn serve(listener: TcpListener, (certificate, key): (String, String), routes: Router) {
    // Another part of the process may have done it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    listener.set_nonblocking(true).expect("a listener for the runtime");
    thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let tls = RustlsConfig::from_pem(certificate.into_bytes(), key.into_bytes()).await;
            let server = axum_server::from_tcp_rustls(listener, tls.expect("a certificate and its key"));
            server.expect("a listener").serve(routes.into_make_service()).await.expect("it serves");
        });
    });
}
