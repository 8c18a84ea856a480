//! The built-in types: those of Segment's 17 product areas as far as their names were published, Consent Management,
//! what `POST /v1/kubernetes` makes, and what `query/record.rs` records. `built_in.tsv` has a row for each type, and one
//! without a name for each area of which no names were published.

/// Area, name, aliases separated by `|`; one header line.
const TABLE: &str = include_str!("built_in.tsv");

/// A built-in type.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The product area.
    pub area: &'static str,
    /// The name.
    pub name: &'static str,
    aliases: &'static str,
}

impl Row {
    /// Older names: the plurals of Segment's first documentation, and what Engage was called before.
    pub fn aliases(&self) -> impl Iterator<Item = &'static str> {
        self.aliases.split('|').filter(|alias| !alias.is_empty())
    }
}

/// Every built-in type.
pub fn rows() -> impl Iterator<Item = Row> {
    lines().filter(|row| !row.name.is_empty())
}

fn lines() -> impl Iterator<Item = Row> {
    TABLE.lines().skip(1).map(|line| {
        let mut cells = line.split('\t');
        let mut cell = || cells.next().expect("every line of the table has three cells");
        Row { area: cell(), name: cell(), aliases: cell() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The areas of Segment's documentation, in its order.
    const AREAS: [&str; 17] = [
        "Sources",
        "Functions",
        "Warehouses",
        "Destinations",
        "Storage",
        "Tracking Plans",
        "Destination Filters",
        "Transformations",
        "Audiences",
        "Computed Traits",
        "Engage Warehouse Sources",
        "Profiles Sync",
        "Spaces",
        "Users",
        "Journeys",
        "Broadcasts",
        "Workspace",
    ];

    #[test]
    fn all_seventeen_areas_are_there_and_three_more() {
        let mut areas: Vec<&str> = lines().map(|row| row.area).collect();
        areas.dedup();
        assert_eq!(areas[..17], AREAS);
        assert_eq!(areas[17..], ["Consent Management", "Kubernetes", "Audit Trail"]);
    }

    #[test]
    fn no_name_or_alias_stands_twice() {
        let mut seen = BTreeMap::new();
        for row in rows() {
            for name in std::iter::once(row.name).chain(row.aliases()) {
                assert_eq!(seen.insert(name.to_lowercase(), row.name), None, "{name}");
            }
        }
    }

    #[test]
    fn published_names_are_all_there() {
        let published = |row: &Row| !["Kubernetes", "Audit Trail"].contains(&row.area);
        // 172 names, three of which are older ones of three others.
        assert_eq!(rows().filter(published).count(), 169);
    }
}
