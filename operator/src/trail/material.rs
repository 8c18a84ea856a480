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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{managed, now, valid};
    use jiff::SignedDuration;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn completed(valid: &Valid, now: Timestamp) -> Material {
        complete(valid, now, &mut StdRng::seed_from_u64(1), KeyPair::generate).expect("material")
    }

    /// The trail as it is read in the next round, with what this one made.
    fn next_round(valid: &Valid, material: &Material) -> Valid {
        let mut next = valid.clone();
        next.kept.authority = Some(material.authority.clone());
        next.kept.password.clone_from(&material.postgres_password);
        next.kept.write_keys = Some(material.write_keys.clone());
        next.kept.postgres_leaf.clone_from(&material.postgres_leaf);
        next.kept.collector_leaf = Some(material.collector_leaf.clone());
        next
    }

    #[test]
    fn a_new_trail_gets_keys_of_its_own() {
        let material = completed(&valid(&managed()), now());
        let key = material.write_keys[0].key.reveal();
        assert!(key.starts_with("atk_") && key.len() == 44, "{key}");
        assert_eq!(material.postgres_password.expect("managed").reveal().len(), SECRET_CHARS);
    }

    #[test]
    fn the_next_round_makes_nothing() {
        let first = valid(&managed());
        let made = completed(&first, now());
        let again = completed(&next_round(&first, &made), now() + SignedDuration::from_hours(24));
        assert_eq!(again.authority, made.authority);
        assert_eq!((again.collector_leaf, again.postgres_leaf), (made.collector_leaf, made.postgres_leaf));
        assert_eq!((again.write_keys, again.postgres_password), (made.write_keys, made.postgres_password));
    }

    #[test]
    fn leaves_are_renewed_after_60_days_and_the_authority_is_not() {
        let first = valid(&managed());
        let made = completed(&first, now());
        let later = completed(&next_round(&first, &made), now() + SignedDuration::from_hours(24 * 61));
        assert_eq!(later.authority, made.authority);
        assert_ne!(later.collector_leaf, made.collector_leaf);
        assert_ne!(later.postgres_leaf, made.postgres_leaf);
    }

    #[test]
    fn leaves_of_a_lost_authority_are_made_anew() {
        let first = valid(&managed());
        let mut next = next_round(&first, &completed(&first, now()));
        next.kept.authority = None;
        let again = completed(&next, now());
        assert!(again.collector_leaf.is_current(&again.authority, &next.names.collector_certificate_names(), now()));
        assert_ne!(Some(again.collector_leaf), next.kept.collector_leaf);
    }
}
