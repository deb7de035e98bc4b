//! Who may use a daemon: who must show a credential, and what each may do then.
//!
//! | file | concern |
//! |---|---|
//! | `kept` | principals that the masters keep, and what each may do by default |
//! | `credentials` | principals with their secrets, out of files that only their owner reads |
//! | `proof` | that a node which speaks frames has a secret, without the secret |
//! | `tokens` | by which nodes join |
//! | `rates` | how many calls a second frameworks may make |
//! | `realms` | what belongs together over HTTP: one flag and one name for each realm |
//! | `guests` | what principals have open, which ends with them |
//! | `acls` | rules of who may do what, out of Mesos' JSON |
//! | `view` | what of the catalog a caller sees |
//!
//! Who is at the other end of a loopback socket is found out from the kernel (`doors`); a credential
//! that is shown counts before that. What is allowed is one pure function of the core
//! (`mesita_core::acls`); where no rule decides, it is what was said of the principal, and nobody may
//! do more than read of whom nothing was said.

mod acls;
mod credentials;
mod guests;
pub(crate) mod kept;
mod proof;
mod rates;
mod realms;
pub(crate) mod tokens;
mod view;

use std::cell::{Cell, Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;

use hyper::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use hyper::{HeaderMap, StatusCode};
use mesita_core::acls::Action;
use mesita_core::doors::{PRINCIPAL, Rights};
use mesita_core::wire::hello::Role;
use serde::{Deserialize, Serialize};

use crate::doors::{Caller, Denied};
use crate::http::{Early, early};
pub(crate) use acls::Rules;
pub(crate) use credentials::{Credential, Credentials, ForTasks};
pub(crate) use guests::Guest;
use guests::Guests;
use kept::{Kept, Principal};
pub(crate) use proof::{PROOF_SINCE, Shown, proof, proves};
use rates::Rates;
pub(crate) use realms::{Realm, endpoint, realm};

/// What an operator chose about credentials and rights.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// The file of `--credentials`, and the name of the flag.
    pub(crate) credentials: Option<PathBuf>,
    /// `--acls`: a file, or the rules themselves.
    pub(crate) acls: Option<String>,
    /// `--rate-limits`: the same.
    pub(crate) rates: Option<String>,
    /// Who must show a credential.
    pub(crate) asks: Asks,
}

/// Who must show a credential. Mesos: the flags `--authenticate_...`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Asks {
    /// Whoever reads.
    pub(crate) readonly: bool,
    /// Whoever operates.
    pub(crate) readwrite: bool,
    /// Frameworks.
    pub(crate) frameworks: bool,
    /// Agents.
    pub(crate) agents: bool,
    /// Executors: their own token, which is no credential.
    pub(crate) executors: bool,
}

impl Wanted {
    /// True when everybody who reaches the daemon, `master` or `agent`, must show a credential, but for
    /// what all may know.
    pub(crate) fn is_closed(&self, kind: &str) -> bool {
        self.asks.are_all(kind)
    }

    /// Refuses to ask for credentials where there can be none. `flag` is the flag of those.
    pub(crate) fn judge(&self, flag: &str) -> Result<(), String> {
        if self.asks.any() && self.credentials.is_none() { Err(none_known(flag)) } else { Ok(()) }
    }
}

impl Asks {
    fn any(self) -> bool {
        self.readonly || self.readwrite || self.frameworks || self.agents
    }

    fn are_all(self, kind: &str) -> bool {
        let Self { readonly, readwrite, frameworks, agents, .. } = self;
        readonly && readwrite && (kind == "agent" || (frameworks && agents))
    }
}

/// Said where nobody could be let in.
fn none_known(flag: &str) -> String {
    format!(
        "somebody must show a credential, and none is known: give {flag} FILE, or leave out the flags \
         --authenticate-..."
    )
}

/// Principals of whom a warning is, by name.
const TOLD: usize = 5;
/// Names of principals that are no more which are remembered.
const GONE_MAX: usize = 1_024;

/// Who may use a daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// `master` or `agent`.
    kind: &'static str,
    asks: Asks,
    /// Where the credentials are, and the flag that says so.
    file: Option<(String, PathBuf)>,
    credentials: RefCell<Credentials>,
    kept: RefCell<Kept>,
    /// Those that were known and are no more: what they began may not go on.
    gone: RefCell<BTreeSet<String>>,
    rules: RefCell<Rules>,
    /// How fast frameworks may call.
    rates: RefCell<Rates>,
    /// Where the two are: a file, or what they say themselves.
    told: [Option<String>; 2],
    /// What principals are being answered.
    guests: Rc<Guests>,
    /// Requests and connections without a credential that they needed.
    refused: Cell<u64>,
}

impl Access {
    /// Reads what the operator wrote. `flag` is the flag of the credentials.
    pub(crate) fn read(kind: &'static str, flag: &str, wanted: &Wanted) -> Result<Self, String> {
        let credentials = wanted.credentials.as_deref().map(Credentials::read).transpose();
        let credentials = credentials.map_err(|bad| format!("{flag}: {bad}"))?.unwrap_or_default();
        let file = wanted.credentials.clone().map(|path| (flag.to_owned(), path));
        if wanted.asks.any() && credentials.is_empty() {
            return Err(none_known(flag));
        }
        let rules = wanted.acls.as_deref().map(Rules::read).transpose();
        let rules = rules.map_err(|bad| format!("--acls: {bad}"))?.unwrap_or_default();
        let rates = wanted.rates.as_deref().map(Rates::read).transpose();
        let rates = rates.map_err(|bad| format!("--rate-limits: {bad}"))?.unwrap_or_default();
        let told = [wanted.acls.clone(), wanted.rates.clone()];
        let (credentials, rules, rates) = (credentials.into(), rules.into(), rates.into());
        let asks = wanted.asks;
        Ok(Self { kind, asks, file, credentials, rules, rates, told, ..Self::default() })
    }

    /// A warning about principals that may do little because nobody has said what they may.
    pub(crate) fn trouble(&self) -> Option<String> {
        let (credentials, flag) =
            (self.credentials.borrow(), self.file.as_ref().map(|file| &file.0)?);
        let all = credentials.all().filter(|one| !one.says && self.rules.borrow().says().is_none());
        let names: Vec<&str> = all.map(|one| one.credential.principal.as_str()).collect();
        let first = names.get(..names.len().min(TOLD)).unwrap_or_default().join(", ");
        let more = if names.len() > TOLD { " and others" } else { "" };
        (!names.is_empty()).then(|| {
            format!(
                "{first}{more} of {flag} may read, and what a rule of --acls allows: say more beside their \
                 secrets, by roles, users, operate and agent, or \"permissive\": true in --acls, by which \
                 each of them may do everything else"
            )
        })
    }

    /// Reads everything again that the operator wrote: it counts from now on. What is no use changes
    /// nothing, and why is told. What those began who are not what they were, or may do other things, is the
    /// caller's to end: their names.
    pub(crate) fn read_again(&self) -> (BTreeSet<String>, Vec<String>) {
        let before = self.rights();
        let (mut changed, mut troubles) = (BTreeSet::new(), Vec::new());
        match self.read_credentials_again() {
            Ok(all) => changed = all,
            Err(why) => troubles.push(format!("{why}: the credentials stay as they were")),
        }
        let [acls, rates] = &self.told;
        match acls.as_deref().map(Rules::read).transpose() {
            Ok(rules) => rules.into_iter().for_each(|rules| {
                self.rules.replace(rules);
            }),
            Err(bad) => troubles.push(format!("--acls: {bad}: the rules stay as they were")),
        }
        match rates.as_deref().map(Rates::read).transpose() {
            Ok(rates) => rates.into_iter().for_each(|rates| {
                self.rates.replace_with(|before| rates.after(before));
            }),
            Err(bad) => troubles.push(format!("--rate-limits: {bad}: the rates stay as they were")),
        }
        let now = self.rights();
        changed.extend(
            before.into_iter().filter(|(name, of)| now.get(name) != Some(of)).map(|one| one.0),
        );
        (changed, troubles)
    }

    /// What everybody who is known may do beyond running tasks as themselves.
    fn rights(&self) -> BTreeMap<String, Rights> {
        let (credentials, kept) = (self.credentials.borrow(), self.kept.borrow());
        let of_file = credentials.all().map(|known| &known.credential.principal);
        let all = of_file.chain(kept.keys());
        all.map(|name| (name.clone(), self.caller(name).rights)).collect()
    }

    /// A caller asks for something that ends with its principal, if it has one.
    pub(crate) fn guest(&self, caller: &Caller) -> Option<Guest> {
        self.guests.enter(caller)
    }

    /// Ends what these principals are being answered.
    pub(crate) fn end(&self, is_theirs: impl Fn(&str) -> bool) {
        self.guests.end(is_theirs);
    }

    /// How many calls a second frameworks may make.
    pub(crate) fn rates(&self) -> Ref<'_, Rates> {
        self.rates.borrow()
    }

    /// Reads the file of credentials again. Those who are not what they were, by name.
    fn read_credentials_again(&self) -> Result<BTreeSet<String>, String> {
        let Some((flag, path)) = &self.file else { return Ok(BTreeSet::new()) };
        let read = Credentials::read(path).map_err(|bad| format!("{flag}: {bad}"))?;
        if self.asks.any() && read.is_empty() && self.kept.borrow().is_empty() {
            return Err(format!("{flag}: {}: nobody is left in it", path.display()));
        }
        let before = self.credentials.replace(read);
        let now = self.credentials.borrow();
        let changed = before.all().filter(|one| now.find(&one.credential.principal) != Some(one));
        let changed = changed.map(|one| one.credential.principal.clone()).collect();
        self.forget(&changed);
        Ok(changed)
    }

    /// The principals that the masters keep are these from now on, by name and value. One whose name
    /// is in `--credentials` is the one that is there. Those who are not what they were are told, as above.
    pub(crate) fn keep<'v>(
        &self,
        all: impl Iterator<Item = (&'v str, &'v [u8])>,
    ) -> BTreeSet<String> {
        let new = all.filter(|(name, _)| !self.has_in_file(name));
        let known =
            new.filter_map(|(name, value)| Some((name.to_owned(), kept::known(name, value)?)));
        let before = self.kept.replace(known.collect());
        let now = self.kept.borrow();
        let changed = before.into_iter().filter(|(name, one)| now.get(name) != Some(one));
        let changed = changed.map(|(name, _)| name).collect();
        drop(now);
        self.forget(&changed);
        changed
    }

    /// Those of these who are known by nothing any more are gone.
    fn forget(&self, changed: &BTreeSet<String>) {
        let mut gone = self.gone.borrow_mut();
        gone.extend(changed.iter().cloned());
        gone.retain(|name| !self.kept.borrow().contains_key(name) && !self.has_in_file(name));
        while gone.len() > GONE_MAX {
            // Its connections were cut, and nobody lets it in again.
            gone.pop_first();
        }
    }

    /// True when a principal was known, and is no more.
    pub(crate) fn is_gone(&self, principal: &str) -> bool {
        self.gone.borrow().contains(principal)
    }

    /// True when a principal is in the file of `--credentials`.
    pub(crate) fn has_in_file(&self, principal: &str) -> bool {
        self.credentials.borrow().find(principal).is_some()
    }

    /// True when everybody who reaches the daemon must show a credential, but for what all may know.
    pub(crate) fn is_closed(&self) -> bool {
        self.asks.are_all(self.kind)
    }

    /// Who makes a request in a realm; `known` is who is at the other end of its connection.
    /// A credential that is right counts wherever it is shown; one that is missing or wrong only
    /// where one is needed: 401 then. Mesos: `BasicAuthenticator`.
    pub(crate) fn visitor(
        &self,
        realm: Option<Realm>,
        headers: &HeaderMap,
        known: Result<Caller, Denied>,
    ) -> Result<Result<Caller, Denied>, Early> {
        if let Some(principal) = headers.get(AUTHORIZATION).and_then(|shown| self.shown(shown)) {
            return Ok(Ok(self.caller(&principal)));
        }
        match realm {
            Some(realm) if self.asks_in(realm) => Err(self.unauthorized(realm)),
            Some(_) | None => Ok(known),
        }
    }

    /// The principal of an `Authorization` that is right.
    fn shown(&self, shown: &HeaderValue) -> Option<String> {
        let (credentials, kept) = (self.credentials.borrow(), self.kept.borrow());
        let find = |name: &str| credentials.find(name).or_else(|| kept.get(name));
        let find = |name: &str| find(name).map(|principal| &principal.credential);
        let all = credentials.all().chain(kept.values()).map(|principal| &principal.credential);
        credentials::check(shown, find, all).map(|credential| credential.principal.clone())
    }

    fn asks_in(&self, realm: Realm) -> bool {
        match realm {
            Realm::ReadOnly => self.asks.readonly,
            Realm::ReadWrite => self.asks.readwrite,
            Realm::Scheduler => self.asks.frameworks,
        }
    }

    fn unauthorized(&self, realm: Realm) -> Early {
        self.count_refused();
        let message = "401 Unauthorized. Expecting the principal and secret of a credential that \
                       this node knows, as HTTP Basic.";
        let mut reply = early(StatusCode::UNAUTHORIZED, message);
        let challenge = format!("Basic realm=\"mesos-{}-{}\"", self.kind, realm.name());
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        reply
    }

    /// True when an executor is only known by its token.
    pub(crate) fn asks_executors(&self) -> bool {
        self.asks.executors
    }

    /// True when a node of this role has to prove that it has a secret.
    pub(crate) fn asks_node(&self, role: Role) -> bool {
        match role {
            Role::Agent => self.asks.agents,
            Role::Framework => self.asks.frameworks,
            Role::Client => self.asks.readonly || self.asks.readwrite,
            Role::Master | Role::Executor => false,
        }
    }

    /// True when anybody could show a credential.
    pub(crate) fn knows_any(&self) -> bool {
        !self.credentials.borrow().is_empty() || !self.kept.borrow().is_empty()
    }

    /// Who proves to be a principal; none: nobody known, or no proof.
    pub(crate) fn prover(&self, shown: &Shown<'_>) -> Option<Caller> {
        self.with(shown.principal, |known| proves(known.map(|known| &known.credential), shown))
            .then(|| self.caller(shown.principal))
    }

    /// Somebody was turned away who had no credential.
    pub(crate) fn count_refused(&self) {
        self.refused.set(self.refused.get() + 1);
    }

    /// What is to be said of a principal, if it is known.
    fn with<T>(&self, principal: &str, say: impl FnOnce(Option<&Principal>) -> T) -> T {
        let (credentials, kept) = (self.credentials.borrow(), self.kept.borrow());
        say(credentials.find(principal).or_else(|| kept.get(principal)))
    }

    /// True when the terms of a principal count where no rule decides: they are somebody's word, or
    /// `permissive` is not. Mesos: its principals have no terms, and may do everything then.
    fn has_terms(&self, known: &Principal) -> bool {
        known.says || self.rules.borrow().says().is_none()
    }

    /// A principal as a caller. What it may do, the rules say, and its terms; tasks of root only if one
    /// of them does, whatever their default.
    fn caller(&self, principal: &str) -> Caller {
        let root = self.rules.borrow().decided(Action::RunTask, Some(principal), Some("root"));
        let rights = self.with(principal, |known| match known {
            Some(known) if self.has_terms(known) => {
                let may_be_root = root.unwrap_or_else(|| known.may_be_root());
                known.rights().and(if may_be_root { Rights::ANY_USER } else { Rights::NONE })
            }
            Some(_) if root == Some(true) => Rights::OPERATE.and(Rights::ANY_USER),
            Some(_) => Rights::OPERATE,
            None => Rights::NONE,
        });
        Caller::new(format!("{PRINCIPAL}{principal}"), rights)
    }

    /// True when a caller may bring agents: a node that has joined, who operates the cluster, and a
    /// principal that is for that.
    pub(crate) fn may_bring_agents(&self, caller: &Caller) -> bool {
        if caller.principal().is_some() {
            return self.may(caller, Action::RegisterAgent, None);
        }
        caller.is_node() || caller.rights.has(Rights::OPERATE)
    }

    /// True when a caller may do something to an object. See
    /// [`Acls::allow`](mesita_core::acls::Acls::allow).
    pub(crate) fn may(&self, caller: &Caller, action: Action, object: Option<&str>) -> bool {
        self.allows(caller.principal(), action, object)
    }

    /// True when a caller may start something as another user than that of the task which it is inside of:
    /// a principal by a rule that names it and no other, by what is said of it here, or as one who may be
    /// root. Others are who the kernel says that they are.
    pub(crate) fn lets_run_as(&self, caller: &Caller, action: Action, user: &str) -> bool {
        let Some(name) = caller.principal() else { return true };
        let decided = self.rules.borrow().decided(action, Some(name), Some(user));
        let is_said =
            |known: &Principal| self.has_terms(known) && known.may(Action::RunTask, Some(user));
        caller.rights.has(Rights::ANY_USER)
            || decided.unwrap_or_else(|| self.with(name, |known| known.is_some_and(is_said)))
    }

    /// The same for a principal, or nobody known.
    pub(crate) fn allows(
        &self,
        principal: Option<&str>,
        action: Action,
        object: Option<&str>,
    ) -> bool {
        let rules = self.rules.borrow();
        let Some(name) = principal else { return rules.allow(action, None, object) };
        self.with(name, |known| match known {
            Some(known) if self.has_terms(known) => {
                let decided = |action| rules.decided(action, principal, object);
                // Who may run tasks as a user by a rule reads what they leave.
                let reads = || decided(Action::RunTask) == Some(true);
                let reads = action == Action::AccessSandbox && reads();
                decided(action).unwrap_or_else(|| reads || known.may(action, object))
            }
            None if self.is_gone(name) => false,
            Some(_) | None => rules.allow(action, principal, object),
        })
    }

    /// True when nobody is denied anything by these actions.
    pub(crate) fn is_open(&self, actions: &[Action]) -> bool {
        let (credentials, kept) = (self.credentials.borrow(), self.kept.borrow());
        let mut all = credentials.all().chain(kept.values());
        !all.any(|known| self.has_terms(known))
            && actions.iter().all(|action| self.rules.borrow().is_open(*action))
    }

    /// An answer unless a caller may do something to an object. Mesos: `Forbidden()`.
    pub(crate) fn check(
        &self,
        caller: &Caller,
        action: Action,
        object: Option<&str>,
    ) -> Result<(), Early> {
        if self.may(caller, action, object) {
            return Ok(());
        }
        Err(early(StatusCode::FORBIDDEN, denied(caller, action, object)))
    }

    /// Principals, rules, and how often a credential was missing or wrong.
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 7] {
        [
            ("principals_answered", self.guests.len() as u64),
            ("principals", self.kept.borrow().len() as u64),
            ("credentials", self.credentials.borrow().len() as u64),
            ("credentials_max", credentials::CREDENTIALS_MAX as u64),
            ("acl_rules", self.rules.borrow().len() as u64),
            ("acl_rules_max", mesita_core::acls::RULES_MAX as u64),
            ("unauthenticated_total", self.refused.get()),
        ]
    }
}

/// Why a caller is denied something, and where that is written.
pub(crate) fn denied(caller: &Caller, action: Action, object: Option<&str>) -> String {
    let who = caller.principal().map_or("whoever shows no credential", |principal| principal);
    let what = object.map(|object| format!(" `{}`", object.escape_debug())).unwrap_or_default();
    format!("403 Forbidden. `{}` of --acls deny this to {who}:{what}", action.list())
        .trim_end_matches(':')
        .to_owned()
}
