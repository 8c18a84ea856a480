//! The custom resource definitions as people meet them: committed as generated, and documented.

use std::path::Path;

#[test]
fn committed_definitions_equal_the_types() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, text) in audittrail_crds::manifest::files().expect("definitions render") {
        for folder in ["yaml", "../charts/audittrail/files/crds"] {
            let path = root.join(folder).join(name);
            let committed = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}; run `make generate`", path.display()));
            assert!(committed == text, "{} differs from the types; run `make generate`", path.display());
        }
    }
}

#[test]
fn every_field_is_documented_for_kubectl_explain() {
    for (name, text) in audittrail_crds::manifest::files().expect("definitions render") {
        let definition: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
        let versions = definition["spec"]["versions"].as_array().expect("versions");
        for version in versions {
            let undocumented = undocumented(&version["schema"]["openAPIV3Schema"], "");
            assert!(undocumented.is_empty(), "{name}: no description of {undocumented:?}");
        }
    }
}

/// Paths of the fields below `schema` that have no description.
fn undocumented(schema: &serde_json::Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if field["description"].as_str().is_none_or(str::is_empty) {
            found.push(path.clone());
        }
        found.extend(undocumented(field, &path));
    }
    for inner in [schema.get("items"), schema.get("additionalProperties")].into_iter().flatten() {
        found.extend(undocumented(inner, path));
    }
    found
}

#[test]
fn every_field_of_a_forwarding_stands_in_its_page() {
    let page = include_str!("../../docs/forwarding.md");
    let files = audittrail_crds::manifest::files().expect("definitions render");
    let (_, text) = files.iter().find(|(name, _)| name.starts_with("auditforwardings")).expect("its definition");
    let definition: serde_json::Value = serde_saphyr::from_str(text).expect("YAML");
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut paths = leaves(&schema["spec"], "");
    paths.extend(leaves(&schema["status"], ""));
    let rows: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).collect();
    let missing: Vec<&String> =
        paths.iter().filter(|path| !rows.iter().any(|row| row.contains(&format!("`{path}`")))).collect();
    assert!(paths.len() > 30 && missing.is_empty(), "docs/forwarding.md lacks {missing:?} of {}", paths.len());
}

/// Paths of what can be set or is told. References and the parts of an element stand in one row.
fn leaves(schema: &serde_json::Value, path: &str) -> Vec<String> {
    let Some(fields) = schema["properties"].as_object() else {
        let members = schema["items"]["properties"].as_object().filter(|_| path != "conditions");
        let members = members.into_iter().flatten().map(|(name, _)| name.clone());
        return [path.to_owned()].into_iter().chain(members).collect();
    };
    if path.ends_with("Ref") || path == "createdSource" {
        return vec![path.to_owned()];
    }
    let path_of = |name: &String| if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
    fields.iter().flat_map(|(name, field)| leaves(field, &path_of(name))).collect()
}
