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
//! | `acls` | rules of who may do what, out of Mesos' JSON |
//! | `view` | what of the catalog a caller sees |
//!
//! Who is at the other end of a loopback socket is found out from the kernel (`doors`); a credential
//! that is shown counts before that. What is allowed is one pure function of the core
//! (`mesita_core::acls`).

mod acls;
mod credentials;
pub(crate) mod kept;
mod proof;
mod rates;
mod realms;
pub(crate) mod tokens;
mod view;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::PathBuf;

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
use kept::Kept;
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

impl Asks {
    fn any(self) -> bool {
        self.readonly || self.readwrite || self.frameworks || self.agents
    }
}

/// Names of principals that are no more which are remembered.
const GONE_MAX: usize = 1_024;

/// Who may use a daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// `master` or `agent`.
    kind: &'static str,
    asks: Asks,
    credentials: Credentials,
    kept: RefCell<Kept>,
    /// Those that were kept and are no more: what they began may not go on.
    gone: RefCell<BTreeSet<String>>,
    rules: Rules,
    /// How fast frameworks may call.
    pub(crate) rates: Rates,
    /// Requests and connections without a credential that they needed.
    refused: Cell<u64>,
}

impl Access {
    /// Reads what the operator wrote. `flag` is the flag of the credentials.
    pub(crate) fn read(kind: &'static str, flag: &str, wanted: &Wanted) -> Result<Self, String> {
        let credentials = wanted.credentials.as_deref().map(Credentials::read).transpose();
        let credentials = credentials.map_err(|bad| format!("{flag}: {bad}"))?.unwrap_or_default();
        if wanted.asks.any() && credentials.is_empty() {
            return Err(format!(
                "somebody must show a credential, and none is known: give {flag} FILE, or leave out \
                 the flags --authenticate-..."
            ));
        }
        let rules = wanted.acls.as_deref().map(Rules::read).transpose();
        let rules = rules.map_err(|bad| format!("--acls: {bad}"))?.unwrap_or_default();
        let rates = wanted.rates.as_deref().map(Rates::read).transpose();
        let rates = rates.map_err(|bad| format!("--rate-limits: {bad}"))?.unwrap_or_default();
        Ok(Self { kind, asks: wanted.asks, credentials, rules, rates, ..Self::default() })
    }

    /// The principals that the masters keep are these from now on, by name and value. One whose name
    /// is in `--credentials` is the one that is there.
    pub(crate) fn keep<'v>(&self, all: impl Iterator<Item = (&'v str, &'v [u8])>) {
        let new = all.filter(|(name, _)| self.credentials.find(name).is_none());
        let known =
            new.filter_map(|(name, value)| Some((name.to_owned(), kept::known(name, value)?)));
        let before = self.kept.replace(known.collect());
        let (kept, mut gone) = (self.kept.borrow(), self.gone.borrow_mut());
        gone.extend(before.into_keys());
        gone.retain(|name| !kept.contains_key(name));
        while gone.len() > GONE_MAX {
            // Its connections were cut, and nobody lets it in again.
            gone.pop_first();
        }
    }

    /// True when a principal was kept, and is no more.
    pub(crate) fn is_gone(&self, principal: &str) -> bool {
        self.gone.borrow().contains(principal)
    }

    /// True when a principal is in the file of `--credentials`.
    pub(crate) fn has_in_file(&self, principal: &str) -> bool {
        self.credentials.find(principal).is_some()
    }

    /// True when everybody who reaches the daemon must show a credential, but for what all may know.
    pub(crate) fn is_closed(&self) -> bool {
        let Asks { readonly, readwrite, frameworks, agents, .. } = self.asks;
        readonly && readwrite && (self.kind == "agent" || (frameworks && agents))
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
        let kept = self.kept.borrow();
        let of_kept = |name: &str| kept.get(name).map(|principal| &principal.credential);
        let find = |name: &str| self.credentials.find(name).or_else(|| of_kept(name));
        let all =
            self.credentials.all().chain(kept.values().map(|principal| &principal.credential));
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
        !self.credentials.is_empty() || !self.kept.borrow().is_empty()
    }

    /// Who proves to be a principal; none: nobody known, or no proof.
    pub(crate) fn prover(&self, shown: &Shown<'_>) -> Option<Caller> {
        let kept = self.kept.borrow();
        let of_kept = || kept.get(shown.principal).map(|principal| &principal.credential);
        let credential = self.credentials.find(shown.principal).or_else(of_kept);
        proves(credential, shown).then(|| self.caller(shown.principal))
    }

    /// Somebody was turned away who had no credential.
    pub(crate) fn count_refused(&self) {
        self.refused.set(self.refused.get() + 1);
    }

    /// A principal as a caller. What it may do, the rules say; tasks of root only if one of them
    /// does, whatever their default.
    fn caller(&self, principal: &str) -> Caller {
        let root = self.rules.decided(Action::RunTask, Some(principal), Some("root"));
        let kept = self.kept.borrow();
        let (rights, may_be_root) = match kept.get(principal) {
            Some(kept) => (kept.rights(), root.unwrap_or_else(|| kept.may_be_root())),
            None => (Rights::OPERATE, root == Some(true)),
        };
        let any_user = if may_be_root { Rights::ANY_USER } else { Rights::NONE };
        Caller::new(format!("{PRINCIPAL}{principal}"), rights.and(any_user))
    }

    /// True when a caller may bring agents: a node that has joined, who operates the cluster, and who
    /// is kept for that.
    pub(crate) fn may_bring_agents(&self, caller: &Caller) -> bool {
        let kept = self.kept.borrow();
        match caller.principal().and_then(|principal| kept.get(principal)) {
            Some(_) => self.may(caller, Action::RegisterAgent, None),
            None => caller.is_node() || caller.rights.has(Rights::OPERATE),
        }
    }

    /// True when a caller may do something to an object. See
    /// [`Acls::allow`](mesita_core::acls::Acls::allow).
    pub(crate) fn may(&self, caller: &Caller, action: Action, object: Option<&str>) -> bool {
        self.allows(caller.principal(), action, object)
    }

    /// The same for a principal, or nobody known.
    pub(crate) fn allows(
        &self,
        principal: Option<&str>,
        action: Action,
        object: Option<&str>,
    ) -> bool {
        let kept = self.kept.borrow();
        match principal.and_then(|principal| kept.get(principal)) {
            Some(kept) => {
                let decided = self.rules.decided(action, principal, object);
                decided.unwrap_or_else(|| kept.may(action, object))
            }
            None if principal.is_some_and(|principal| self.is_gone(principal)) => false,
            None => self.rules.allow(action, principal, object),
        }
    }

    /// True when nobody is denied anything by these actions.
    pub(crate) fn is_open(&self, actions: &[Action]) -> bool {
        self.kept.borrow().is_empty() && actions.iter().all(|action| self.rules.is_open(*action))
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
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 6] {
        [
            ("principals", self.kept.borrow().len() as u64),
            ("credentials", self.credentials.len() as u64),
            ("credentials_max", credentials::CREDENTIALS_MAX as u64),
            ("acl_rules", self.rules.len() as u64),
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
