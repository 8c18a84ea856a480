//! Does the live object lack anything of the desired one?
//!
//! The API server adds defaults to what is sent and writes some values in other words, so
//! equality would never hold; what matters is that everything desired is there.

use super::quantity;
use serde_json::{Map, Value};

/// Lists whose items carry an identity, with the field that holds it: others may add items of
/// their own (server-side apply merges them). Every other list is ours as a whole.
const MERGED_LISTS: [(&str, &str); 7] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("env", "name"),
    ("volumes", "name"),
    ("volumeMounts", "mountPath"),
    ("ports", "name"),
    ("ownerReferences", "uid"),
];

/// Fields whose strings are quantities.
const QUANTITIES: [&str; 3] = ["limits", "requests", "emptyDir"];

/// Path of the first desired value that `live` lacks, for the log; `None` when it has them all.
pub fn lacking(desired: &Value, live: &Value) -> Option<String> {
    Comparison { quantities: false }.value("", desired, live)
}

#[derive(Clone, Copy)]
struct Comparison {
    /// Inside of a field of [`QUANTITIES`].
    quantities: bool,
}

impl Comparison {
    fn value(self, path: &str, desired: &Value, live: &Value) -> Option<String> {
        let same = match (desired, live) {
            (Value::Object(desired), Value::Object(live)) => return self.object(path, desired, live),
            (Value::Array(desired), Value::Array(live)) => return self.array(path, desired, live),
            (Value::String(desired), Value::String(live)) if self.quantities => quantity::same(desired, live),
            // `1` and `1.0`.
            (Value::Number(desired), Value::Number(live)) => desired == live || desired.as_f64() == live.as_f64(),
            _ => desired == live,
        };
        (!same).then(|| path.to_owned())
    }

    fn object(self, path: &str, desired: &Map<String, Value>, live: &Map<String, Value>) -> Option<String> {
        desired.iter().find_map(|(field, desired)| {
            let path = format!("{path}/{field}");
            let inner = Self { quantities: self.quantities || QUANTITIES.contains(&field.as_str()) };
            match live.get(field) {
                Some(live) => inner.value(&path, desired, live),
                None => (!is_nothing(desired)).then_some(path),
            }
        })
    }

    fn array(self, path: &str, desired: &[Value], live: &[Value]) -> Option<String> {
        let field = path.rsplit('/').next().unwrap_or_default();
        if let Some((_, identity)) = MERGED_LISTS.iter().find(|(list, _)| *list == field) {
            return desired.iter().find_map(|item| {
                let path = format!("{path}/{}", item[identity].as_str().unwrap_or_default());
                match live.iter().find(|other| other[identity] == item[identity]) {
                    Some(other) => self.value(&path, item, other),
                    None => Some(path),
                }
            });
        }
        if desired.len() != live.len() {
            return Some(path.to_owned());
        }
        let mut pairs = desired.iter().zip(live).enumerate();
        pairs.find_map(|(index, (desired, live))| self.value(&format!("{path}/{index}"), desired, live))
    }
}

/// The API server drops these where they are optional. An empty object is kept where it chooses
/// a member of a union (`emptyDir: {}`), and then it is there to be compared.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::lacking;
    use serde_json::json;

    #[test]
    fn defaults_added_by_the_server_are_no_difference() {
        let desired = json!({"spec": {"containers": [{"name": "a", "image": "x"}]}});
        let live =
            json!({"spec": {"containers": [{"name": "a", "image": "x", "tty": false}], "dnsPolicy": "ClusterFirst"}});
        assert_eq!(lacking(&desired, &live), None);
    }

    #[test]
    fn another_value_is_named_by_its_path() {
        let desired = json!({"spec": {"containers": [{"name": "a", "image": "x"}]}});
        let live = json!({"spec": {"containers": [{"name": "a", "image": "y"}]}});
        assert_eq!(lacking(&desired, &live).as_deref(), Some("/spec/containers/a/image"));
    }

    #[test]
    fn an_item_that_others_added_to_a_merged_list_is_no_difference() {
        let desired = json!({"env": [{"name": "A", "value": "1"}]});
        let live = json!({"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]});
        assert_eq!(lacking(&desired, &live), None);
    }

    #[test]
    fn an_item_that_others_added_to_a_list_of_ours_is_a_difference() {
        let desired = json!({"subjects": [{"name": "ann"}]});
        let live = json!({"subjects": [{"name": "ann"}, {"name": "mallory"}]});
        assert_eq!(lacking(&desired, &live).as_deref(), Some("/subjects"));
    }

    #[test]
    fn quantities_are_compared_by_amount() {
        let desired = json!({"resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}}});
        let live = json!({"resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}});
        assert_eq!(lacking(&desired, &live), None);
        let desired = json!({"args": {"cpu": "0.5"}});
        let live = json!({"args": {"cpu": "500m"}});
        assert_eq!(lacking(&desired, &live).as_deref(), Some("/args/cpu"));
    }

    #[test]
    fn empty_lists_and_objects_may_be_dropped() {
        assert_eq!(lacking(&json!({"a": [], "b": {}, "c": null}), &json!({})), None);
        assert_eq!(lacking(&json!({"a": [1]}), &json!({})).as_deref(), Some("/a"));
    }
}
