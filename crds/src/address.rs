//! Which addresses a source may have.
//!
//! Who may write an `AuditForwarding` names a URL that a process of the platform connects to. Without a rule that would be a
//! way to what only this process can reach: its own machine, and the places where a cloud hands out credentials. So the
//! addresses below are refused, and the one looked at is the one connected to, since a name may resolve to anything.
//! Private networks are not among them: sources inside the cluster are usual.

use ipnet::IpNet;
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const LOOPBACK: &str = "loopback";
const UNSPECIFIED: &str = "unspecified";
const LINK_LOCAL: &str = "link-local";
const MULTICAST: &str = "multicast";
const BROADCAST: &str = "broadcast";
const METADATA: &str = "cloud metadata";

/// What is refused, and what it is called. The first network that contains an address gives the name.
const REFUSED: [(IpNet, &str); 16] = [
    // RFC 1122, section 3.2.1.3. A connection to 0.0.0.0 ends at 127.0.0.1 on Linux.
    (v4([127, 0, 0, 0], 8), LOOPBACK),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), LOOPBACK),
    (v4([0, 0, 0, 0], 8), UNSPECIFIED),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), UNSPECIFIED),
    // Where clouds tell a machine about itself, credentials included: first most of them, then what Alibaba Cloud, Azure, AWS
    // (also EKS Pod Identity), Google Cloud, Oracle Cloud and Scaleway have besides.
    (v4([169, 254, 169, 254], 32), METADATA),
    (v4([100, 100, 100, 200], 32), METADATA),
    (v4([168, 63, 129, 16], 32), METADATA),
    (v6([0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0], 32), METADATA),
    (v6([0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254], 128), METADATA),
    (v6([0xfd00, 0x00c1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), METADATA),
    (v6([0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x0042], 128), METADATA),
    // RFC 3927 and RFC 4291, section 2.5.6: services of the node, such as DNS caches and credentials of ECS tasks.
    (v4([169, 254, 0, 0], 16), LINK_LOCAL),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), LINK_LOCAL),
    (v4([224, 0, 0, 0], 4), MULTICAST),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), MULTICAST),
    (v4([255, 255, 255, 255], 32), BROADCAST),
];

/// IPv6 networks whose addresses stand for an IPv4 address, and the place of its first byte.
const EMBEDDING: [(IpNet, usize); 6] = [
    // IPv4-mapped and IPv4-compatible (RFC 4291, section 2.5.5), IPv4-translated (RFC 2765, section 2.1).
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), 12),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), 12),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), 12),
    // NAT64: the well-known prefix (RFC 6052, section 2.1), and the one for own use (RFC 8215) with the same layout.
    (v6([0x0064, 0xff9b, 0, 0, 0, 0, 0, 0], 96), 12),
    (v6([0x0064, 0xff9b, 1, 0, 0, 0, 0, 0], 48), 12),
    // 6to4 (RFC 3056, section 2).
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), 2),
];

const fn v4(bytes: [u8; 4], length: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])), length)
}

const fn v6(s: [u16; 8], length: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7])), length)
}

/// Why nobody may connect to `address`: what kind of address it is, or the IPv4 address within it. None where a network of
/// `allowed` contains one of the two, and for all other addresses.
pub fn refused(address: IpAddr, allowed: &[IpNet]) -> Option<&'static str> {
    let forms = || [Some(address), embedded(address)].into_iter().flatten();
    if forms().any(|form| allowed.iter().any(|network| network.contains(&form))) {
        return None;
    }
    forms().find_map(|form| REFUSED.iter().find(|(network, _)| network.contains(&form)).map(|(_, kind)| *kind))
}

/// A host that leads to refused addresses only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// The host.
    pub host: String,
    /// The first of its addresses.
    pub address: IpAddr,
    /// What kind of address that is.
    pub kind: &'static str,
}

/// Those addresses of `host` that may be connected to, by [`refused`]; an error where it has others only.
pub fn permitted(host: &str, mut found: Vec<SocketAddr>, allowed: &[IpNet]) -> Result<Vec<SocketAddr>, Refused> {
    let mut refusal = None;
    found.retain(|found| {
        let kind = refused(found.ip(), allowed);
        if let Some(kind) = kind {
            refusal.get_or_insert_with(|| Refused { host: host.to_owned(), address: found.ip(), kind });
        }
        kind.is_none()
    });
    match refusal {
        Some(refusal) if found.is_empty() => Err(refusal),
        _ => Ok(found),
    }
}

/// The check of a URL's host that is an address itself, which HTTP clients do not look up. A name passes: what it leads to
/// is known when it is looked up.
pub fn check_literal(host: &str, allowed: &[IpNet]) -> Result<(), Refused> {
    let Ok(address) = host.trim_matches(['[', ']']).parse() else { return Ok(()) };
    permitted(host, vec![SocketAddr::new(address, 0)], allowed).map(drop)
}

/// The IPv4 address that an IPv6 address stands for.
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let (_, at) = EMBEDDING.iter().find(|(network, _)| network.contains(&address))?;
    let bytes: [u8; 4] = v6.octets()[*at..at + 4].try_into().expect("four bytes of sixteen");
    Some(IpAddr::V4(bytes.into()))
}

/// Text that should be a network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotANetwork(String);

impl fmt::Display for NotANetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a network: write its address and length, for example 127.0.0.0/8", self.0)
    }
}

impl Error for NotANetwork {}

/// A network in CIDR notation (RFC 4632, section 3.1; RFC 4291, section 2.3).
pub fn network(text: &str) -> Result<IpNet, NotANetwork> {
    text.trim().parse().map_err(|_| NotANetwork(text.to_owned()))
}

/// Networks in CIDR notation; the first that is none is the error.
pub fn networks(texts: &[String]) -> Result<Vec<IpNet>, NotANetwork> {
    texts.iter().map(|text| network(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(address: &str, allowed: &[&str]) -> Option<&'static str> {
        let allowed: Vec<IpNet> = allowed.iter().map(|text| network(text).expect("a network")).collect();
        refused(address.parse().expect("an address"), &allowed)
    }

    fn found(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|text| SocketAddr::new(text.parse().expect("an address"), 0)).collect()
    }

    #[test]
    fn refused_addresses_are_left_out_of_those_that_a_name_has() {
        let rest = permitted("h", found(&["127.0.0.1", "10.0.0.1"]), &[]).expect("one is left");
        assert_eq!(rest, found(&["10.0.0.1"]));
        assert_eq!(permitted("h", Vec::new(), &[]).expect("no address is no refusal"), Vec::<SocketAddr>::new());
    }

    #[test]
    fn where_none_is_left_the_first_is_named() {
        let refused = permitted("h", found(&["169.254.169.254", "::1"]), &[]).expect_err("refused");
        let address = "169.254.169.254".parse().expect("an address");
        assert_eq!(refused, Refused { host: "h".to_owned(), address, kind: METADATA });
    }

    /// The first and the last address of a network, and their neighbours outside.
    fn assert_edges(inside: [&str; 2], outside: &[&str], expected: &'static str) {
        for address in inside {
            assert_eq!(kind(address, &[]), Some(expected), "{address}");
        }
        for address in outside {
            assert_eq!(kind(address, &[]), None, "{address}");
        }
    }

    #[test]
    fn each_network_is_refused_from_its_first_address_to_its_last() {
        assert_edges(["127.0.0.0", "127.255.255.255"], &["126.255.255.255", "128.0.0.0"], LOOPBACK);
        assert_edges(["0.0.0.0", "0.255.255.255"], &["1.0.0.0"], UNSPECIFIED);
        assert_edges(["169.254.0.0", "169.254.255.255"], &["169.253.255.255", "169.255.0.0"], LINK_LOCAL);
        assert_edges(["224.0.0.0", "239.255.255.255"], &["223.255.255.255", "240.0.0.0"], MULTICAST);
        assert_edges(["255.255.255.255"; 2], &["255.255.255.254"], BROADCAST);
        assert_edges(["169.254.169.254"; 2], &[], METADATA);
        assert_edges(["100.100.100.200"; 2], &["100.100.100.199", "100.100.100.201"], METADATA);
        assert_edges(["168.63.129.16"; 2], &["168.63.129.15", "168.63.129.17"], METADATA);
        assert_edges(["::1"; 2], &["::1:0:1"], LOOPBACK);
        assert_edges(["::"; 2], &[], UNSPECIFIED);
        let last = "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_edges(["fe80::", last], &["fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::"], LINK_LOCAL);
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_edges(["ff00::", last], &["feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], MULTICAST);
        let last = "fd00:ec2:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_edges(["fd00:ec2::", last], &["fd00:ec1:ffff:ffff:ffff:ffff:ffff:ffff", "fd00:ec3::"], METADATA);
        assert_edges(["fd00:ec2::254", "fd20:ce::254"], &["fd20:ce::253", "fd20:ce::255"], METADATA);
        assert_edges(["fd00:c1::a9fe:a9fe", "fd00:42::42"], &["fd00:c1::a9fe:a9fd", "fd00:42::43"], METADATA);
    }

    #[test]
    fn public_and_private_addresses_are_welcome() {
        for address in ["10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "8.8.8.8", "fd12::1", "2606:4700::1111"]
        {
            assert_eq!(kind(address, &[]), None, "{address}");
        }
    }

    #[test]
    fn no_way_to_write_an_ipv4_address_in_ipv6_is_a_way_around() {
        let forms = |hex: &str| {
            let prefixes = ["::ffff:", "::", "::ffff:0:", "64:ff9b::", "64:ff9b:1::", "64:ff9b:1:2:3:4:"];
            let mut forms: Vec<String> = prefixes.iter().map(|prefix| format!("{prefix}{hex}")).collect();
            forms.extend([format!("2002:{hex}::"), format!("2002:{hex}:1::2")]);
            forms
        };
        for (hex, expected) in [
            ("7f00:1", Some(LOOPBACK)),
            ("a9fe:a9fe", Some(METADATA)),
            ("a9fe:1", Some(LINK_LOCAL)),
            ("6464:64c8", Some(METADATA)),
            ("a83f:8110", Some(METADATA)),
            ("e000:1", Some(MULTICAST)),
            ("ffff:ffff", Some(BROADCAST)),
            ("0:0", Some(UNSPECIFIED)),
            ("808:808", None),
            ("a00:1", None),
        ] {
            for form in forms(hex) {
                assert_eq!(kind(&form, &[]), expected, "{form}");
            }
        }
    }

    #[test]
    fn an_allowed_network_is_allowed_and_its_neighbours_are_not() {
        let allowed = ["127.0.0.2/31", "fe80::/64"];
        assert_eq!(kind("127.0.0.1", &allowed), Some(LOOPBACK));
        assert_eq!(kind("127.0.0.2", &allowed), None);
        assert_eq!(kind("127.0.0.3", &allowed), None);
        assert_eq!(kind("127.0.0.4", &allowed), Some(LOOPBACK));
        assert_eq!(kind("fe80::1", &allowed), None);
        assert_eq!(kind("fe80:0:0:1::1", &allowed), Some(LINK_LOCAL));
        assert_eq!(kind("::ffff:127.0.0.2", &allowed), None);
        assert_eq!(kind("::ffff:127.0.0.4", &allowed), Some(LOOPBACK));
        assert_eq!(kind("::1", &["127.0.0.0/8"]), Some(LOOPBACK));
    }

    #[test]
    fn a_network_is_an_address_and_a_length() {
        let texts = |texts: &[&str]| networks(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(texts(&["127.0.0.0/8", " ::1/128"]).expect("networks").len(), 2);
        for text in ["127.0.0.1", "127.0.0.0/33", "::/129", "localhost", ""] {
            let error = texts(&["10.0.0.0/8", text]).expect_err(text).to_string();
            assert!(error.starts_with(&format!("{text:?} is not a network")), "{error}");
        }
    }
}
