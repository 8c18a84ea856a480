//! Those who use the tests' control plane: people with client certificates, people of its issuer, and service accounts.

use crate::control_plane::ControlPlane;
use crate::jwt;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use std::path::PathBuf;

impl ControlPlane {
    /// The kubeconfig of a person whose client certificate has this name, and one group.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn person(&self, name: &str, group: &str) -> PathBuf {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.pki.issuer).expect("the authority signs").pem();
        let user = json!({
            "client-certificate-data": encoded(&certificate), "client-key-data": encoded(&key.serialize_pem()),
        });
        self.kubeconfig_of(&format!("person-{name}"), &user, self.port())
    }

    /// The kubeconfig of whoever has this token, for a control plane that is reached at this port.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn bearer(&self, name: &str, token: &str, port: u16) -> PathBuf {
        self.kubeconfig_of(&format!("bearer-{name}"), &json!({"token": token}), port)
    }

    /// A token of a service account for an audience; `None` is the API server's own.
    ///
    /// # Panics
    /// When there is no such account.
    pub fn token(&self, namespace: &str, account: &str, audience: Option<&str>) -> String {
        let audience = audience.map(|audience| format!("--audience={audience}"));
        let mut arguments = vec!["create", "token", account, "--namespace", namespace];
        arguments.extend(audience.as_deref());
        self.kubectl(&arguments, "").trim().to_owned()
    }

    /// A service account's token with other claims, signed by the API server's own key: as if it had made it so.
    pub fn changed(&self, token: &str, change: impl FnOnce(&mut Value)) -> String {
        changed(token, &self.pki.accounts, change)
    }

    fn kubeconfig_of(&self, name: &str, user: &Value, port: u16) -> PathBuf {
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
            "clusters": [{"name": "tests", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority-data": encoded(&self.pki.authority),
            }}],
            "users": [{"name": "tests", "user": user}],
        });
        let path = self.directory.join(name);
        // JSON is YAML.
        std::fs::write(&path, kubeconfig.to_string()).expect("a file can be written");
        path
    }
}

/// A token with other claims, signed by this key.
pub fn changed(token: &str, key: &KeyPair, change: impl FnOnce(&mut Value)) -> String {
    let (header, mut claims) = jwt::read(token);
    change(&mut claims);
    jwt::sign(key, &header, &claims)
}

fn encoded(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
