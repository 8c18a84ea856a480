//! Page 1,000 by cursor, beside page 1.

use crate::http::Connection;
use crate::queries::{Order, Page};
use audittrail_tests::bench::table::Row;
use audittrail_tests::bench::times::{Times, ratio};

/// Pages walked before those that are measured.
const PAGES_BEFORE: usize = 999;

/// Pages measured from there on, and first pages.
const PAGES_MEASURED: usize = 100;

/// Name and parameters of what is walked: each has enough pages in a million events.
const WALKS: [(&str, &str); 2] = [("all events", ""), ("one outcome", "&outcome=success")];

/// Walks, and measures.
pub fn measure(connection: &mut Connection) -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, query) in WALKS {
        for order in [Order::Desc, Order::Asc] {
            rows.push(walk(connection, what, &format!("/v1/events?order={order}&limit=100{query}"), order));
        }
    }
    rows
}

fn walk(connection: &mut Connection, what: &str, path: &str, order: Order) -> Row {
    let first = Times::of((0..PAGES_MEASURED).map(|_| connection.get(path).1).collect());
    let mut cursor = None;
    let (mut second, mut late) = (Vec::new(), Vec::new());
    for number in 0..PAGES_BEFORE + PAGES_MEASURED {
        let path = cursor.map_or(path.to_owned(), |cursor| format!("{path}&cursor={cursor}"));
        let (body, time) = connection.get(&path);
        let page: Page = serde_json::from_slice(body).expect("a page of events");
        if (1..=PAGES_MEASURED).contains(&number) {
            second.push(time);
        } else if number >= PAGES_BEFORE {
            late.push(time);
        }
        cursor = Some(page.next_cursor.expect("there are more pages"));
    }
    let (second, late) = (Times::of(second), Times::of(late));
    let beside = format!(
        "page 1: {first}; pages 2 to {}, not recorded either: {second} (ratio {:.2})",
        1 + PAGES_MEASURED,
        ratio(late.p99(), second.p99()),
    );
    let what = format!("page 1,000 by cursor, {what}, {order}");
    Row::compared(&what, late.to_string(), beside, ratio(late.p99(), first.p99()), "≤ 1.5")
}
