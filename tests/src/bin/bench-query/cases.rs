//! What is asked: each case with several values, as parameters of a request and as those of the hand-written query
//! (`baseline.sql`).

use crate::trail::{ABSENT_WORD, COMMON_TYPES, COMMON_WORD, RARE_ACTORS, RARE_WORD, RESOURCE_TYPES, Trail};
use audittrail_crds::catalogue::Catalogue;

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What is asked in turn.
    pub questions: Vec<Question>,
}

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// Parameters of the request, each after a `&`.
    pub query: String,
    /// The same for the hand-written query.
    pub values: Vec<String>,
}

/// A parameter with a value of it, or several that belong together.
type Term = Vec<(&'static str, String)>;

impl Case {
    /// The name of its section in `baseline.sql`: what stands behind a colon makes no other query.
    pub fn section(&self) -> &'static str {
        self.name.split(':').next().unwrap_or_default()
    }
}

/// First pages.
pub fn first_pages(trail: &Trail) -> Vec<Case> {
    let types = || types(trail);
    let fails: Vec<Term> = one("outcome", ["failure"]);
    vec![
        Case { name: "everything", questions: vec![question(&[])] },
        case("type", &types()),
        area_case("area", areas(), &[]),
        case("actor", &actors()),
        case("actorType", &one("actorType", ["user", "accessToken", "system"])),
        case("resource", &resources()),
        case("resourceType", &one("resourceType", RESOURCE_TYPES)),
        case("outcome", &one("outcome", ["success", "failure", "denied"])),
        case("submittedBy", &one("submittedBy", ["acme/writeKey", "nobody"])),
        case("time", &times()),
        case("event + actor", &pairs(&types(), &actors())),
        case("actor + time", &pairs(&actors(), &times())),
        case("resource + time", &pairs(&resources(), &times())),
        case("event + resource", &pairs(&types(), &resources())),
        area_case("area + outcome", areas(), &one("outcome", ["success", "failure", "denied"])),
        case("event + outcome, which hardly ever meet", &pairs(&one("type", [COMMON_TYPES[0]]), &fails)),
        case(
            "event + resourceType, which hardly ever meet",
            &pairs(&one("type", [COMMON_TYPES[1]]), &one("resourceType", [RESOURCE_TYPES[0]])),
        ),
    ]
}

/// Words within a month.
pub fn words() -> Vec<Case> {
    let case = |name, word: &str| case(name, &pairs(&one("q", [word]), &months()));
    vec![
        case("q over a month: a word of three events", RARE_WORD),
        case("q over a month: a word of no event", ABSENT_WORD),
        case("q over a month: a word of many events", COMMON_WORD),
    ]
}

fn case(name: &'static str, terms: &[Term]) -> Case {
    Case { name, questions: terms.iter().map(|term| question(term)).collect() }
}

/// The hand-written query gets an area's types.
fn area_case(name: &'static str, areas: Vec<Term>, others: &[Term]) -> Case {
    let catalogue = Catalogue::default();
    let terms = if others.is_empty() { areas } else { pairs(&areas, others) };
    let mut case = case(name, &terms);
    for question in &mut case.questions {
        let types: Vec<&str> = catalogue.types_of(&question.values[0]).collect();
        question.values[0] = types.join("|");
    }
    case
}

fn question(term: &[(&'static str, String)]) -> Question {
    let parameters: Vec<String> =
        term.iter().map(|(name, value)| format!("&{name}={}", value.replace(' ', "%20"))).collect();
    Question { query: parameters.concat(), values: term.iter().map(|(_, value)| value.clone()).collect() }
}

fn one<'a>(name: &'static str, values: impl IntoIterator<Item = &'a str>) -> Vec<Term> {
    values.into_iter().map(|value| vec![(name, value.to_owned())]).collect()
}

/// Each of the longer list with one of the other: not all of either, but every value once.
fn pairs(some: &[Term], others: &[Term]) -> Vec<Term> {
    (0..some.len().max(others.len()))
        .map(|place| [some[place % some.len()].clone(), others[place % others.len()].clone()].concat())
        .collect()
}

/// Common, middling and rare ones, and one that no event has.
fn types(trail: &Trail) -> Vec<Term> {
    let all = trail.types();
    let places = [0, 1, 5, all.len() / 4, all.len() / 2, all.len() - 1];
    let some = places.map(|place| all[place].as_str());
    one("type", [COMMON_TYPES.as_slice(), &some, &["Heard Of Nowhere"]].concat())
}

fn areas() -> Vec<Term> {
    one("area", ["Sources", "Warehouses", "Users", "Tracking Plans", "Spaces", "Transformations", "Kubernetes"])
}

fn actors() -> Vec<Term> {
    let known = RARE_ACTORS.map(|(actor, _)| actor);
    let others = ["usr_0", "usr_1", "tok_7", "usr_100", "tok_1007", "usr_5000", "usr_12000", "usr_19000", "usr_none"];
    one("actor", [known.as_slice(), &others].concat())
}

fn resources() -> Vec<Term> {
    one(
        "resource",
        ["res_0", "res_1", "res_10", "res_100", "res_1000", "res_20000", "res_60000", "res_95000", "res_none"],
    )
}

fn months() -> Vec<Term> {
    ["2025-01", "2025-03", "2025-05", "2025-07", "2025-08", "2025-10"].map(month).to_vec()
}

/// Months and days, at the beginning, in the middle and near the end of the year.
fn times() -> Vec<Term> {
    [months(), ["2025-01-01", "2025-04-17", "2025-09-21", "2025-12-30"].map(day).to_vec()].concat()
}

/// A month before December.
fn month(name: &str) -> Term {
    range(&format!("{name}-01"), &format!("{}{:02}-01", &name[..5], 1 + last_number(name)))
}

/// A day before the last of its month.
fn day(name: &str) -> Term {
    range(name, &format!("{}{:02}", &name[..8], 1 + last_number(name)))
}

fn last_number(date: &str) -> u32 {
    date[date.len() - 2..].parse().expect("two digits")
}

fn range(from: &str, to: &str) -> Term {
    vec![("from", format!("{from}T00:00:00Z")), ("to", format!("{to}T00:00:00Z"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_stand_in_the_request_as_in_the_hand_written_query() {
        let month = question(&month("2025-08"));
        assert_eq!(month.query, "&from=2025-08-01T00:00:00Z&to=2025-09-01T00:00:00Z");
        assert_eq!(month.values, ["2025-08-01T00:00:00Z", "2025-09-01T00:00:00Z"]);
        assert_eq!(question(&day("2025-09-21")).values[1], "2025-09-22T00:00:00Z");
        let areas = area_case("area + outcome", areas(), &one("outcome", ["denied"]));
        assert_eq!(areas.questions[3].query, "&area=Tracking%20Plans&outcome=denied");
        assert!(areas.questions[3].values[0].starts_with("Tracking Plan Created|"), "{:?}", areas.questions[3]);
        assert_eq!(areas.questions[3].values[1], "denied");
    }

    #[test]
    fn pairs_use_every_value() {
        let pairs = pairs(&one("type", ["a", "b", "c"]), &one("outcome", ["x", "y"]));
        let queries: Vec<String> = pairs.iter().map(|pair| question(pair).query).collect();
        assert_eq!(queries, ["&type=a&outcome=x", "&type=b&outcome=y", "&type=c&outcome=x"]);
    }
}
