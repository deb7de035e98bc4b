//! Restart rules, in the labels of tasks: Mesos has no field for them.

use mesita_core::wire::task::{Copies, OnReturn, Restart, RestartRule, UnknownAge};

use crate::pb::mesos::v1::Labels;

/// What labels of rules begin with.
const PREFIX: &str = "mesita.";

/// The rule that labels say, or what is wrong with it.
pub(crate) fn of(labels: Option<&Labels>) -> Result<Restart, String> {
    let mut restart = Restart::default();
    for label in labels.iter().flat_map(|labels| &labels.labels) {
        let Some(key) = label.key.strip_prefix(PREFIX) else { continue };
        set(&mut restart, key, label.value.as_deref().unwrap_or_default())
            .map_err(|why| format!("Label '{}': {why}", label.key))?;
    }
    Ok(restart)
}

/// Sets one part of a rule, by its name and value.
pub(crate) fn set(restart: &mut Restart, key: &str, value: &str) -> Result<(), String> {
    match key {
        "restart" => restart.rule = rule(value)?,
        "stop-after" => restart.stop_after_us = micros(value)?,
        "lost-after" => restart.lost_after_us = micros(value)?,
        "unknown" => {
            let of = [("hold", UnknownAge::Hold), ("start", UnknownAge::Start)];
            restart.unknown = one_of(value, &of)?;
        }
        "reconcile" => {
            let of = [
                ("keep-original", OnReturn::KeepOriginal),
                ("keep-replacement", OnReturn::KeepReplacement),
                ("longest-running", OnReturn::LongestRunning),
            ];
            restart.on_return = one_of(value, &of)?;
        }
        "copies" => {
            let of = [("exclusive", Copies::Exclusive), ("availability", Copies::Availability)];
            restart.copies = one_of(value, &of)?;
        }
        // A label of somebody else.
        _ => {}
    }
    Ok(())
}

fn rule(value: &str) -> Result<RestartRule, String> {
    let of = [
        ("never", RestartRule::Never),
        ("on-failure", RestartRule::OnFailure),
        ("always", RestartRule::Always),
    ];
    one_of(value, &of)
}

fn one_of<T: Copy>(value: &str, of: &[(&str, T)]) -> Result<T, String> {
    let found = of.iter().find(|(name, _)| *name == value).map(|(_, one)| *one);
    found.ok_or_else(|| {
        let names: Vec<&str> = of.iter().map(|(name, _)| *name).collect();
        format!("'{value}' is none of {}", names.join(", "))
    })
}

/// A duration as Mesos writes them: `90secs`, `5mins`.
fn micros(value: &str) -> Result<u64, String> {
    let duration = value.parse::<crate::flags::text::Duration>();
    match duration.map(|duration| duration.us) {
        // Without a time there is none: that is said by saying nothing.
        Ok(0) => Err(format!("'{value}' is no time: leave it out to have none")),
        other => other.map_err(|why| why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::mesos::v1::Label;

    fn labels(all: &[(&str, &str)]) -> Labels {
        let label = |(key, value): &(&str, &str)| Label {
            key: (*key).to_owned(),
            value: Some((*value).to_owned()),
        };
        Labels { labels: all.iter().map(label).collect() }
    }

    #[test]
    fn labels_say_a_rule_and_others_are_none_of_it() {
        let all = labels(&[
            ("mesita.restart", "always"),
            ("mesita.copies", "availability"),
            ("mesita.unknown", "start"),
            ("mesita.stop-after", "90secs"),
            ("mesita.lost-after", "5mins"),
            ("mesita.reconcile", "keep-replacement"),
            ("mesita.color", "blue"),
            ("team", "a"),
        ]);
        let restart = of(Some(&all)).unwrap();
        assert_eq!(restart.rule, RestartRule::Always);
        assert_eq!((restart.stop_after_us, restart.lost_after_us), (90_000_000, 300_000_000));
        assert_eq!(restart.on_return, OnReturn::KeepReplacement);
        assert_eq!((restart.copies, restart.unknown), (Copies::Availability, UnknownAge::Start));
        assert_eq!(of(None), Ok(Restart::default()));
        let bad = of(Some(&labels(&[("mesita.restart", "sometimes")]))).unwrap_err();
        assert!(bad.contains("'sometimes' is none of never, on-failure, always"), "{bad}");
        let original = of(Some(&labels(&[("mesita.reconcile", "keep-original")]))).unwrap();
        assert_eq!(original.on_return, OnReturn::KeepOriginal);
        let bad = of(Some(&labels(&[("mesita.reconcile", "both")]))).unwrap_err();
        assert!(bad.contains("keep-original, keep-replacement, longest-running"), "{bad}");
        assert!(of(Some(&labels(&[("mesita.stop-after", "soon")]))).is_err());
        for label in ["mesita.stop-after", "mesita.lost-after"] {
            let why = of(Some(&labels(&[(label, "0secs")]))).unwrap_err();
            assert!(why.contains("'0secs' is no time: leave it out to have none"), "{why}");
        }
    }
}
