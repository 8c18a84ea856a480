//! The lists behind the filters: their counts are those of a plain `GROUP BY`, whatever was asked and however much of the log is
//! written down in postings.

use audittrail_crds::document::EventType;
use audittrail_tests::filled::{fill, until_written_down};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{Served, WRITE_KEY, body, document};
use serde_json::{Value, json};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Row};
use std::collections::BTreeMap;

/// A list: its path, its member, what names an entry, and the column that is counted.
type List = (&'static str, &'static str, &'static str, &'static str);

const ACTORS: List = ("/v1/actors", "actors", "id", "actor_id");
const RESOURCES: List = ("/v1/resources", "resources", "id", "resource_id");

async fn empty() -> (Served, PgPool) {
    let uri = Postgres::shared().create_database().await;
    let served = Served::start(&document(&uri)).await;
    (served, PgPool::connect(&uri).await.expect("the server answers"))
}

/// A collector on a log with two whole blocks and a part.
async fn filled() -> (Served, PgPool) {
    let (served, pool) = empty().await;
    fill(&served, &pool).await;
    (served, pool)
}

/// Names and counts of a list, as it is answered.
async fn listed(served: &Served, list: List, query: &str) -> Vec<(String, i64)> {
    let (path, member, name, _) = list;
    let answer = served.page(&format!("{path}?{query}")).await;
    entries(&answer[member], name)
}

/// Types that have events, by name. A type stands once.
async fn types(served: &Served, query: &str) -> BTreeMap<String, i64> {
    let answer = served.page(&format!("/v1/event-types?{query}")).await;
    let areas = answer["areas"].as_array().expect("a list");
    let all: Vec<(String, i64)> = areas.iter().flat_map(|area| entries(&area["eventTypes"], "type")).collect();
    let by_name: BTreeMap<String, i64> = all.iter().cloned().collect();
    assert_eq!(by_name.len(), all.len());
    by_name.into_iter().filter(|(_, count)| *count > 0).collect()
}

fn entries(list: &Value, name: &str) -> Vec<(String, i64)> {
    let entry =
        |entry: &Value| (entry[name].as_str().expect("a name").to_owned(), entry["count"].as_i64().expect("a number"));
    list.as_array().expect("a list").iter().map(entry).collect()
}

/// Names and counts in the order of the lists.
async fn grouped(pool: &PgPool, column: &str, condition: &str) -> Vec<(String, i64)> {
    let statement = format!(
        "SELECT {column}, count(*) FROM event WHERE {column} IS NOT NULL AND ({condition})
         GROUP BY 1 ORDER BY 2 DESC, {column} COLLATE \"C\""
    );
    let rows = sqlx::query(AssertSqlSafe(statement)).fetch_all(pool).await.expect("a valid condition");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn run(pool: &PgPool, statements: &'static str) {
    sqlx::raw_sql(statements).execute(pool).await.expect("valid statements");
}

/// Filters, and the same in SQL.
const FILTERS: [(&str, &str); 22] = [
    ("", "true"),
    ("actor=rare", "actor_id = 'rare'"),
    ("actor=nobody", "false"),
    // Sparse and dense in a block.
    ("actor=usr_7", "actor_id = 'usr_7'"),
    ("type=Type%200", "type = 'Type 0'"),
    ("type=Type%200&outcome=denied", "type = 'Type 0' AND outcome = 'denied'"),
    ("type=Type%202&type=Type%203&actorType=user", "type IN ('Type 2', 'Type 3') AND actor_type = 'user'"),
    ("area=Warehouses", "type = 'Warehouse Disabled'"),
    ("resourceType=warehouse", "resource_type = 'warehouse'"),
    (
        "resource=res_49&resource=res_50&resource=res_100&resource=res_119",
        "resource_id IN ('res_49', 'res_50', 'res_100', 'res_119')",
    ),
    ("submittedBy=acme%2FwriteKey", "submitted_by_name = 'acme/writeKey'"),
    ("submittedBy=other", "false"),
    // Within a zone, across zones and blocks, to the microsecond, and late events.
    (
        "from=2026-03-01T13:53:20Z&to=2026-03-01T13:53:25Z",
        "\"timestamp\" >= '2026-03-01T13:53:20Z' AND \"timestamp\" < '2026-03-01T13:53:25Z'",
    ),
    (
        "from=2026-03-01T03:00:00Z&to=2026-03-01T23:00:00Z",
        "\"timestamp\" >= '2026-03-01T03:00:00Z' AND \"timestamp\" < '2026-03-01T23:00:00Z'",
    ),
    ("from=2026-02-28T00:00:00Z", "true"),
    ("to=2026-03-01T00:00:00Z", "\"timestamp\" < '2026-03-01T00:00:00Z'"),
    ("to=2026-03-01T00:00:00.000001Z", "\"timestamp\" <= '2026-03-01T00:00:00Z'"),
    ("from=2026-03-02T09:00:00Z", "\"timestamp\" >= '2026-03-02T09:00:00Z'"),
    (
        "outcome=denied&from=2026-03-01T10:00:00Z&to=2026-03-01T15:00:00Z",
        "outcome = 'denied' AND \"timestamp\" >= '2026-03-01T10:00:00Z' AND \"timestamp\" < '2026-03-01T15:00:00Z'",
    ),
    (
        "actor=usr_17&from=2026-03-01T10:00:00Z&to=2026-03-02T05:00:00Z",
        "actor_id = 'usr_17' AND \"timestamp\" >= '2026-03-01T10:00:00Z' AND \"timestamp\" < '2026-03-02T05:00:00Z'",
    ),
    ("q=needle", "details::text ILIKE '%needle%'"),
    (
        "q=SEVENTEEN%20type&resourceType=source&to=2026-03-01T20:00:00Z",
        "actor_email = 'seventeen@example.com' AND type LIKE 'Type%' AND resource_type = 'source'
         AND \"timestamp\" < '2026-03-01T20:00:00Z'",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_those_of_a_plain_group_by() {
    let (served, pool) = filled().await;
    for (query, condition) in FILTERS {
        for list in [ACTORS, RESOURCES] {
            let found = listed(&served, list, &format!("{query}&limit=1000")).await;
            assert_eq!(found, grouped(&pool, list.3, condition).await, "{} {query}", list.0);
        }
        let expected: BTreeMap<String, i64> = grouped(&pool, "type", condition).await.into_iter().collect();
        assert_eq!(types(&served, query).await, expected, "types {query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_leaves_what_begins_with_it_with_the_same_counts() {
    let (served, pool) = filled().await;
    for (prefix, begins) in [
        ("usr_2", "actor_id LIKE 'usr\\_2%'"),
        ("USR_24", "actor_id LIKE 'usr\\_24%'"),
        ("person%201", "actor_name LIKE 'Person 1%'"),
        ("Seven", "actor_email LIKE 'seven%'"),
        ("r", "actor_id = 'rare'"),
        ("usr%252", "false"),
        ("Ü", "false"),
    ] {
        for (query, condition) in [
            ("", "true"),
            ("type=Type%201", "type = 'Type 1'"),
            ("outcome=denied&to=2026-03-01T16:00:00Z", "outcome = 'denied' AND \"timestamp\" < '2026-03-01T16:00:00Z'"),
            ("q=needle", "details::text ILIKE '%needle%'"),
        ] {
            let found = listed(&served, ACTORS, &format!("{query}&limit=1000&prefix={prefix}")).await;
            let expected = grouped(&pool, "actor_id", &format!("({begins}) AND {condition}")).await;
            assert_eq!(found, expected, "{prefix} {query}");
        }
    }
    let resources = listed(&served, RESOURCES, "prefix=RES_11").await;
    assert_eq!(resources, grouped(&pool, "resource_id", "resource_id LIKE 'res\\_11%'").await);
    let only = BTreeMap::from([("Type 3".to_owned(), 15_000)]);
    assert_eq!(types(&served, "prefix=type%203").await, only);
}

/// An answer must not depend on how far the keeper is.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_is_not_written_down_is_counted_event_by_event() {
    let (served, pool) = filled().await;
    let queries = ["limit=1000", "limit=1000&type=Type%203", "limit=1000&prefix=usr_1&to=2026-03-02T05:00:00Z"];
    let mut before = Vec::new();
    for query in queries {
        before.push(listed(&served, ACTORS, query).await);
    }
    run(&pool, "UPDATE posting SET count = count + 1 WHERE first_sequence = 0 AND value = 'usr_3'").await;
    let counted = listed(&served, ACTORS, queries[0]).await;
    assert_ne!(counted, before[0], "postings are not what is read");
    // Both at once: else the keeper would write the block down in between.
    run(&pool, "DELETE FROM posting WHERE first_sequence = 0; DELETE FROM block WHERE first_sequence = 0").await;
    for (query, before) in queries.iter().zip(&before) {
        assert_eq!(listed(&served, ACTORS, query).await, *before, "{query}");
    }
    until_written_down(&served, &pool).await;
    for (query, before) in queries.iter().zip(&before) {
        assert_eq!(listed(&served, ACTORS, query).await, *before, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_ends_at_its_limit_and_says_whether_there_is_more() {
    let (served, _) = filled().await;
    // Each of 250 actors has 480 events, but those whose events the rare one has: equal ones are in the order of their ids.
    let page = async |path: &str| served.page(path).await;
    let first = page("/v1/actors?limit=2").await;
    assert_eq!(first["more"], true);
    assert_eq!(
        first["actors"],
        json!([
            {"type": "accessToken", "id": "usr_0", "name": "Person 0", "count": 480},
            {"type": "user", "id": "usr_1", "name": "Person 1", "count": 480},
        ])
    );
    assert_eq!(page("/v1/actors").await["actors"].as_array().expect("a list").len(), 100);
    for (path, member, all) in [("/v1/actors", "actors", 251), ("/v1/resources", "resources", 120)] {
        for (limit, listed, more) in [(all - 1, all - 1, true), (all, all, false), (1000, all, false)] {
            let answer = page(&format!("{path}?limit={limit}")).await;
            assert_eq!(answer[member].as_array().expect("a list").len(), listed, "{path} {limit}");
            assert_eq!(answer["more"], more, "{path} {limit}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_those_that_were_told_last_in_the_part_of_the_log_that_is_asked_for() {
    let (served, pool) = filled().await;
    run(
        &pool,
        "UPDATE posting SET name = 'Old Name', email = 'old@example.com' WHERE first_sequence = 0 AND value IN ('usr_0', 'usr_5')",
    )
    .await;
    run(&pool, "UPDATE posting SET name = 'Middle Name' WHERE first_sequence = 50000 AND value IN ('usr_0', 'usr_5')")
        .await;
    run(&pool, "UPDATE event SET actor_name = NULL WHERE sequence >= 100000 AND actor_id = 'usr_5'").await;
    run(&pool, "UPDATE event SET actor_name = 'New Name' WHERE sequence = 100005 AND actor_id = 'usr_5'").await;
    let who = async |query: &str| {
        let answer = served.page(&format!("/v1/actors?{query}")).await;
        let [only] = answer["actors"].as_array().expect("a list").as_slice() else { panic!("{answer}") };
        [&only["name"], &only["email"], &only["count"]]
            .map(|member| member.as_str().map_or(member.to_string(), str::to_owned))
    };
    for (query, expected) in [
        // What is missing in a newer part is told of an older one.
        ("actor=usr_5", ["New Name", "old@example.com", "480"]),
        ("actor=usr_5&to=2026-03-01T20:00:00Z", ["Middle Name", "old@example.com", "288"]),
        // Events told late, all of them in the first block.
        ("actor=usr_0&to=2026-02-28T12:00:00Z", ["Old Name", "old@example.com", "43"]),
        // Any of its names finds it, with all that it did.
        ("prefix=new%20n", ["New Name", "old@example.com", "480"]),
        ("actor=usr_5&prefix=middle", ["New Name", "old@example.com", "480"]),
        ("actor=usr_5&prefix=OLD@", ["New Name", "old@example.com", "480"]),
    ] {
        assert_eq!(who(query).await, expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_several_kinds_is_listed_once_and_as_the_kind_that_was_asked_for() {
    let (served, _) = empty().await;
    let event = |id: &str, kind: &str| json!({"id": id, "type": "Counted", "actor": {"type": kind, "id": "ann"}});
    served.add(vec![event("a", "user"), event("b", "accessToken"), event("c", "system")]).await;
    let answer = async |query: &str| served.page(&format!("/v1/actors?{query}")).await["actors"].take();
    assert_eq!(answer("").await, json!([{"type": "system", "id": "ann", "count": 3}]));
    assert_eq!(answer("actorType=user").await, json!([{"type": "user", "id": "ann", "count": 1}]));
    assert_eq!(answer("actorType=user&actorType=accessToken").await, json!([{"id": "ann", "count": 2}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_taken_as_it_is_written_but_for_its_case() {
    let (served, _) = empty().await;
    let resource = |id: &str, name: Option<&str>| json!({"type": "Counted", "resource": {"type": "source", "id": id, "name": name}});
    served
        .add(vec![
            resource("100%_a", None),
            resource("100xxa", None),
            resource(r"a\b", Some("Ökonomie")),
            resource("a%b", Some("Ωραίος")),
            resource("GRÖSSE", Some("Straße 5")),
        ])
        .await;
    for (prefix, expected) in [
        ("100", vec!["100%_a", "100xxa"]),
        ("100%25", vec!["100%_a"]),
        ("100%25_A", vec!["100%_a"]),
        ("___", vec![]),
        ("%25", vec![]),
        (r"A\", vec![r"a\b"]),
        ("A%25", vec!["a%b"]),
        ("öKO", vec![r"a\b"]),
        ("ωΡ", vec!["a%b"]),
        ("grös", vec!["GRÖSSE"]),
        ("STRAß", vec!["GRÖSSE"]),
        ("traße", vec![]),
    ] {
        let mut found: Vec<String> =
            listed(&served, RESOURCES, &format!("prefix={prefix}")).await.into_iter().map(|(id, _)| id).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{prefix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_the_catalogue_is_listed_in_its_area_and_others_come_last() {
    let uri = Postgres::shared().create_database().await;
    let mut document = document(&uri);
    let own = |name: &str, area: &str| EventType {
        name: name.to_owned(),
        area: area.to_owned(),
        aliases: vec![format!("{name} (alias)")],
        schema: None,
    };
    document.catalogue.event_types = vec![own("Invoice Sent", "Billing"), own("Warehouse Moved", "Warehouses")];
    let served = Served::start(&document).await;
    let event = |name: &str| json!({"type": name});
    let names = ["invoice sent", "Invoice Sent (alias)", "Warehouse Disabled", "Free", "Free", "Also Free", "Free Too"];
    served.add(names.map(event).to_vec()).await;

    let answer = served.page("/v1/event-types?limit=2").await;
    let areas = answer["areas"].as_array().expect("a list");
    let names: Vec<Option<&str>> = areas.iter().map(|area| area["area"].as_str()).collect();
    assert_eq!(names[..3], [Some("Sources"), Some("Functions"), Some("Warehouses")]);
    assert_eq!(names[names.len() - 2..], [Some("Billing"), None]);
    let of = |area: Option<&str>| {
        let place = names.iter().position(|name| *name == area).expect("the area");
        entries(&areas[place]["eventTypes"], "type")
    };
    assert_eq!(of(Some("Billing")), [("Invoice Sent".to_owned(), 2)]);
    let warehouses = of(Some("Warehouses"));
    assert_eq!(warehouses.len(), 10);
    for (name, count) in [("Warehouse Disabled", 1), ("Warehouse Moved", 0), ("Warehouse Enabled", 0)] {
        assert!(warehouses.contains(&(name.to_owned(), count)), "{name}");
    }
    // The limit is for these.
    assert_eq!(of(None), [("Free".to_owned(), 2), ("Also Free".to_owned(), 1)]);
    assert_eq!(answer["more"], true);
    assert_eq!(served.page("/v1/event-types?limit=3").await["more"], false);

    // A filter narrows what is counted, a prefix what is listed.
    let filtered = served.page("/v1/event-types?area=Billing").await;
    assert_eq!(filtered["areas"].as_array().expect("a list").len(), areas.len() - 1);
    assert_eq!(
        served.page("/v1/event-types?prefix=INVO").await,
        json!({"areas": [{"area": "Billing", "eventTypes": [{"type": "Invoice Sent", "count": 2}]}], "more": false})
    );
    assert_eq!(
        served.page("/v1/event-types?prefix=free").await,
        json!({
            "areas": [{"area": null, "eventTypes": [{"type": "Free", "count": 2}, {"type": "Free Too", "count": 1}]}],
            "more": false,
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_trail_has_empty_lists() {
    let (served, _) = empty().await;
    assert_eq!(served.page("/v1/actors?prefix=a").await, json!({"actors": [], "more": false}));
    assert_eq!(served.page("/v1/resources").await, json!({"resources": [], "more": false}));
    assert_eq!(types(&served, "").await, BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_not_recorded() {
    let (served, pool) = empty().await;
    for path in ["/v1/actors", "/v1/resources", "/v1/event-types"] {
        served.page(path).await;
    }
    let events: i64 = sqlx::query_scalar("SELECT count(*) FROM event").fetch_one(&pool).await.expect("a number");
    assert_eq!(events, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_read_gets_a_list_and_bad_parameters_are_named() {
    let (served, _) = empty().await;
    for path in ["/v1/event-types", "/v1/actors", "/v1/resources"] {
        let nobody = served.client.get(format!("http://{}{path}", served.address)).send().await.expect("answered");
        assert_eq!(nobody.status(), 401, "{path}");
        let writer = served.client.get(format!("http://{}{path}", served.address)).bearer_auth(WRITE_KEY);
        assert_eq!(writer.send().await.expect("answered").status(), 403, "{path}");
        for (query, fields) in [
            ("limit=1001", vec!["limit"]),
            ("limit=0&order=asc", vec!["limit", "order"]),
            ("prefix=&cursor=x", vec!["prefix", "cursor"]),
            ("from=yesterday", vec!["from"]),
        ] {
            let refused = served.get(&format!("{path}?{query}")).send().await.expect("answered");
            assert_eq!(refused.status(), 400, "{path} {query}");
            let problem = body(refused).await;
            let named: Vec<&str> = problem["errors"]
                .as_array()
                .expect("errors")
                .iter()
                .filter_map(|error| error["field"].as_str())
                .collect();
            assert_eq!(named, fields, "{path}");
        }
    }
}
