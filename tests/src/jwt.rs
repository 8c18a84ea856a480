//! JSON Web Tokens (RFC 7519) signed with ES256 (RFC 7518, section 3.4), for tests that make some which nobody hands out.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

/// A token of these claims, signed with this P-256 key.
///
/// # Panics
/// When the key is of another kind.
pub fn sign(key: &KeyPair, header: &Value, claims: &Value) -> String {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der(), &random);
    let key = key.expect("a P-256 key");
    let signed = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
    let signature = key.sign(&random, signed.as_bytes()).expect("it can sign");
    format!("{signed}.{}", encoded(signature))
}

/// Header and claims of a token.
///
/// # Panics
/// When it is none.
pub fn read(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| {
        let bytes = URL_SAFE_NO_PAD.decode(part).expect("base64url");
        serde_json::from_slice(&bytes).unwrap_or(Value::Null)
    });
    let mut next = || parts.next().expect("three parts");
    (next(), next())
}

/// The public half of a P-256 key as a JSON Web Key (RFC 7517) with this id.
///
/// # Panics
/// When the key is of another kind.
pub fn public_key(key: &KeyPair, id: &str) -> Value {
    // An uncompressed point (SEC 1, section 2.3.3): 4, x, y.
    let [4, point @ ..] = key.public_key_raw() else { panic!("not an uncompressed point") };
    let (x, y) = point.split_at(point.len() / 2);
    json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": encoded(x), "y": encoded(y)})
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
