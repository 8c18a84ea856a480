//! The addresses of a source's name, without those which nobody may connect to ([`audittrail_crds::address`]).

use audittrail_crds::address::{self, Refused};
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::lookup_host;

/// Looks names up as the system does, each time anew. What it returns is what is connected to: there is no second look-up
/// which could answer something else.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    allowed: Arc<[IpNet]>,
}

/// A source at an address which nobody may connect to.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} leads to {} ({}), where nothing is sent to: name another endpoint, or have the network allowed \
     (value forwarding.allowedNetworks of the chart, allowedSourceNetworks of a document)",
    .0.host, .0.address, .0.kind
)]
pub(super) struct RefusedAddress(Refused);

impl Addresses {
    /// Addresses in `allowed` are never refused.
    pub(super) fn new(allowed: &[IpNet]) -> Self {
        Self { allowed: allowed.into() }
    }

    /// The check of a host that is an address itself: the HTTP client does not look such a host up.
    pub(super) fn check(&self, host: &str) -> Result<(), RefusedAddress> {
        address::check_literal(host, &self.allowed).map_err(RefusedAddress)
    }

    /// Those of `found` that may be connected to; an error where `host` has others only.
    fn permitted(&self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, RefusedAddress> {
        address::permitted(host, found, &self.allowed).map_err(RefusedAddress)
    }
}

impl Resolve for Addresses {
    fn resolve(&self, name: Name) -> Resolving {
        let addresses = self.clone();
        Box::pin(async move {
            let found = lookup_host((name.as_str(), 0)).await?.collect();
            let permitted = addresses.permitted(name.as_str(), found)?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn addresses(allowed: &[&str]) -> Addresses {
        let allowed: Vec<IpNet> = allowed.iter().map(|text| text.parse().expect("a network")).collect();
        Addresses::new(&allowed)
    }

    fn found(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|text| SocketAddr::new(text.parse().expect("an address"), 0)).collect()
    }

    #[test]
    fn of_several_addresses_those_remain_that_are_allowed() {
        let all = found(&["127.0.0.1", "10.0.0.1", "fe80::1", "2001:db8::1"]);
        let permitted = addresses(&[]).permitted("host", all.clone()).expect("two remain");
        assert_eq!(permitted, found(&["10.0.0.1", "2001:db8::1"]));
        let permitted = addresses(&["fe80::/10"]).permitted("host", all).expect("three remain");
        assert_eq!(permitted, found(&["10.0.0.1", "fe80::1", "2001:db8::1"]));
    }

    #[test]
    fn where_none_remains_the_error_names_host_address_and_rule() {
        let error = addresses(&[]).permitted("host.example", found(&["169.254.169.254", "::1"])).expect_err("refused");
        let error = error.to_string();
        assert!(error.starts_with("host.example leads to 169.254.169.254 (cloud metadata), where nothing"), "{error}");
    }

    #[test]
    fn a_host_that_is_an_address_is_checked_and_a_name_is_left_to_its_look_up() {
        let addresses = addresses(&["127.0.0.2/32"]);
        for host in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"] {
            addresses.check(host).expect_err(host);
        }
        for host in ["127.0.0.2", "10.0.0.1", "[2001:db8::1]", "localhost"] {
            addresses.check(host).expect(host);
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_as_the_system_does() {
        let resolve = async |allowed: &[&str]| addresses(allowed).resolve("localhost".parse().expect("a name")).await;
        let Err(error) = resolve(&[]).await else { panic!("localhost is refused") };
        assert!(error.downcast_ref::<RefusedAddress>().is_some(), "{error}");
        let found: Vec<SocketAddr> = resolve(&["127.0.0.0/8"]).await.expect("allowed").collect();
        assert!(found.iter().any(|found| found.ip() == IpAddr::from([127, 0, 0, 1])), "{found:?}");
    }
}
