//! `mesita pull`: an image comes to agents before a task needs it.
//!
//! The agents come one after the other. The first that can have it has it from its registry, and tells
//! the digest of the index that it began with; the others have by that digest, and by those that it leads
//! to, what those before them keep, and what none of them has from their own registry. Each says what
//! it lacks, so that what broke off goes on, and what is there does not come again.

use std::process::ExitCode;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use mesita_core::wire::svc::{Rows, Stream};
use serde_json::{Value, json};

use super::leader::Leader;
use super::{FAILED, Failure, USAGE, ask};
use crate::alarm;
use crate::flags::{Pull, Where};
use crate::http::body::Body;

/// Times that a step is tried when the way there breaks.
const TRIES: u32 = 5;
/// The pause before it is tried again, in µs.
const PAUSE_US: u64 = 1_000_000;
/// Rounds in which an agent may say that it lacks something: four, and one for each time that it broke.
const ROUNDS_MAX: usize = 24;
/// Bytes of an answer that is a sentence.
const WORDS_MAX: usize = 64 * 1024;
/// Agents that have it and are asked for what another one lacks.
const GIVERS_MAX: usize = 3;

pub(super) fn main(flags: &Pull) -> Result<ExitCode, Failure> {
    super::log_warnings();
    let rows = alarm::block_on(ask::rows(&flags.at, Stream::Rows { of: Rows::Agents }))?;
    let chosen = chosen(&rows, &flags.agents)?;
    let rate = flags.rate.map_or(0, |rate| rate.bytes);
    let mut pulling = Pulling {
        at: &flags.at,
        image: &flags.image,
        rate,
        index: None,
        givers: Vec::new(),
        turn: 0,
    };
    let mut left = Vec::new();
    for agent in &chosen {
        match alarm::block_on(pulling.to(agent)) {
            Ok(said) => outln!("{}: {said}", agent.shown),
            Err(failure) => left.push((agent, failure)),
        }
    }
    // Who could not begin may have it from one that could.
    let mut failed = false;
    for (agent, failure) in left {
        let has_givers = !pulling.givers.is_empty();
        let again = if has_givers { alarm::block_on(pulling.to(agent)) } else { Err(failure) };
        match again {
            Ok(said) => outln!("{}: {said}", agent.shown),
            Err(failure) => {
                failed = true;
                outln!("{}: FAILED: {}", agent.shown, failure.message);
            }
        }
    }
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// An agent, and what it is called.
#[derive(Debug, PartialEq, Eq)]
struct Agent {
    id: String,
    shown: String,
}

/// The agents that an expression means: commas are between those of which any will do, semicolons
/// between attributes that one has all of.
fn chosen(rows: &[Value], expression: &str) -> Result<Vec<Agent>, Failure> {
    let terms: Vec<&str> = expression.split(',').map(str::trim).collect();
    let unmet = terms.iter().find(|term| !rows.iter().any(|row| is_meant(row, term)));
    if let Some(term) = unmet {
        let why = format!(
            "no agent is `{term}`: --agents is `all`, or ids, hosts and attributes as `rack:r1`; \
             `mesita ps --agents` lists them"
        );
        return Err(Failure::new(USAGE, why));
    }
    let meant = rows.iter().filter(|row| terms.iter().any(|term| is_meant(row, term)));
    let word = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    Ok(meant.map(|row| Agent { id: word(row, "id"), shown: word(row, "hostname") }).collect())
}

fn is_meant(row: &Value, term: &str) -> bool {
    let of = |attribute: &str| {
        let told = attribute.split_once(':').filter(|(name, _)| !name.is_empty());
        told.is_some_and(|(name, value)| row["attributes"][name.trim()] == value.trim())
    };
    let named = !term.is_empty() && (row["id"] == term || row["hostname"] == term);
    term == "all" || named || (!term.is_empty() && term.split(';').all(of))
}

/// What is pulled, and who has it by now.
struct Pulling<'p> {
    at: &'p Where,
    image: &'p str,
    rate: u64,
    /// Where it begins, once somebody knows.
    index: Option<String>,
    givers: Vec<String>,
    /// The one of them that is asked first.
    turn: usize,
}

/// How far a pull went.
enum Went {
    /// It is there; it was before.
    There(bool),
    /// These are not, by digest, and the bytes of each that are.
    Lacks(Vec<(String, u64)>),
}

impl Pulling<'_> {
    /// Brings it to an agent.
    async fn to(&mut self, agent: &Agent) -> Result<&'static str, Failure> {
        for _ in 0..ROUNDS_MAX {
            // Without anybody who has it there is the registry alone.
            let went = self.asked(agent, self.givers.is_empty()).await?;
            let lacks = match went {
                Went::There(before) => return Ok(self.is_with(agent, before)),
                Went::Lacks(lacks) => lacks,
            };
            for (digest, begun) in lacks {
                if self.handed_on(agent, &digest, begun).await? {
                    continue;
                }
                let Went::There(before) = self.asked(agent, true).await? else {
                    let why = format!("nobody who could be asked has {digest}");
                    return Err(Failure::plain(why));
                };
                return Ok(self.is_with(agent, before));
            }
        }
        Err(Failure::plain("it lacks something each time"))
    }

    /// From now on others have it from there.
    fn is_with(&mut self, agent: &Agent, before: bool) -> &'static str {
        self.givers.insert(0, agent.id.clone());
        self.givers.truncate(GIVERS_MAX);
        if before { "has it" } else { "pulled" }
    }

    /// Asks an agent to bring it, and waits for that.
    async fn asked(&mut self, agent: &Agent, registry: bool) -> Result<Went, Failure> {
        let path = format!("/agent/{}/images/pull", agent.id);
        let asked = json!({"image": self.image, "index": self.index, "rate": self.rate,
                           "registry": registry});
        let asked = asked.to_string();
        let last = again(|| async {
            let request = Request::builder().method(Method::POST).uri(&path);
            last_of(self.at, request.body(Body::of(asked.clone())).map_err(Failure::plain)?).await
        });
        let last = last.await?;
        if let Some(why) = last["error"].as_str() {
            return Err(Failure::plain(why));
        }
        let index = last["index"].as_str().ok_or_else(|| {
            Failure::plain("its agent was cut off, or is of an older release; ask again")
        })?;
        self.index.get_or_insert_with(|| index.to_owned());
        let Some(lacks) = last["lacks"].as_array() else {
            return Ok(Went::There(last["kept"] == true));
        };
        let of = |one: &Value| Some((one[0].as_str()?.to_owned(), one[1].as_u64()?));
        Ok(Went::Lacks(lacks.iter().filter_map(of).collect()))
    }

    /// Has the leader hand on to an agent what another one keeps. False when none of them does.
    async fn handed_on(
        &mut self,
        agent: &Agent,
        digest: &str,
        begun: u64,
    ) -> Result<bool, Failure> {
        let hex = digest.trim_start_matches("sha256:");
        let rate = self.rate;
        let all = self.givers.len();
        for giver in self.givers.iter().cycle().skip(self.turn).take(all) {
            let to = format!("/agent/{}/images/blobs/{hex}", agent.id);
            let path = format!("{to}?from={giver}&offset={begun}&rate={rate}");
            let leader = Leader::find(self.at).await?;
            let handing = async {
                let request = Request::builder().method(Method::PUT).uri(&path);
                let request = request.body(Body::of("")).map_err(Failure::plain)?;
                let answer = leader.ask(request).await?;
                Ok((answer.status(), words(answer).await?))
            };
            match leader.during(handing).await {
                Ok((status, _)) if status.is_success() => return Ok(true),
                Ok((status, why)) if status.is_client_error() => log::info!("{giver}: {why}"),
                // What has come stays there: it says so when it is asked again, for another giver.
                broke => {
                    let why = broke.map_or_else(|failure| failure.message, |(_, why)| why);
                    log::warn!("{why}; going on");
                    alarm::after(PAUSE_US).await;
                    self.turn = (self.turn + 1) % all.max(1);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Does something until the way there holds.
async fn again<T, F: Future<Output = Result<T, Failure>>>(
    mut what: impl FnMut() -> F,
) -> Result<T, Failure> {
    let mut tries = 1..TRIES;
    loop {
        match (what().await, tries.next()) {
            (Err(failure), Some(_)) if failure.status == super::NO_MASTER => {
                log::warn!("{}; asking again", failure.message);
                alarm::after(PAUSE_US).await;
            }
            (done, _) => return done,
        }
    }
}

/// The last line of an answer that goes on for as long as something does.
async fn last_of(at: &Where, request: Request<Body>) -> Result<Value, Failure> {
    let leader = Leader::find(at).await?;
    let reading = async {
        let mut answer = leader.ask(request).await?;
        if !answer.status().is_success() {
            let status = answer.status();
            let why = words(answer).await?;
            return Err(Failure::plain(if why.is_empty() { status.to_string() } else { why }));
        }
        let mut last = Vec::new();
        while let Some(frame) = answer.frame().await {
            let broke = |error| Failure::new(super::NO_MASTER, format!("it broke off: {error}"));
            let Ok(bytes) = frame.map_err(broke)?.into_data() else { continue };
            last.extend_from_slice(&bytes);
            // What was said before the last line is over.
            let end = last.len().saturating_sub(1);
            if let Some(at) = last[..end].iter().rposition(|byte| *byte == b'\n') {
                last.drain(..=at);
            }
        }
        serde_json::from_slice(&last).map_err(Failure::plain)
    };
    leader.during(reading).await
}

/// What an answer says.
async fn words(answer: Response<Incoming>) -> Result<String, Failure> {
    let body = Limited::new(answer.into_body(), WORDS_MAX).collect().await;
    let body = body.map_err(Failure::plain)?.to_bytes();
    Ok(String::from_utf8_lossy(&body).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_meant_by_ids_hosts_attributes_and_all() {
        let rows = [
            json!({"id": "S1", "hostname": "pi1", "attributes": {"rack": "r1", "zone": "a"}}),
            json!({"id": "S2", "hostname": "pi2", "attributes": {"rack": "r1", "zone": "b"}}),
            json!({"id": "S3", "hostname": "pi3", "attributes": {}}),
        ];
        let ids = |expression: &str| -> Vec<String> {
            let chosen = chosen(&rows, expression).unwrap();
            chosen.into_iter().map(|agent| agent.id).collect()
        };
        assert_eq!(ids("all"), ["S1", "S2", "S3"]);
        assert_eq!(ids("pi3, S1"), ["S1", "S3"]);
        assert_eq!(ids("rack:r1"), ["S1", "S2"]);
        assert_eq!(ids("rack:r1;zone:b"), ["S2"]);
        assert_eq!(ids("rack:r1;zone:b,pi3"), ["S2", "S3"]);
        for bad in ["", "pi9", "rack:r2", "rack", ":", "pi1,", "rack:r1;pi1", ";"] {
            let why = chosen(&rows, bad).unwrap_err();
            assert!(why.status == USAGE && why.message.contains("no agent is"), "{bad}");
        }
    }
}
