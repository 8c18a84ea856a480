//! Between validate and build: what is random is kept where it is still good, and made where not.

use super::validate::{Storage, Valid};
use crate::pki::{self, Authority, Leaf};
use audittrail_crds::document::{Sensitive, WriteKey};
use jiff::Timestamp;
use rand::Rng;
use rand::distr::{Alphanumeric, SampleString};
use rcgen::KeyPair;

/// Random characters of a write key or a password (base 62): 238 bits.
const SECRET_CHARS: usize = 40;

/// Prefix of the write keys that the operator makes, so that scanners for leaked secrets know them.
const WRITE_KEY_PREFIX: &str = "atk_";

/// Keys, passwords and certificates of a trail.
#[derive(Clone, Debug)]
pub struct Material {
    /// The certificate authority.
    pub authority: Authority,
    /// The write key, and the previous one.
    pub write_keys: Vec<WriteKey>,
    /// The certificate of the collector.
    pub collector_leaf: Leaf,
    /// The certificate of managed Postgres.
    pub postgres_leaf: Option<Leaf>,
    /// The password of managed Postgres.
    pub postgres_password: Option<Sensitive>,
}

/// Completes what `valid` has. `new_key` makes a key pair: it reads the system's randomness.
pub fn complete(
    valid: &Valid,
    now: Timestamp,
    random: &mut impl Rng,
    new_key: impl Fn() -> Result<KeyPair, rcgen::Error>,
) -> Result<Material, pki::Error> {
    let (names, kept) = (&valid.names, &valid.kept);
    let authority = match &kept.authority {
        Some(authority) => authority.clone(),
        None => Authority::new(&format!("audittrail {}/{}", names.namespace, names.trail), &new_key()?, now)?,
    };
    let leaf = |kept: Option<&Leaf>, names: Vec<String>| match kept {
        Some(leaf) if leaf.is_current(&authority, &names, now) => Ok(leaf.clone()),
        _ => authority.issue(&names, &new_key()?, now),
    };
    let managed = matches!(valid.storage, Storage::Managed(_));
    let postgres_leaf = managed.then(|| leaf(kept.postgres_leaf.as_ref(), names.postgres_certificate_names()));
    Ok(Material {
        collector_leaf: leaf(kept.collector_leaf.as_ref(), names.collector_certificate_names())?,
        postgres_leaf: postgres_leaf.transpose()?,
        postgres_password: managed.then(|| kept.password.clone().unwrap_or_else(|| Sensitive::new(characters(random)))),
        write_keys: kept.write_keys.clone().unwrap_or_else(|| vec![write_key(&names.write_key(), random)]),
        authority,
    })
}

fn write_key(secret: &str, random: &mut impl Rng) -> WriteKey {
    let key = Sensitive::new(format!("{WRITE_KEY_PREFIX}{}", characters(random)));
    WriteKey { name: format!("{secret}/{}", super::build::secrets::WRITE_KEY), key }
}

fn characters(random: &mut impl Rng) -> String {
    Alphanumeric.sample_string(random, SECRET_CHARS)
}
