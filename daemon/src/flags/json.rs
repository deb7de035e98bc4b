//! Resources in JSON, as Mesos' flags take them beside the plain form. Mesos: `Resources::parse`.

use serde_json::{Map, Value};

/// Characters with a meaning in the plain form.
const MARKS: [char; 9] = [';', ':', ',', '(', ')', '[', ']', '{', '}'];

/// Resources in the plain form, whichever form they are in: a list of objects with `name`, `type`,
/// `role` (or one static reservation) and `scalar`, `ranges` or `set`.
pub(crate) fn plain(text: &str) -> Result<String, String> {
    // No name of a resource begins like that.
    if !text.trim_start().starts_with(['[', '{']) {
        return Ok(text.to_owned());
    }
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let list = value.as_array().ok_or("expected a list of resources: [{\"name\": ...}]")?;
    let entries: Result<Vec<String>, String> = list.iter().map(entry).collect();
    Ok(entries?.join(";"))
}

fn entry(value: &Value) -> Result<String, String> {
    let object = value.as_object().ok_or_else(|| format!("{value} is no resource"))?;
    let name = word(object.get("name").unwrap_or(&Value::Null), "name")?;
    for key in object.keys() {
        if !["name", "type", "role", "reservations", "scalar", "ranges", "set"]
            .contains(&key.as_str())
        {
            let why = match key.as_str() {
                "disk" => {
                    "an agent offers its root disk alone, none of type PATH, MOUNT, BLOCK or RAW"
                }
                _ => "a flag cannot tell it",
            };
            return Err(format!("`{key}` of `{name}`: {why}; leave it away"));
        }
    }
    let role = role(object)?;
    let kind = object.get("type").and_then(Value::as_str).unwrap_or("SCALAR");
    let value = match kind {
        "SCALAR" => number(&value["scalar"]["value"]),
        "RANGES" => ranges(&value["ranges"]["range"]),
        "SET" => set(&value["set"]["item"]),
        _ => None,
    };
    let value = value.ok_or_else(|| format!("`{name}` is no {kind}"))?;
    Ok(if role == "*" { format!("{name}:{value}") } else { format!("{name}({role}):{value}") })
}

/// Whose it is: its role, or that of its one static reservation.
fn role(object: &Map<String, Value>) -> Result<String, String> {
    let reservations = object.get("reservations").and_then(Value::as_array);
    match reservations.map(Vec::as_slice) {
        None | Some([]) => object.get("role").map_or(Ok("*".to_owned()), |role| word(role, "role")),
        Some([one]) if one["type"] == "STATIC" => word(&one["role"], "role"),
        Some(_) => Err("a flag tells static reservations only, one for a resource".to_owned()),
    }
}

fn number(value: &Value) -> Option<String> {
    value.as_number().map(ToString::to_string)
}

fn ranges(value: &Value) -> Option<String> {
    let one =
        |range: &Value| Some(format!("{}-{}", range["begin"].as_u64()?, range["end"].as_u64()?));
    let ranges: Option<Vec<String>> = value.as_array()?.iter().map(one).collect();
    Some(format!("[{}]", ranges?.join(",")))
}

fn set(value: &Value) -> Option<String> {
    let items = value.as_array()?.iter().map(|item| word(item, "item").ok());
    let items: Option<Vec<String>> = items.collect();
    Some(format!("{{{}}}", items?.join(",")))
}

/// A text that means itself in the plain form.
fn word(value: &Value, what: &str) -> Result<String, String> {
    let text = value.as_str().unwrap_or_default();
    let plain = !text.is_empty() && !text.contains(MARKS) && text == text.trim();
    if plain { Ok(text.to_owned()) } else { Err(format!("{value} is no {what}")) }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn the_plain_form_stays_as_it_is() {
        for text in ["", "cpus:1;mem:128", "ports:[1-2]", "disks:{a,b}", "cpus(web):0.5"] {
            assert_eq!(plain(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn json_says_the_same_in_more_words() {
        let text = r#"[
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.5}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}, "role": "web/a"},
            {"name": "ports", "type": "RANGES", "role": "*",
             "ranges": {"range": [{"begin": 1, "end": 2}, {"begin": 5, "end": 5}]}},
            {"name": "disks", "type": "SET", "set": {"item": ["a", "b"]},
             "reservations": [{"type": "STATIC", "role": "db"}]}
        ]"#;
        let told = "cpus:1.5;mem(web/a):64;ports:[1-2,5-5];disks(db):{a,b}";
        assert_eq!(plain(text).as_deref(), Ok(told));
    }

    #[test]
    fn what_a_flag_cannot_tell_is_refused_by_name() {
        for (text, why) in [
            (r#"[{"name": "cpus""#, "EOF"),
            (r#"{"name": "cpus"}"#, "expected a list"),
            (r#"[{"name": "a;b", "scalar": {"value": 1}}]"#, "is no name"),
            (r#"[{"name": "cpus", "type": "RANGES", "scalar": {"value": 1}}]"#, "is no RANGES"),
            (r#"[{"name": "cpus", "scalar": {"value": "1"}}]"#, "is no SCALAR"),
            (r#"[{"name": "disk", "scalar": {"value": 1}, "disk": {}}]"#, "`disk` of `disk`"),
            (
                r#"[{"name": "cpus", "scalar": {"value": 1}, "reservations": [{"type": "DYNAMIC"}]}]"#,
                "static reservations only",
            ),
        ] {
            let told = plain(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
