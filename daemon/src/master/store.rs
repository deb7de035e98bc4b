//! What frameworks store: small values by owner and key, changed by comparing versions. Nothing is
//! answered, read or written, before a majority of the masters has everything that the answer is
//! made of.

use std::collections::BTreeMap;
use std::rc::Rc;

use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use hyper::{HeaderMap, Method, StatusCode};
use mesita_core::acls::Action;
use mesita_core::doors::Rights;
use mesita_core::limits::{NAME_MAX, STORED_MAX};
use mesita_core::wire::svc::{CloseReason, Keep};
use serde_json::{Value, json};

use super::MasterNode;
use super::requests::OUTCOME_UNKNOWN;
use crate::access::tokens::{NodeRole, Token};
use crate::access::{denied, kept, tokens};
use crate::conn::Conn;
use crate::conn::streams::{Handle, Streams};
use crate::doors::Caller;
use crate::http::body::Body;
use crate::http::{Early, Reply, Visit, early, only, request, status};
use crate::legacy;
use crate::set::cells::{Name, Stored};

/// Keys of one owner.
pub(crate) const KEYS_MAX: usize = 64;
/// One owner has at most so large a part of all room.
const SHARE: u32 = 4;

/// Said to a write that would be known by its name.
const NOT_BY_KEY: &str = "/store takes no Idempotency-Key: a write that may be made again names the \
                          version that it changes, by If-Match, or none by If-None-Match: *";

mod principals;

/// Why not: how a stream ends by it, and a sentence.
pub(super) type No = (CloseReason, String);

/// All values. What is on its way to a majority is in it already.
#[derive(Debug, Default)]
pub(crate) struct Store {
    entries: BTreeMap<Name, Stored>,
    /// Cells of the registry, and how many of them are in use.
    cells_max: u32,
    cells: u32,
    /// The newest version.
    version: u64,
    refused: u64,
}

impl Store {
    /// A reign begins, with room for so many cells. Versions of it are later than all before.
    pub(crate) fn begin(&mut self, epoch: u32, cells_max: u32) {
        *self = Self { cells_max, version: u64::from(epoch) << 32, ..Self::default() };
    }

    /// Something that is stored already, unless a later version is. True when it is the newest.
    pub(crate) fn found(&mut self, stored: Stored) -> bool {
        let name = (stored.owner.clone(), stored.key.clone());
        let newer = self.entries.get(&name).is_none_or(|known| known.version < stored.version);
        if newer {
            self.put(name, stored);
        }
        newer
    }

    fn put(&mut self, name: Name, stored: Stored) {
        self.cells += stored.entry().cells();
        if let Some(before) = self.entries.insert(name, stored) {
            self.cells -= before.entry().cells();
        }
    }

    /// Stores a value under the next version.
    pub(super) fn store(
        &mut self,
        name: Name,
        value: &[u8],
        expected: Option<u64>,
    ) -> Result<Stored, No> {
        self.expects(&name, expected)?;
        let (owner, key) = name.clone();
        let version = self.version + 1;
        let stored = Stored { owner, key, version, value: value.to_vec() };
        self.has_room(&name, stored.entry().cells())?;
        self.version = version;
        self.put(name, stored.clone());
        Ok(stored)
    }

    /// Removes a value. False when there is none.
    pub(super) fn remove(&mut self, name: &Name, expected: Option<u64>) -> Result<bool, No> {
        self.expects(name, expected)?;
        let before = self.entries.remove(name);
        self.cells -= before.as_ref().map_or(0, |before| before.entry().cells());
        Ok(before.is_some())
    }

    fn expects(&self, name: &Name, expected: Option<u64>) -> Result<(), No> {
        let has = self.entries.get(name).map_or(0, |stored| stored.version);
        match expected {
            Some(expected) if expected != has && has == 0 => {
                let why =
                    format!("`{}` does not exist, and version {expected} was expected", name.1);
                Err((CloseReason::Conflict, why))
            }
            Some(0) if has != 0 && *name.0 == *kept::OWNER => {
                let why = format!("there is a principal `{}`: --replace changes its terms", name.1);
                Err((CloseReason::Conflict, why))
            }
            Some(expected) if expected != has => {
                let why = format!("`{}` has version {has}, and {expected} was expected", name.1);
                Err((CloseReason::Conflict, why))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn has_room(&self, name: &Name, cells: u32) -> Result<(), No> {
        let full = |why: String| Err((CloseReason::Overloaded, why));
        let own = || self.of(&name.0).filter(|stored| stored.key != name.1);
        let before = self.entries.get(name).map_or(0, |before| before.entry().cells());
        // Until the old value is emptied, both have their cells.
        let peak = self.cells + cells;
        let owned = own().map(|stored| stored.entry().cells()).sum::<u32>() + cells;
        if own().count() >= KEYS_MAX {
            let more = match &*name.0 {
                tokens::TOKENS => {
                    "; one whose time is over, or that is revoked, makes room: `mesita token ls` shows those \
                     of 0 uses, by which nobody joins any more, and `mesita token revoke ID` removes one"
                }
                kept::OWNER => {
                    "; `mesita principal rm` makes room, and --credentials of the masters has some"
                }
                _ => "; remove one first",
            };
            return full(format!("`{}` has {KEYS_MAX} keys, and may have no more{more}", name.0));
        }
        if owned > self.cells_max / SHARE && cells >= before {
            return full(format!(
                "`{}` would have more than a quarter of the store: see --size on the master",
                name.0
            ));
        }
        if peak > self.cells_max {
            return full("the store is full: see --size on the master".to_owned());
        }
        Ok(())
    }

    /// Everything of an owner.
    pub(super) fn of<'s>(&'s self, owner: &str) -> impl Iterator<Item = &'s Stored> {
        let from: Name = (owner.into(), "".into());
        let owner = owner.to_owned();
        let all = self.entries.range(from..).map(|(_, stored)| stored);
        all.take_while(move |stored| *stored.owner == *owner)
    }

    /// What is stored under a name.
    pub(super) fn value(&self, name: &Name) -> Option<Vec<u8>> {
        self.entries.get(name).map(|stored| stored.value.clone())
    }

    /// What of it is in use.
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 4] {
        [
            ("store_keys", self.entries.len() as u64),
            ("store_cells", self.cells.into()),
            ("store_cells_max", self.cells_max.into()),
            ("store_refused_total", self.refused),
        ]
    }
}

/// Said of what is not there.
fn unknown(owner: &str, key: &str) -> String {
    match owner {
        kept::OWNER => format!("there is no principal `{key}`: `mesita principal ls` shows them"),
        tokens::TOKENS => format!("there is no token `{key}`: `mesita token ls` shows them"),
        _ => format!("there is no key `{key}`"),
    }
}

/// What was asked for.
struct Asked<'a> {
    owner: &'a str,
    key: &'a str,
    verb: Keep<'a>,
}

/// What comes of it.
enum Done {
    Value(Stored),
    Version(u64),
    Removed,
    List(Vec<Value>),
}

impl MasterNode {
    /// Does what a caller asks; what comes of it when everything that it depends on is durable.
    async fn keep_or_tell(&self, caller: &Caller, asked: Asked<'_>) -> Result<Done, No> {
        let revoked = self.revoked_by(&asked);
        let done = self.do_now(caller, &asked);
        self.note_kept(caller, &asked, &revoked, done.as_ref().err());
        if done.is_err() {
            self.store.borrow_mut().refused += 1;
        }
        let done = done?;
        if !self.durable().await {
            return Err((CloseReason::Gone, OUTCOME_UNKNOWN.to_owned()));
        }
        if asked.owner == kept::OWNER {
            self.principals_changed();
        }
        self.tokens_changed(asked.owner);
        Ok(done)
    }

    /// Waits until a majority has everything that was stored so far. False: this master leads no more,
    /// and whether a majority has it is not known.
    #[must_use]
    pub(super) async fn durable(&self) -> bool {
        let deposed = self.deposed.listen();
        let (sender, receiver) = async_channel::bounded::<()>(1);
        self.when_durable(move || {
            let _ = sender.try_send(());
        });
        let kept = async { receiver.recv().await.is_ok() };
        let unsure = async {
            deposed.await;
            false
        };
        futures_lite::future::or(kept, unsure).await
    }

    /// The nodes that a change would revoke, if it is one of theirs.
    fn revoked_by(&self, asked: &Asked<'_>) -> String {
        match asked.verb {
            Keep::Put { value, .. } if asked.owner == tokens::NODES => {
                self.revoked(asked.key, value).join(",")
            }
            Keep::Put { .. } | Keep::Get | Keep::Remove { .. } | Keep::List => String::new(),
        }
    }

    fn note_kept(&self, caller: &Caller, asked: &Asked<'_>, revoked: &str, no: Option<&No>) {
        let what = match asked.verb {
            Keep::Put { .. } if asked.owner == kept::OWNER => "add principal",
            Keep::Remove { .. } if asked.owner == kept::OWNER => "remove principal",
            Keep::Put { .. } if asked.owner == tokens::TOKENS => "make token",
            Keep::Remove { .. } if asked.owner == tokens::TOKENS => "revoke token",
            Keep::Put { .. } if asked.owner == tokens::NODES => "revoke node",
            Keep::Put { .. } => "store",
            Keep::Remove { .. } => "remove stored",
            Keep::Get | Keep::List => return,
        };
        let of = if revoked.is_empty() { asked.key } else { revoked };
        self.audit.note(caller, what, of, no.map(|(_, why)| &**why));
    }

    fn do_now(&self, caller: &Caller, asked: &Asked<'_>) -> Result<Done, No> {
        let owner = self.owner(caller, asked.owner)?;
        let key = asked.key;
        if (key.is_empty() || key.len() > NAME_MAX) && !matches!(asked.verb, Keep::List) {
            let why = format!("a key has 1 to {NAME_MAX} bytes");
            return Err((CloseReason::Failed, why));
        }
        if owner == kept::OWNER {
            self.judge_principal(caller, key, asked.verb)?;
        }
        self.judge_maker(caller, owner, asked.verb)?;
        if owner == tokens::TOKENS && matches!(asked.verb, Keep::Put { .. }) {
            self.judge_tokens().map_err(|why| (CloseReason::Failed, why))?;
        }
        self.judge_nodes(owner, key, asked.verb).map_err(|why| (CloseReason::Failed, why))?;
        let name: Name = (owner.into(), key.into());
        let mut store = self.store.borrow_mut();
        match asked.verb {
            Keep::Get => match store.entries.get(&name) {
                Some(stored) if owner == tokens::TOKENS => {
                    Ok(Done::Value(self.shown_token(stored)))
                }
                Some(stored) => Ok(Done::Value(stored.clone())),
                None => Err((CloseReason::NotFound, unknown(owner, key))),
            },
            Keep::Put { value, .. } if value.len() > STORED_MAX => {
                let why = format!("a value has at most {STORED_MAX} bytes, not {}", value.len());
                Err((CloseReason::Failed, why))
            }
            Keep::Put { value, expected } => {
                let stored = store.store(name, value, expected)?;
                if let Some(set) = self.set() {
                    set.keep_stored(&stored);
                }
                Ok(Done::Version(stored.version))
            }
            Keep::Remove { expected } => {
                if !store.remove(&name, expected)? {
                    return Err((CloseReason::NotFound, unknown(owner, key)));
                }
                if let Some(set) = self.set() {
                    set.forget_stored(&name);
                }
                Ok(Done::Removed)
            }
            Keep::List if owner == kept::OWNER => {
                Ok(Done::List(store.of(owner).map(principals::told).collect()))
            }
            Keep::List => Ok(Done::List(store.of(&name.0).map(told).collect())),
        }
    }

    /// A token as it is told: its terms by now, and nothing that proves anything.
    fn shown_token(&self, stored: &Stored) -> Stored {
        let token = tokens::read::<Token>(&stored.value);
        let shown = token.map(|token| {
            let left_us = self.left_of(&stored.key, &token);
            tokens::kept(&Token { secret: [0; 32], left_us, ..token })
        });
        Stored { value: shown.unwrap_or_default(), ..stored.clone() }
    }

    /// Whose keys a caller means: everybody has their own, operators those of all.
    fn owner<'o>(&self, caller: &'o Caller, said: &'o str) -> Result<&'o str, No> {
        let own = caller.principal().unwrap_or(&caller.name);
        let owner = if said.is_empty() { own } else { said };
        if owner == kept::OWNER {
            return self.may_change_principals(caller).map(|()| owner);
        }
        if owner != own && !caller.rights.has(Rights::OPERATE) {
            let why = match owner {
                tokens::TOKENS => {
                    "only who operates the cluster may make, see and revoke its tokens"
                }
                tokens::NODES => "only who operates the cluster may see and revoke its nodes",
                _ => "only who operates the cluster may use what others have stored",
            };
            return Err((CloseReason::Denied, why.to_owned()));
        }
        let action = Action::AccessStore;
        if !self.options.access.may(caller, action, Some(owner)) {
            return Err((CloseReason::Denied, denied(caller, action, Some(owner))));
        }
        Ok(owner)
    }

    /// Whoever makes a token of masters makes a master, which is given the cluster's keys and credentials;
    /// whoever revokes a node may take one away.
    fn judge_maker(&self, caller: &Caller, owner: &str, verb: Keep<'_>) -> Result<(), No> {
        let needs: &[Action] = match verb {
            Keep::Put { value, .. } if owner == tokens::TOKENS => {
                let token = tokens::read::<Token>(value);
                match token.is_none_or(|token| token.role == NodeRole::Master) {
                    true => &[Action::ChangeMasters, Action::ChangePrincipals],
                    false => &[],
                }
            }
            Keep::Put { .. } | Keep::Remove { .. } if owner == tokens::NODES => {
                &[Action::ChangeMasters]
            }
            Keep::Put { .. } | Keep::Remove { .. } | Keep::Get | Keep::List => &[],
        };
        let access = &self.options.access;
        match needs.iter().find(|action| !access.may(caller, **action, None)) {
            Some(action) => Err((CloseReason::Denied, denied(caller, *action, None))),
            None => Ok(()),
        }
    }

    /// Serves a stream that asks for something of the store.
    pub(super) fn open_store(
        &self,
        conn: &Rc<Conn>,
        number: u32,
        window: u32,
        (owner, key, verb): (&str, &str, Keep<'_>),
    ) {
        let handle = Streams::serve(conn, number, window);
        // What was asked outlives the frame that it came in.
        let (owner, key) = (owner.to_owned(), key.to_owned());
        let verb = postcard::to_allocvec(&verb).unwrap_or_default();
        let (me, caller) = (self.me.clone(), conn.caller.clone());
        self.tasks.go(async move {
            let (Some(me), Ok(verb)) = (me.upgrade(), postcard::from_bytes(&verb)) else { return };
            let asked = Asked { owner: &owner, key: &key, verb };
            answer(handle, me.keep_or_tell(&caller, asked).await).await;
        });
    }

    /// `/store?key=KEY&owner=OWNER`
    pub(super) async fn visit_store(self: Rc<Self>, visit: Visit) -> Reply {
        match self.do_visit(visit).await {
            Ok(reply) => reply,
            Err(reply) => *reply,
        }
    }

    async fn do_visit(&self, visit: Visit) -> Result<Reply, Early> {
        self.leads_or_not()?;
        let Visit { request, caller, .. } = visit;
        let all = [Method::GET, Method::HEAD, Method::PUT, Method::DELETE];
        only(request.method(), &all)?;
        if matches!(*request.method(), Method::PUT | Method::DELETE) && caller.again.id().is_some()
        {
            return Err(early(StatusCode::BAD_REQUEST, NOT_BY_KEY));
        }
        let query = legacy::query(request.uri().query());
        let of = |name: &str| query.get(name).cloned().unwrap_or_default();
        let (owner, key) = (of("owner"), of("key"));
        let (method, expected) = (request.method().clone(), expected(request.headers())?);
        let value = match method {
            Method::PUT => request::whole(&self.port.bodies, request.into_body()).await?,
            _ => Default::default(),
        };
        let verb = match method {
            Method::PUT => Keep::Put { value: &value, expected },
            Method::DELETE => Keep::Remove { expected },
            _ if key.is_empty() => Keep::List,
            _ => Keep::Get,
        };
        let asked = Asked { owner: &owner, key: &key, verb };
        match self.keep_or_tell(&caller, asked).await {
            Ok(done) => Ok(replied(done)),
            Err((reason, why)) => Err(early(status_of(reason), why)),
        }
    }
}

/// A line of a list.
fn told(stored: &Stored) -> Value {
    let Stored { key, version, value, .. } = stored;
    json!({ "key": key, "version": version, "bytes": value.len() })
}

async fn answer(handle: Handle, done: Result<Done, No>) {
    let bytes = match done {
        Ok(Done::Value(stored)) => [&stored.version.to_le_bytes()[..], &stored.value].concat(),
        Ok(Done::Version(version)) => version.to_le_bytes().to_vec(),
        Ok(Done::Removed) => Vec::new(),
        Ok(Done::List(rows)) => {
            rows.iter().map(|row| format!("{row}\n")).collect::<String>().into_bytes()
        }
        Err((reason, why)) => return handle.close(reason, &why),
    };
    if handle.write(&bytes).await.is_ok() {
        handle.close(CloseReason::Done, "");
    }
}

/// The version that a request makes its condition (RFC 9110 §13.1).
fn expected(headers: &HeaderMap) -> Result<Option<u64>, Early> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    let bad = || early(StatusCode::BAD_REQUEST, "If-Match takes a version, If-None-Match only `*`");
    match (text(IF_MATCH), text(IF_NONE_MATCH)) {
        (None, None) => Ok(None),
        (None, Some("*")) => Ok(Some(0)),
        (Some(version), None) => version.trim_matches('"').parse().map(Some).map_err(|_| bad()),
        (Some(_), Some(_)) | (None, Some(_)) => Err(bad()),
    }
}

fn replied(done: Done) -> Reply {
    let (bytes, kind, version) = match done {
        Done::Value(Stored { value, version, .. }) => {
            (value, "application/octet-stream", Some(version))
        }
        Done::Version(version) => (
            json!({ "version": version }).to_string().into_bytes(),
            "application/json",
            Some(version),
        ),
        Done::Removed => return status(StatusCode::OK),
        Done::List(rows) => (Value::from(rows).to_string().into_bytes(), "application/json", None),
    };
    let mut reply = Reply::new(Body::of(bytes));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(tag) = version.and_then(|version| format!("\"{version}\"").parse().ok()) {
        reply.headers_mut().insert(ETAG, tag);
    }
    reply
}

const fn status_of(reason: CloseReason) -> StatusCode {
    match reason {
        CloseReason::NotFound => StatusCode::NOT_FOUND,
        CloseReason::Denied => StatusCode::FORBIDDEN,
        CloseReason::Conflict => StatusCode::PRECONDITION_FAILED,
        CloseReason::Overloaded => StatusCode::INSUFFICIENT_STORAGE,
        CloseReason::Gone => StatusCode::SERVICE_UNAVAILABLE,
        CloseReason::Done | CloseReason::Unsupported | CloseReason::Failed => {
            StatusCode::BAD_REQUEST
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Store {
        let mut store = Store::default();
        store.begin(3, 128);
        store
    }

    fn name(owner: &str, key: &str) -> Name {
        (owner.into(), key.into())
    }

    #[test]
    fn a_value_changes_when_its_version_is_the_expected_one() {
        let mut store = store();
        let mut put = |value: &[u8], expected| store.store(name("a", "k"), value, expected);
        assert!(put(b"x", Some(7)).is_err(), "there is none");
        let first = put(b"x", Some(0)).unwrap().version;
        assert_eq!(first, (3 << 32) + 1);
        assert!(put(b"y", Some(0)).is_err(), "there is one");
        let second = put(b"y", Some(first)).unwrap().version;
        assert!(put(b"z", Some(first)).is_err(), "it has changed");
        assert!(put(b"z", None).unwrap().version > second);
        assert!(store.remove(&name("a", "k"), Some(first)).is_err());
        assert_eq!(store.remove(&name("a", "k"), None), Ok(true));
        assert_eq!(store.remove(&name("a", "k"), None), Ok(false));
        assert_eq!(store.gauges()[1].1, 0);
    }

    #[test]
    fn nobody_takes_all_the_room_and_the_whole_has_an_end() {
        let mut store = store();
        let full = [0; STORED_MAX];
        let mut put = |owner: &str, key: &str, value: &[u8]| {
            store.store(name(owner, key), value, None).map(|_| ()).map_err(|(reason, _)| reason)
        };
        let overloaded = Err(CloseReason::Overloaded);
        for key in ["1", "2", "3"] {
            assert_eq!(put("a", key, &full), Ok(()));
        }
        assert_eq!(put("a", "4", &full), overloaded, "a quarter is 32 cells");
        assert_eq!(put("a", "3", &full), Ok(()), "what it has it may change");
        assert_eq!(put("a", "3", b"small"), Ok(()));
        for owner in ["b", "c", "d"] {
            for key in ["1", "2", "3"] {
                assert_eq!(put(owner, key, &full), Ok(()));
            }
        }
        for key in ["1", "2", "3"] {
            assert_eq!(put("e", key, &full), Ok(()));
        }
        assert_eq!(put("f", "1", &full), overloaded, "128 cells are in use, or as good as");
        let mut store = Store::default();
        store.begin(1, 1_000);
        for key in 0..KEYS_MAX {
            let put = store.store(name("a", &key.to_string()), b"", None);
            assert!(put.is_ok());
        }
        let (_, why) = store.store(name("a", "one more"), b"", None).unwrap_err();
        assert!(why.ends_with("may have no more; remove one first"), "{why}");
        for key in 0..KEYS_MAX {
            assert!(store.store(name(tokens::TOKENS, &key.to_string()), b"", None).is_ok());
        }
        let (_, why) = store.store(name(tokens::TOKENS, "one more"), b"", None).unwrap_err();
        assert!(why.contains("`mesita token revoke ID`") && why.contains("0 uses"), "{why}");
        assert_eq!(store.of("a").count(), KEYS_MAX);
        assert_eq!(store.of("aa").count(), 0);
    }
}
