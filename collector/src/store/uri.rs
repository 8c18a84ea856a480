//! Reads a connection URI as libpq does (PostgreSQL documentation, "Connection Strings"): several hosts, ports of their own,
//! `target_session_attrs`. sqlx (0.9) knows one host only, so each gets options of its own here.

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::fmt::Write;
use std::str::FromStr;

/// Hosts of one URI, at most. They are all asked at once when the primary is searched.
const HOSTS_MAX: usize = 16;

/// Parameters that sqlx reads under the same name.
const PASSED_ON: [&str; 9] = [
    "user",
    "password",
    "dbname",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "options",
    "statement-cache-capacity",
];

/// Parameters of libpq that may stand in the URI and change nothing here: a bound of ours takes their place, the
/// collector names itself, or they say what a client may try first. Leaving out any other could weaken what was asked for.
const WITHOUT_EFFECT: [&str; 15] = [
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "connect_timeout",
    "channel_binding",
    "gssencmode",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "load_balance_hosts",
    "sslcompression",
    "sslnegotiation",
    "sslsni",
];

/// The other parameters of libpq. Only these are named when they are refused: what stands where a name is expected may be
/// the end of a password with a `?` in it.
const UNSUPPORTED: [&str; 19] = [
    "gssdelegation",
    "gsslib",
    "hostaddr",
    "krbsrvname",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_issuer",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "service",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "sslpassword",
];

/// Why a URI cannot be used. Its text never has a value of the URI but host names: any other may be a secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UriError {
    /// It is no URI of a Postgres database.
    #[error("it does not start with postgresql:// or postgres://")]
    Scheme,
    /// A part has a `%` that two hexadecimal digits must follow, or bytes that are no text.
    #[error("its {0} is not percent-encoded UTF-8")]
    Encoding(&'static str),
    /// An address starts with `[` and does not end with `]`.
    #[error("an IPv6 address in it has no closing bracket")]
    Bracket,
    /// A port is no number from 1 to 65535.
    #[error("the port of host {0:?} is not a number from 1 to 65535")]
    Port(String),
    /// There are neither one port nor as many as hosts.
    #[error("it has {ports} ports for {hosts} hosts: give one for all, or each its own")]
    Ports {
        /// How many ports there are.
        ports: usize,
        /// How many hosts there are.
        hosts: usize,
    },
    /// There are too many hosts.
    #[error("it has {0} hosts, and {HOSTS_MAX} are the most")]
    Hosts(usize),
    /// A parameter of libpq that is not supported.
    #[error("its parameter {0} is not supported: leave it out")]
    Unsupported(&'static str),
    /// A parameter that libpq does not have either.
    #[error(
        "it has a parameter that Postgres' own clients do not have either (a ? in the password has to be written %3F)"
    )]
    Unknown,
    /// A parameter has a value that it cannot have.
    #[error("its parameter {0} has a value that it cannot have")]
    Value(&'static str),
    /// `target_session_attrs` asks for a server that takes no writes.
    #[error(
        "its target_session_attrs asks for a server that may be a standby, and the collector writes: use read-write"
    )]
    Standby,
}

/// What a URI says.
#[derive(Debug, Default)]
struct Parts {
    hosts: Vec<String>,
    ports: Vec<String>,
    /// What sqlx reads, by its name.
    parameters: Vec<(String, String)>,
}

/// The options to connect with, one for each host and in the URI's order.
pub fn parse(uri: &str) -> Result<Vec<PgConnectOptions>, UriError> {
    let said = split(uri)?;
    let hosts = if said.hosts.is_empty() { vec![String::new()] } else { said.hosts.clone() };
    if hosts.len() > HOSTS_MAX {
        return Err(UriError::Hosts(hosts.len()));
    }
    let ports = match said.ports.as_slice() {
        [] => vec![String::new(); hosts.len()],
        [one] => vec![one.clone(); hosts.len()],
        each if each.len() == hosts.len() => each.to_vec(),
        _ => return Err(UriError::Ports { ports: said.ports.len(), hosts: hosts.len() }),
    };
    hosts.iter().zip(&ports).map(|(host, port)| options(host, port, &said.parameters)).collect()
}

/// How a host is named to people.
pub fn name(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(directory) => format!("{}:{}", directory.display(), options.get_port()),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// `postgresql://[user[:password]@][host[:port]][,…][/dbname][?name=value[&…]]`
fn split(uri: &str) -> Result<Parts, UriError> {
    let rest = ["postgresql://", "postgres://"].iter().find_map(|scheme| uri.strip_prefix(scheme));
    let rest = rest.ok_or(UriError::Scheme)?;
    let mut parts = Parts::default();
    // Like libpq: whatever stands before the first `@` or `/` belongs to the user, `?` and `#` included.
    let rest = match rest.find(['@', '/']) {
        Some(at) if rest[at..].starts_with('@') => {
            user(&rest[..at], &mut parts)?;
            &rest[at + 1..]
        }
        _ => rest,
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    if !authority.is_empty() {
        for host in authority.split(',') {
            let (host, port) = host_and_port(host)?;
            parts.hosts.push(decode(host, "host")?);
            parts.ports.push(port.to_owned());
        }
    }
    if !database.is_empty() {
        parts.parameters.push(("dbname".to_owned(), decode(database, "database name")?));
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        parameter(pair, &mut parts)?;
    }
    Ok(parts)
}

fn user(text: &str, parts: &mut Parts) -> Result<(), UriError> {
    let (user, password) = text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
    if !user.is_empty() {
        parts.parameters.push(("user".to_owned(), decode(user, "user")?));
    }
    if let Some(password) = password {
        parts.parameters.push(("password".to_owned(), decode(password, "password")?));
    }
    Ok(())
}

/// An IPv6 address stands in brackets, since it has colons of its own.
fn host_and_port(text: &str) -> Result<(&str, &str), UriError> {
    match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(UriError::Bracket)?;
            match rest.strip_prefix(':') {
                Some(port) => Ok((host, port)),
                None if rest.is_empty() => Ok((host, "")),
                None => Err(UriError::Bracket),
            }
        }
        None => Ok(text.split_once(':').unwrap_or((text, ""))),
    }
}

/// One `name=value`. `host` and `port` may be lists, and take the place of those before the `?`.
fn parameter(pair: &str, parts: &mut Parts) -> Result<(), UriError> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let name = decode(name, "list of parameters")?;
    let value = decode(value, "list of parameters")?;
    match name.as_str() {
        "host" => parts.hosts = value.split(',').map(str::to_owned).collect(),
        "port" => parts.ports = value.split(',').map(str::to_owned).collect(),
        "target_session_attrs" => match value.as_str() {
            // A session that is not read-write is never used, whatever was asked for.
            "any" | "read-write" | "primary" => {}
            "read-only" | "standby" | "prefer-standby" => return Err(UriError::Standby),
            _ => return Err(UriError::Value("target_session_attrs")),
        },
        known if WITHOUT_EFFECT.contains(&known) => {
            tracing::debug!(parameter = name, "this parameter of the database's URI has no effect");
        }
        known if PASSED_ON.contains(&known) => {
            parts.parameters.retain(|(earlier, _)| *earlier != name);
            parts.parameters.push((name, value));
        }
        _ => {
            let unsupported = UNSUPPORTED.into_iter().find(|unsupported| *unsupported == name);
            return Err(unsupported.map_or(UriError::Unknown, UriError::Unsupported));
        }
    }
    Ok(())
}

/// sqlx's own parser reads a URI of one host that has nothing but parameters.
fn options(host: &str, port: &str, parameters: &[(String, String)]) -> Result<PgConnectOptions, UriError> {
    let mut uri = "postgresql:///?".to_owned();
    let mut add = |name: &str, value: &str| {
        write!(uri, "{name}={}&", encode(value)).expect("a String takes any text");
    };
    if !host.is_empty() {
        add("host", host);
    }
    if !port.is_empty() {
        let number: u16 =
            port.parse().ok().filter(|number| *number > 0).ok_or_else(|| UriError::Port(host.to_owned()))?;
        add("port", &number.to_string());
    }
    for (name, value) in parameters {
        match name.as_str() {
            "sslmode" if PgSslMode::from_str(value).is_err() => return Err(UriError::Value("sslmode")),
            "statement-cache-capacity" if value.parse::<usize>().is_err() => {
                return Err(UriError::Value("statement-cache-capacity"));
            }
            _ => add(name, value),
        }
    }
    Ok(PgConnectOptions::from_str(&uri).expect("a URI of checked and encoded parameters is one"))
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").expect("a String takes any text");
        encoded
    })
}

fn decode(text: &str, part: &'static str) -> Result<String, UriError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.get(..2).ok_or(UriError::Encoding(part))?;
        // A zero byte ends strings in Postgres' protocol.
        let byte = hex::decode(digits).ok().and_then(|byte| byte.first().copied()).filter(|byte| *byte != 0);
        bytes.push(byte.ok_or(UriError::Encoding(part))?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| UriError::Encoding(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(uri: &str) -> Vec<String> {
        parse(uri).expect("valid").iter().map(name).collect()
    }

    fn error(uri: &str) -> UriError {
        parse(uri).expect_err("refused")
    }

    #[test]
    fn each_host_has_its_own_port() {
        let uri = "postgresql://u:p@db-1:5433,db-2,[2001:db8::1]:5434/log?target_session_attrs=read-write";
        assert_eq!(names(uri), ["db-1:5433", "db-2:5432", "2001:db8::1:5434"]);
        for options in parse(uri).expect("valid") {
            assert_eq!((options.get_username(), options.get_database()), ("u", Some("log")));
        }
    }

    #[test]
    fn lists_may_stand_behind_the_question_mark() {
        assert_eq!(names("postgresql:///log?host=db-1,db-2&port=5433,5434"), ["db-1:5433", "db-2:5434"]);
        assert_eq!(names("postgresql:///log?host=db-1,db-2&port=5433"), ["db-1:5433", "db-2:5433"]);
        assert_eq!(names("postgresql://ignored/log?host=::1"), ["::1:5432"]);
        assert_eq!(
            error("postgresql:///log?host=db-1,db-2,db-3&port=5433,5434"),
            UriError::Ports { ports: 2, hosts: 3 }
        );
    }

    #[test]
    fn a_directory_of_sockets_is_a_host() {
        let expected = ["/run/postgres:5433"];
        assert_eq!(names("postgresql://%2Frun%2Fpostgres:5433/log"), expected);
        assert_eq!(names("postgresql:///log?host=/run/postgres&port=5433"), expected);
    }

    #[test]
    fn what_is_encoded_is_decoded_once() {
        let options = &parse("postgres://us%40er:p%25w?#x@db/my%20log").expect("valid")[0];
        assert_eq!((options.get_username(), options.get_database()), ("us@er", Some("my log")));
        assert_eq!(options.get_host(), "db");
        let debug = format!("{options:?}");
        assert!(debug.contains(r#"password: Some("p%w?#x")"#), "{debug}");
    }

    #[test]
    fn parameters_that_the_driver_knows_reach_it() {
        let uri = "postgresql://db/log?sslmode=verify-full&options=-c%20search_path%3Da&user=jane&dbname=other";
        let options = &parse(uri).expect("valid")[0];
        assert!(matches!(options.get_ssl_mode(), PgSslMode::VerifyFull));
        assert_eq!(options.get_options(), Some("-c search_path=a"));
        assert_eq!((options.get_username(), options.get_database()), ("jane", Some("other")));
    }

    #[test]
    fn what_managed_services_add_is_welcome() {
        names("postgresql://u:p@db/log?sslmode=require&channel_binding=require&connect_timeout=10&keepalives=1");
    }

    #[test]
    fn a_server_that_takes_no_writes_must_not_be_asked_for() {
        for attributes in ["any", "read-write", "primary"] {
            names(&format!("postgresql://db/log?target_session_attrs={attributes}"));
        }
        for attributes in ["read-only", "standby", "prefer-standby"] {
            assert_eq!(error(&format!("postgresql://db/log?target_session_attrs={attributes}")), UriError::Standby);
        }
        assert_eq!(error("postgresql://db/log?target_session_attrs=master"), UriError::Value("target_session_attrs"));
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        assert_eq!(error("postgresql://db/log?require_auth=scram-sha-256"), UriError::Unsupported("require_auth"));
        assert_eq!(error("postgresql://db/log?pgbouncer=true"), UriError::Unknown);
        assert_eq!(error("mysql://db/log"), UriError::Scheme);
        assert_eq!(error("postgresql://db:x/log"), UriError::Port("db".to_owned()));
        assert_eq!(error("postgresql://db:0/log"), UriError::Port("db".to_owned()));
        assert_eq!(error("postgresql://db:65536/log"), UriError::Port("db".to_owned()));
        assert_eq!(error("postgresql://[::1/log"), UriError::Bracket);
        assert_eq!(error("postgresql://db/log?sslmode=maybe"), UriError::Value("sslmode"));
    }

    #[test]
    fn no_secret_is_in_the_text_of_an_error() {
        let secret = "hunter";
        for uri in [
            format!("postgresql://u:{secret}%zz@db/log"),
            format!("postgresql://u:{secret}@db/log?password={secret}%f"),
            format!("postgresql://u:a/b?{secret}@db/log"),
            secret.to_owned(),
        ] {
            let error = error(&uri);
            assert!(!format!("{error} {error:?}").contains(secret), "{error}");
        }
    }

    #[test]
    fn hosts_are_accepted_up_to_their_bound() {
        let uri = |hosts: usize| format!("postgresql://{}/log", vec!["db"; hosts].join(","));
        assert_eq!(names(&uri(HOSTS_MAX)).len(), HOSTS_MAX);
        assert_eq!(error(&uri(HOSTS_MAX + 1)), UriError::Hosts(HOSTS_MAX + 1));
    }
}
