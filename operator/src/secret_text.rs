//! One value of a Secret or ConfigMap, as text that may be used: the words for what is missing
//! or wrong are the same wherever one is named.

use audittrail_crds::condition::Reason;
use audittrail_crds::document::Sensitive;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

/// Where a value is looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// In a Secret.
    Secret,
    /// In a ConfigMap.
    ConfigMap,
}

/// What is missing or wrong. Never holds the value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// The object does not exist.
    #[error("{kind:?} {name} does not exist in this namespace: create it with the key {key}")]
    Missing {
        /// Secret or ConfigMap.
        kind: Kind,
        /// Its name.
        name: String,
        /// The key that is looked for.
        key: String,
    },
    /// The object lacks the key, or the value cannot be used.
    #[error("{kind:?} {name}: key {key} {what}")]
    Invalid {
        /// Secret or ConfigMap.
        kind: Kind,
        /// Its name.
        name: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Error {
    /// The condition's reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Missing { kind: Kind::Secret, .. } => Reason::SecretMissing,
            Self::Missing { kind: Kind::ConfigMap, .. } => Reason::ConfigMapMissing,
            Self::Invalid { kind: Kind::Secret, .. } => Reason::SecretInvalid,
            Self::Invalid { kind: Kind::ConfigMap, .. } => Reason::ConfigMapInvalid,
        }
    }
}

/// A value, and where it was found.
pub struct Text<'a> {
    kind: Kind,
    name: &'a str,
    key: &'a str,
    value: &'a str,
}

impl<'a> Text<'a> {
    /// The value under `key` of `secret`, which is called `name`.
    pub fn of_secret(secret: Option<&'a Secret>, name: &'a str, key: &'a str) -> Result<Self, Error> {
        let nowhere = Self { kind: Kind::Secret, name, key, value: "" };
        let Some(secret) = secret else { return Err(nowhere.missing()) };
        let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
        nowhere.with(bytes)
    }

    /// The value under `key` of `config_map`, which is called `name`.
    pub fn of_config_map(config_map: Option<&'a ConfigMap>, name: &'a str, key: &'a str) -> Result<Self, Error> {
        let nowhere = Self { kind: Kind::ConfigMap, name, key, value: "" };
        let Some(config_map) = config_map else { return Err(nowhere.missing()) };
        nowhere.with(config_map.data.as_ref().and_then(|data| data.get(key)).map(String::as_bytes))
    }

    fn with(self, bytes: Option<&'a [u8]>) -> Result<Self, Error> {
        match bytes.map(str::from_utf8) {
            None => Err(self.invalid("is not there")),
            Some(Err(_)) => Err(self.invalid("is not UTF-8 text")),
            Some(Ok("")) => Err(self.invalid("is empty")),
            Some(Ok(value)) => Ok(Self { value, ..self }),
        }
    }

    /// Number of characters.
    pub fn chars(&self) -> usize {
        self.value.chars().count()
    }

    /// Whether every character is printable ASCII and no space. A line break at the end, which
    /// `echo` leaves in many Secrets, is not.
    pub fn is_printable(&self) -> bool {
        self.value.bytes().all(|byte| byte.is_ascii_graphic())
    }

    /// Whether the value starts with `prefix`.
    pub fn starts_with(&self, prefix: &str) -> bool {
        self.value.starts_with(prefix)
    }

    /// The value, for a place that may show it.
    pub fn public(&self) -> &'a str {
        self.value
    }

    /// The value, out of sight.
    pub fn sensitive(&self) -> Sensitive {
        Sensitive::new(self.value)
    }

    /// An error that says `what`, unless `good`.
    pub fn check(&self, good: bool, what: &'static str) -> Result<(), Error> {
        if good { Ok(()) } else { Err(self.invalid(what)) }
    }

    /// An error that says `what` is wrong with this value.
    pub fn invalid(&self, what: &'static str) -> Error {
        Error::Invalid { kind: self.kind, name: self.name.to_owned(), key: self.key.to_owned(), what }
    }

    fn missing(&self) -> Error {
        Error::Missing { kind: self.kind, name: self.name.to_owned(), key: self.key.to_owned() }
    }
}

/// Whether `secret` has something under `key`.
pub fn has_value(secret: &Secret, key: &str) -> bool {
    secret.data.as_ref().and_then(|data| data.get(key)).is_some_and(|bytes| !bytes.0.is_empty())
}
