//! Regular expressions in offer constraints: read here, judged here for each agent, and told to the
//! core as verdicts. Mesos: `RE2::FullMatch` in `offer_constraints_filter.cpp`.

use mesita_core::limits::NAME_MAX;
use mesita_core::wire::call::{Predicate, Selector};
use mesita_core::wire::event::AgentInfo;
use mesita_core::wire::resource::AttributeValue;
use regex_lite::{Regex, RegexBuilder};

use super::calls::constraint;
use crate::pb::mesos::v1 as pb;
use pb::scheduler::OfferConstraints;

/// Bytes of a pattern that was read. Mesos: `--offer_constraints_re2_max_mem`, whose engine counts
/// otherwise.
const PATTERN_BYTES_MAX: usize = 8 * 1024;

/// A pattern of a framework, and what it is about.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// The role whose constraint it is.
    pub(crate) role: String,
    /// The constraint's place among all of the role's.
    pub(crate) place: u16,
    selector: Selector,
    attribute: String,
    regex: Regex,
}

/// Reads a pattern, which is to match a whole text.
pub(crate) fn read(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > NAME_MAX {
        return Err(format!("a regular expression has at most {NAME_MAX} bytes"));
    }
    // Alone first: brackets that close what is around them are no part of a pattern.
    let build = |text: &str| RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    let whole = build(pattern).and_then(|_| build(&format!("^(?:{pattern})$")));
    whole.map_err(|error| format!("`{pattern}` is no regular expression that can be used: {error}"))
}

/// The patterns among a framework's constraints.
pub(crate) fn patterns(constraints: Option<&OfferConstraints>) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for (role, of_role) in constraints.iter().flat_map(|one| &one.role_constraints) {
        let all = of_role.groups.iter().flat_map(|group| &group.attribute_constraints);
        // As they are sent to the core, which counts them so.
        for (place, one) in (0u16..).zip(all.filter_map(|one| constraint(one).ok())) {
            let is_pattern =
                matches!(one.predicate, Predicate::TextMatches | Predicate::TextNotMatches);
            if let (true, Ok(regex)) = (is_pattern, read(one.value)) {
                let (selector, attribute) = (one.selector, one.attribute.to_owned());
                patterns.push(Pattern { role: role.clone(), place, selector, attribute, regex });
            }
        }
    }
    patterns
}

impl Pattern {
    /// Whether what an agent says of itself matches; none when it says no text there, of which the
    /// core needs no verdict.
    pub(crate) fn judge(&self, agent: &AgentInfo<'_>) -> Option<bool> {
        let given = |text| Some(text).filter(|text: &&str| !text.is_empty());
        let text = match self.selector {
            Selector::Hostname => given(agent.hostname),
            Selector::Region => given(agent.region),
            Selector::Zone => given(agent.zone),
            Selector::Attribute => {
                let mut named = agent.attributes.iter().filter(|one| one.name == self.attribute);
                named.next().and_then(|one| match one.value {
                    AttributeValue::Text(text) => Some(text),
                    AttributeValue::Scalar(_) | AttributeValue::Ranges(_) => None,
                })
            }
        };
        text.map(|text| self.regex.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_text_or_not_at_all() {
        let regex = read("rack-[0-9]+|spare").unwrap();
        for (text, matches) in
            [("rack-12", true), ("spare", true), ("rack-12b", false), ("my spare", false)]
        {
            assert_eq!(regex.is_match(text), matches, "{text}");
        }
    }

    /// Mesos: `OfferConstraintsFilterTest.InvalidTextMatches`, `InvalidTextNotMatches`.
    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["(", "a)|(b", "[z-a]", "*"] {
            let refused = read(pattern).unwrap_err();
            assert!(refused.contains("is no regular expression"), "{pattern}: {refused}");
        }
    }

    /// Mesos: `OfferConstraintsFilterTest.RegexTooComplex`.
    #[test]
    fn a_pattern_that_takes_too_much_memory_is_refused() {
        assert!(read("(((a{50}){50}){50}){50}").unwrap_err().contains("can be used"));
        assert!(read(&"a".repeat(300)).unwrap_err().contains("at most 255 bytes"));
    }
}
