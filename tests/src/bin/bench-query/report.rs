//! The table of cases.

use crate::queries::Measured;
use audittrail_tests::bench::table::Row;
use audittrail_tests::bench::times::{Times, milliseconds, ratio};
use std::fmt::Write as _;
use std::time::Duration;

/// What a first page may take.
const FIRST_PAGE_AIM: &str = "p99 ≤ 20 ms, ≤ 2 × by hand";

/// All cases, in milliseconds, as Markdown.
pub fn cases(measured: &[Measured]) -> String {
    let mut text = "In milliseconds. *First page*: recorded in the trail before it is answered. *By cursor*: the same events but for \
        the first, not recorded. *By hand*: the best query of `baseline.sql`; *recorded*: after a COMMIT of one row. *Written*: first \
        pages while events are written at half of the best pace.\n\n\
        | case | order | first page: p50 | p99 | by cursor: p50 | p99 | by hand: p50 | p99 | recorded: p50 | p99 | written: p50 | p99 | p99: first page / recorded by hand | by cursor / by hand | written / first page |\n\
        |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for one in measured {
        let cells = [
            vec![one.case.name.to_owned(), one.order.to_string()],
            both(&one.first),
            both(&one.by_cursor),
            both(&one.by_hand),
            both(&one.by_hand_recorded),
            both(&one.while_written),
            vec![
                beside(&one.first, &one.by_hand_recorded),
                beside(&one.by_cursor, &one.by_hand),
                beside(&one.while_written, &one.first),
            ],
        ];
        writeln!(text, "| {} |", cells.concat().join(" | ")).expect("text can be written to");
    }
    text
}

/// The slowest case, and the farthest from its hand-written query.
pub fn summary(measured: &[Measured]) -> Vec<Row> {
    let slowest = |of: fn(&Measured) -> Duration| measured.iter().max_by_key(|one| of(one));
    let farthest = |of: fn(&Measured) -> (&Times, &Times)| {
        let compared = measured.iter().filter(|one| of(one).0.is_measured() && of(one).1.is_measured());
        let ratios = compared.map(|one| (ratio(of(one).0.p99(), of(one).1.p99()), one));
        ratios.max_by(|(one, _), (other, _)| one.total_cmp(other))
    };
    let mut rows = Vec::new();
    if let Some(one) = slowest(|one| one.first.p99()) {
        rows.push(Row::fact("first page, the slowest case", told(one, &one.first), FIRST_PAGE_AIM));
    }
    if let Some((ratio, one)) = farthest(|one| (&one.first, &one.by_hand)) {
        let what = "first page, the farthest from its hand-written query";
        rows.push(Row::compared(what, told(one, &one.first), one.by_hand.to_string(), ratio, "≤ 2"));
    }
    if let Some((ratio, one)) = farthest(|one| (&one.first, &one.by_hand_recorded)) {
        let what = "… which commits a row before it, as the collector does";
        rows.push(Row::compared(what, told(one, &one.first), one.by_hand_recorded.to_string(), ratio, "≤ 2"));
    }
    if let Some((ratio, one)) = farthest(|one| (&one.while_written, &one.first)) {
        let what = "first page while events are written at half of the best pace, the farthest from quiet";
        rows.push(Row::compared(what, told(one, &one.while_written), one.first.to_string(), ratio, "≤ 2"));
    }
    rows
}

/// A case with words.
pub fn words(one: &Measured) -> Row {
    let aim = "p99 ≤ 1 s";
    if one.by_hand.is_measured() {
        let ratio = ratio(one.first.p99(), one.by_hand.p99());
        Row::compared(one.case.name, one.first.to_string(), one.by_hand.to_string(), ratio, aim)
    } else {
        Row::fact(one.case.name, one.first.to_string(), aim)
    }
}

fn told(one: &Measured, times: &Times) -> String {
    format!("{times} ({}, {})", one.case.name, one.order)
}

fn both(times: &Times) -> Vec<String> {
    vec![time(times.p50()), time(times.p99())]
}

fn time(time: Duration) -> String {
    if time.is_zero() { String::new() } else { milliseconds(time) }
}

fn beside(one: &Times, other: &Times) -> String {
    if one.is_measured() && other.is_measured() {
        format!("{:.1}", ratio(one.p99(), other.p99()))
    } else {
        String::new()
    }
}
