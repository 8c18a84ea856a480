//! A certificate authority for each trail, and the leaves that it signs.
//!
//! ECDSA P-256 throughout: every TLS library takes it, and a handshake costs a collector little.
//! Keys and the time are arguments; nothing here reads a clock.

use audittrail_crds::document::Sensitive;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, pem::Pem, prelude::FromDer};

/// Life of an authority. Its renewal has to reach every client that trusts it, so it is long.
pub const AUTHORITY_DAYS: i64 = 3650;

/// Life of a leaf.
pub const LEAF_DAYS: i64 = 90;

/// A leaf is renewed when fewer days than this are left, so that the old and the new overlap.
pub const RENEW_BEFORE_DAYS: i64 = 30;

/// Certificates begin this long ago: clocks of clients differ.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);

/// A trail's certificate authority.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authority {
    /// PEM certificate.
    pub certificate: String,
    /// PEM private key (PKCS #8).
    pub key: Sensitive,
}

/// A server's certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leaf {
    /// PEM certificate.
    pub certificate: String,
    /// PEM private key (PKCS #8).
    pub key: Sensitive,
}

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key or certificate of the authority cannot be read, or signing failed.
    #[error("the certificate authority cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
    /// The certificate is of another key. Whatever the key signs, the certificate then does not vouch for.
    #[error("the certificate authority's certificate is not that of its private key")]
    OtherKey,
    /// A date outside of what certificates can say.
    #[error("a certificate cannot say this date: {0}")]
    Date(#[from] time::error::ComponentRange),
}

impl Authority {
    /// Makes an authority called `name` for `key`.
    pub fn new(name: &str, key: &KeyPair, now: Timestamp) -> Result<Self, Error> {
        let mut params = parameters(name, now, AUTHORITY_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self { certificate: params.self_signed(key)?.pem(), key: Sensitive::new(key.serialize_pem()) })
    }

    /// Takes what a Secret holds, if it is a certificate and its key.
    pub fn read(certificate: &str, key: &str) -> Result<Self, Error> {
        let authority = Self { certificate: certificate.to_owned(), key: Sensitive::new(key) };
        let issuer = authority.issuer()?;
        if is_of_key(certificate, issuer.key()) { Ok(authority) } else { Err(Error::OtherKey) }
    }

    /// Signs a server certificate of `key` for `names` (DNS names and IP addresses).
    pub fn issue(&self, names: &[String], key: &KeyPair, now: Timestamp) -> Result<Leaf, Error> {
        let mut params = parameters(names.first().map_or("", String::as_str), now, LEAF_DAYS)?;
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer()?)?;
        Ok(Leaf { certificate: certificate.pem(), key: Sensitive::new(key.serialize_pem()) })
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, Error> {
        let key = KeyPair::from_pem(self.key.reveal())?;
        Ok(Issuer::from_ca_cert_pem(&self.certificate, key)?)
    }
}

impl Leaf {
    /// Whether this leaf can go on serving: signed by `authority`, for exactly `names`, its key
    /// the certificate's, and at least [`RENEW_BEFORE_DAYS`] left.
    pub fn is_current(&self, authority: &Authority, names: &[String], now: Timestamp) -> bool {
        KeyPair::from_pem(self.key.reveal()).is_ok_and(|key| is_of_key(&self.certificate, &key))
            && with_certificates(&self.certificate, &authority.certificate, |leaf, issuer| {
                let ends = leaf.validity().not_after.timestamp();
                leaf.verify_signature(Some(issuer.public_key())).is_ok()
                    && alternative_names(leaf) == sorted(names.to_vec())
                    && ends - now.as_second() >= RENEW_BEFORE_DAYS * 24 * 3600
            })
            .unwrap_or(false)
    }
}

/// Whether `text` is PEM with at least one certificate, and nothing unreadable.
pub fn is_certificate_bundle(text: &str) -> bool {
    let mut count = 0_usize;
    for block in Pem::iter_from_buffer(text.as_bytes()) {
        match block {
            Ok(pem) if pem.label == "CERTIFICATE" && pem.parse_x509().is_ok() => count += 1,
            _ => return false,
        }
    }
    count > 0
}

fn parameters(name: &str, now: Timestamp, days: i64) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name(name));
    params.not_before = moment(now - BACKDATED)?;
    params.not_after = moment(now + SignedDuration::from_hours(24 * days))?;
    Ok(params)
}

/// A common name ends at 64 characters (RFC 5280, appendix A.1); nothing reads ours but people.
fn common_name(name: &str) -> String {
    name.chars().take(64).collect()
}

fn moment(at: Timestamp) -> Result<OffsetDateTime, Error> {
    Ok(OffsetDateTime::from_unix_timestamp(at.as_second())?)
}

/// Whether the first certificate of `text` is that of `key`. The bits of the public key are compared, since there are several
/// ways to say of which algorithm they are.
fn is_of_key(text: &str, key: &KeyPair) -> bool {
    let Some(pem) = first_block(text) else { return false };
    let parsed = X509Certificate::from_der(&pem.contents);
    parsed.is_ok_and(|(_, certificate)| certificate.public_key().subject_public_key.data == key.public_key_raw())
}

fn with_certificates<T>(
    leaf: &str,
    issuer: &str,
    judge: impl FnOnce(&X509Certificate, &X509Certificate) -> T,
) -> Option<T> {
    let leaf = first_block(leaf)?;
    let issuer = first_block(issuer)?;
    let (_, leaf) = X509Certificate::from_der(&leaf.contents).ok()?;
    let (_, issuer) = X509Certificate::from_der(&issuer.contents).ok()?;
    Some(judge(&leaf, &issuer))
}

fn first_block(text: &str) -> Option<Pem> {
    Pem::iter_from_buffer(text.as_bytes()).next()?.ok()
}

fn alternative_names(certificate: &X509Certificate) -> Vec<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.iter().flat_map(|names| &names.value.general_names);
    sorted(names.filter_map(text).collect())
}

fn text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map(|four| std::net::Ipv4Addr::from(four).to_string())
            .or_else(|_| <[u8; 16]>::try_from(*bytes).map(|sixteen| std::net::Ipv6Addr::from(sixteen).to_string()))
            .ok(),
        _ => None,
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().expect("a time")
    }

    fn key() -> KeyPair {
        KeyPair::generate().expect("a key")
    }

    fn names() -> Vec<String> {
        ["acme-collector", "acme-collector.ns.svc", "localhost", "127.0.0.1"].map(str::to_owned).to_vec()
    }

    fn authority() -> Authority {
        Authority::new("acme", &key(), now()).expect("an authority")
    }

    #[test]
    fn a_leaf_is_current_until_30_days_are_left() {
        let authority = authority();
        let leaf = authority.issue(&names(), &key(), now()).expect("a leaf");
        assert!(leaf.is_current(&authority, &names(), now()));
        assert!(leaf.is_current(&authority, &names(), now() + DAY * 60));
        assert!(!leaf.is_current(&authority, &names(), now() + DAY * 60 + SignedDuration::from_secs(1)));
    }

    #[test]
    fn a_leaf_of_another_authority_is_not_current() {
        let leaf = authority().issue(&names(), &key(), now()).expect("a leaf");
        assert!(!leaf.is_current(&authority(), &names(), now()));
    }

    #[test]
    fn a_leaf_for_other_names_is_not_current() {
        let authority = authority();
        let leaf = authority.issue(&names()[1..], &key(), now()).expect("a leaf");
        assert!(!leaf.is_current(&authority, &names(), now()));
    }

    #[test]
    fn a_leaf_whose_key_is_damaged_is_not_current() {
        let authority = authority();
        let mut leaf = authority.issue(&names(), &key(), now()).expect("a leaf");
        leaf.key = Sensitive::new("-----BEGIN PRIVATE KEY-----");
        assert!(!leaf.is_current(&authority, &names(), now()));
    }

    #[test]
    fn a_leaf_with_another_key_is_not_current() {
        let authority = authority();
        let mut leaf = authority.issue(&names(), &key(), now()).expect("a leaf");
        leaf.key = Sensitive::new(key().serialize_pem());
        assert!(!leaf.is_current(&authority, &names(), now()));
    }

    #[test]
    fn an_authority_whose_key_is_that_of_another_one_is_refused() {
        let (one, two) = (authority(), authority());
        let refused = Authority::read(&one.certificate, two.key.reveal());
        assert!(matches!(refused, Err(Error::OtherKey)), "{refused:?}");
    }

    #[test]
    fn an_authority_is_read_back_from_its_secret() {
        let made = authority();
        assert_eq!(Authority::read(&made.certificate, made.key.reveal()).expect("readable"), made);
        assert!(Authority::read("nonsense", made.key.reveal()).is_err());
        assert!(Authority::read(&made.certificate, "nonsense").is_err());
    }

    #[test]
    fn a_bundle_is_certificates_and_nothing_else() {
        let (one, two) = (authority(), authority());
        assert!(is_certificate_bundle(&one.certificate));
        assert!(is_certificate_bundle(&format!("{}{}", one.certificate, two.certificate)));
        assert!(!is_certificate_bundle(one.key.reveal()));
        assert!(!is_certificate_bundle("nonsense"));
        assert!(!is_certificate_bundle(""));
    }
}
