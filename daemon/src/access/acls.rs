//! Rules of who may do what, out of Mesos' JSON: a file, or the text itself.
//!
//! Mesos: `--acls`, `acls.proto`. What is not known there is refused by its name, so that a rule with
//! a slip of the pen never leaves open what it was to close.

use std::fmt;
use std::fs;
use std::path::Path;

use mesita_core::acls::{Acls, Action, Entity, Rule};
use mesita_core::doors::is_user;
use mesita_core::wire::check_role;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Bytes of a file.
const FILE_MAX: u64 = 1 << 20;

type Texts = Box<[Box<str>]>;

/// JSON in which no object has a name twice: readers differ in which of the two they take.
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(Reads).map(Self)
    }
}

struct Reads;

impl<'de> Visitor<'de> for Reads {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, is: bool) -> Result<Value, E> {
        Ok(is.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Once(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, Once(value))) = members.next_entry::<String, Once>()? {
            if map.contains_key(&name) {
                let why = format!("`{}` is there twice", name.escape_debug());
                return Err(A::Error::custom(why));
            }
            map.insert(name, value);
        }
        Ok(map.into())
    }
}

/// The rules of a daemon.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    acls: Acls<Vec<Rule<Texts>>>,
    /// `permissive`, where it is written.
    says: Option<bool>,
}

impl Default for Rules {
    /// None: who is known by no name may do everything.
    fn default() -> Self {
        match Acls::new(true, Vec::new()) {
            Ok(acls) => Self { acls, says: None },
            Err(_) => mesita_core::stop(line!(), "no rules at all are too many"),
        }
    }
}

impl std::ops::Deref for Rules {
    type Target = Acls<Vec<Rule<Texts>>>;

    fn deref(&self) -> &Self::Target {
        &self.acls
    }
}

impl Rules {
    /// What is to become of principals that no rule is about, if that is written. Mesos takes `true` for
    /// written where it is not.
    pub(crate) fn says(&self) -> Option<bool> {
        self.says
    }

    /// Reads what the flag says: rules, or where they are.
    pub(crate) fn read(told: &str) -> Result<Self, String> {
        self::told(told, Self::parse)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let Once(value) = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let object = value.as_object().ok_or("expected an object of lists")?;
        let mut says = None;
        let mut rules = Vec::new();
        for (key, value) in object {
            if key == "permissive" {
                says = Some(value.as_bool().ok_or("`permissive` is true or false")?);
                continue;
            }
            let action = Action::ALL.iter().find(|action| action.list() == key);
            let action = *action.ok_or_else(|| unknown(key))?;
            let list = value.as_array().ok_or_else(|| format!("`{key}` is no list"))?;
            for (at, value) in list.iter().enumerate() {
                rules.push(rule(action, value).map_err(|why| format!("`{key}`[{at}]: {why}"))?);
            }
        }
        let acls = Acls::new(says.unwrap_or(true), rules).map_err(|many| many.to_string())?;
        Ok(Self { acls, says })
    }
}

/// Reads what a flag says: JSON, if it begins like that, else the file where it is.
pub(super) fn told<T>(
    told: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, String> {
    if told.trim_start().starts_with('{') {
        return parse(told);
    }
    let path = Path::new(told.strip_prefix("file://").unwrap_or(told));
    let bad = |why: String| format!("{}: {why}", path.display());
    let of = fs::metadata(path).map_err(|error| bad(error.to_string()))?;
    crate::secrets::judge_rules(&of).map_err(bad)?;
    if of.len() > FILE_MAX {
        return Err(bad("larger than 1 MiB".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    parse(&text).map_err(bad)
}

fn unknown(key: &str) -> String {
    let known: Vec<&str> = Action::ALL.iter().map(|action| action.list()).collect();
    format!("`{}` is not known; known are permissive, {}", key.escape_debug(), known.join(", "))
}

fn rule(action: Action, value: &Value) -> Result<Rule<Texts>, String> {
    let object = value.as_object().ok_or("expected an object")?;
    let what = action.object();
    for key in object.keys() {
        if key != "principals" && key != what {
            let key = key.escape_debug();
            return Err(format!("`{key}` is not known; known are principals and {what}"));
        }
    }
    let of = |name: &str| {
        let value = object.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
        entity(value).map_err(|why| format!("`{name}`: {why}"))
    };
    let objects = of(what)?;
    if let Entity::Some(roles) = &objects
        && what == "roles"
    {
        roles.iter().try_for_each(|role| check_pattern(role))?;
    }
    if let Entity::Some(users) = &objects
        && what == "users"
    {
        users.iter().try_for_each(|user| check_user(user))?;
    }
    Ok(Rule { action, principals: of("principals")?, objects })
}

/// True for a role, and for all below one.
pub(super) fn is_pattern(role: &str) -> bool {
    let path = role.strip_suffix("/%").unwrap_or(role);
    let is_role = path != "*" && check_role("role", path).is_ok();
    role == "*" || is_role && path.split('/').all(|part| part != "%")
}

/// Refuses what no role is, and no pattern of roles: such a rule would be about nothing.
fn check_pattern(role: &str) -> Result<(), String> {
    if is_pattern(role) {
        return Ok(());
    }
    let shown = role.escape_debug();
    Err(format!(
        "`roles`: `{shown}` is no role: names parted by `/`, and at the end `/%` for all below; all roles \
         are {{\"type\": \"ANY\"}}"
    ))
}

/// Refuses a number as nobody is called: such a rule would be about nobody.
fn check_user(user: &str) -> Result<(), String> {
    if is_user(user) {
        return Ok(());
    }
    let shown = user.escape_debug();
    Err(format!("`users`: `{shown}` is no user: a number has no sign and no zero before it"))
}

fn entity(value: &Value) -> Result<Entity<Texts>, String> {
    let object: &Map<String, Value> =
        value.as_object().ok_or("expected {\"values\": [...]} or {\"type\": \"ANY\"}")?;
    if let Some(key) = object.keys().find(|key| *key != "type" && *key != "values") {
        return Err(format!("`{}` is not known; known are type and values", key.escape_debug()));
    }
    let kind = object.get("type").map_or(Some("SOME"), Value::as_str);
    match kind {
        Some("ANY") => Ok(Entity::Any),
        Some("NONE") => Ok(Entity::None),
        Some("SOME") => {
            let values = object.get("values").and_then(Value::as_array);
            let texts = values.map(|all| all.iter().map(|one| one.as_str().map(Box::from)));
            let texts = texts.and_then(|texts| texts.collect::<Option<Texts>>());
            texts.map(Entity::Some).ok_or_else(|| "`values` is no list of texts".to_owned())
        }
        _ => Err("`type` is SOME, ANY or NONE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_mesos_writes_them() {
        let rules = Rules::read(
            r#"{"permissive": false,
                "register_frameworks": [
                    {"principals": {"values": ["web"]}, "roles": {"values": ["web/%", "*"]}},
                    {"principals": {"type": "NONE"}, "roles": {"values": ["db"]}}],
                "view_flags": [{"principals": {"type": "ANY"}, "flags": {"type": "ANY"}}]}"#,
        );
        let rules = rules.unwrap();
        let may = |who, role| rules.allow(Action::RegisterFramework, who, Some(role));
        assert!(may(Some("web"), "web/a") && may(Some("web"), "*"));
        assert!(!may(Some("web"), "db") && !may(Some("x"), "*") && !may(None, "*"));
        assert!(rules.allow(Action::ViewFlags, None, None));
        assert!(!rules.allow(Action::GetQuota, Some("web"), Some("web")));
        assert_eq!(rules.len(), 3);
        assert_eq!(rules.says(), Some(false));
        assert!(Rules::default().allow(Action::GetQuota, None, Some("web")));
        assert_eq!(Rules::read(r#"{"run_tasks": []}"#).unwrap().says(), None);
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        for (text, why) in [
            ("{", "EOF"),
            (
                r#"{"permisive": false}"#,
                "`permisive` is not known; known are permissive, register_",
            ),
            (r#"{"run_tasks": [], "run_tasks": []}"#, "`run_tasks` is there twice"),
            (r#"{"run_tasks": [{"users": {}, "users": {}}]}"#, "`users` is there twice"),
            (r#"{"permissive": "no"}"#, "`permissive` is true or false"),
            (r#"{"run_tasks": {}}"#, "`run_tasks` is no list"),
            (
                r#"{"run_tasks": [{"principals": {"type": "ANY"}, "roles": {"type": "ANY"}}]}"#,
                "`run_tasks`[0]: `roles` is not known; known are principals and users",
            ),
            (r#"{"run_tasks": [{"principals": {"type": "ANY"}}]}"#, "`users` is missing"),
            (
                r#"{"run_tasks": [{"principals": {"type": "ALL"}, "users": {"type": "ANY"}}]}"#,
                "`principals`: `type` is SOME, ANY or NONE",
            ),
            (
                r#"{"run_tasks": [{"principals": {"value": ["a"]}, "users": {"type": "ANY"}}]}"#,
                "`value` is not known; known are type and values",
            ),
            (
                r#"{"run_tasks": [{"principals": {"values": [1]}, "users": {"type": "ANY"}}]}"#,
                "`values` is no list of texts",
            ),
            (
                r#"{"view_roles": [{"principals": {"type": "ANY"}, "roles": {"values": ["a/%/b"]}}]}"#,
                "`view_roles`[0]: `roles`: `a/%/b` is no role",
            ),
            (
                r#"{"view_roles": [{"principals": {"type": "ANY"}, "roles": {"values": ["/%"]}}]}"#,
                "all roles are {\"type\": \"ANY\"}",
            ),
            (
                r#"{"get_quotas": [{"principals": {"type": "ANY"}, "roles": {"values": ["%"]}}]}"#,
                "`%` is no role",
            ),
            (
                r#"{"run_tasks": [{"principals": {"type": "NONE"}, "users": {"values": ["00"]}}]}"#,
                "`run_tasks`[0]: `users`: `00` is no user",
            ),
            ("/nowhere/acls", "/nowhere/acls: No such file"),
        ] {
            let refused = Rules::read(text).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
        let one = r#"{"principals": {"type": "ANY"}, "users": {"type": "ANY"}}"#;
        let many = vec![one; mesita_core::acls::RULES_MAX + 1].join(",");
        let refused = Rules::read(&format!(r#"{{"run_tasks": [{many}]}}"#)).unwrap_err();
        assert_eq!(refused, "more than 1024 rules");
    }
}
