//! What `collector dev` prints: where it listens, its keys, and commands to begin with.

use super::Credentials;
use audittrail_crds::report::{Database, Report};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;

/// Pause between two looks at whether the collector is ready.
const POLL: Duration = Duration::from_millis(50);

/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

/// Waits until events can be stored, and then prints everything. What keeps the collector from it stands in the log.
pub async fn when_ready(listen: SocketAddr, credentials: &Credentials, kept: Option<&Path>) {
    let base = base(listen);
    while !is_ready(&base, credentials).await {
        sleep(POLL).await;
    }
    // Nobody may be reading, which is no reason to end.
    let mut out = io::stdout().lock();
    let _printed = out.write_all(text(&base, credentials, kept).as_bytes()).and_then(|()| out.flush());
}

async fn is_ready(base: &str, credentials: &Credentials) -> bool {
    let look = async {
        let client = reqwest::Client::builder().timeout(LOOK_TIMEOUT).no_proxy().build()?;
        let request = client.get(format!("{base}/v1/status")).bearer_auth(credentials.owner_token.reveal());
        request.send().await?.json::<Report>().await
    };
    look.await.is_ok_and(|report| matches!(report.database, Database::Verified { .. }))
}

/// How the address is reached from this machine.
fn base(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

fn text(base: &str, credentials: &Credentials, kept: Option<&Path>) -> String {
    let (key, owner) = (credentials.write_key.reveal(), credentials.owner_token.reveal());
    let end = match kept {
        Some(path) => format!("Ctrl-C ends it. Its data stays in {} and is there next time.", path.display()),
        None => "Ctrl-C ends it, and removes everything that it made.".to_owned(),
    };
    format!(
        r#"
The collector is ready.

  URL          {base}
  write key    {key}
  owner token  {owner}

Add an event, list events, export them:

  curl -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' {base}/v1/events -d '{{"type": "Warehouse Disabled", "actor": {{"type": "user", "id": "usr_bo", "name": "Bo"}}, "resource": {{"type": "warehouse", "id": "whs_31", "name": "Production"}}}}'
  curl -H 'Authorization: Bearer {owner}' '{base}/v1/events?actor=usr_bo'
  curl -H 'Authorization: Bearer {owner}' {base}/v1/events.csv

{end}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use audittrail_crds::document::Sensitive;

    #[test]
    fn the_text_shows_where_with_what_and_how() {
        let credentials = Credentials {
            postgres_password: Sensitive::new("hidden"),
            write_key: Sensitive::new("atk_key"),
            owner_token: Sensitive::new("owner_token"),
        };
        insta::assert_snapshot!(text("http://127.0.0.1:8080", &credentials, None));
        assert!(text("", &credentials, Some(Path::new("/data"))).contains("stays in /data"));
    }

    #[test]
    fn an_address_of_all_interfaces_is_reached_on_this_one() {
        let base = |text: &str| base(text.parse().expect("an address"));
        assert_eq!(base("127.0.0.1:8080"), "http://127.0.0.1:8080");
        assert_eq!(base("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(base("[::]:80"), "http://[::1]:80");
    }
}
