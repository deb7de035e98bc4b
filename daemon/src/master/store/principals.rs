//! Principals that the masters keep: values of the store under an owner of their own, whose secrets
//! are told to nobody.

use std::collections::BTreeSet;
use std::rc::Rc;

use mesita_core::acls::Action;
use mesita_core::doors::{PRINCIPAL, Rights};
use mesita_core::wire::link::Parting;
use mesita_core::wire::svc::{CloseReason, Keep};
use serde_json::{Value, json};

use super::{MasterNode, No};
use crate::access::kept::Terms;
use crate::access::{denied, kept};
use crate::alarm;
use crate::conn::Conn;
use crate::conn::talk::LAST_WORDS_US;
use crate::doors::Caller;
use crate::set::cells::Stored;

impl MasterNode {
    /// Who operates the cluster says who may use it.
    pub(super) fn may_change_principals(&self, caller: &Caller) -> Result<(), No> {
        let action = Action::ChangePrincipals;
        if !caller.rights.has(Rights::OPERATE) {
            let why = "only who operates the cluster says who may use it";
            return Err((CloseReason::Denied, why.to_owned()));
        }
        if self.options.access.may(caller, action, None) {
            return Ok(());
        }
        Err((CloseReason::Denied, denied(caller, action, None)))
    }

    /// Refuses what is no principal, to tell a secret, and to hand on what a caller does not have.
    pub(super) fn judge_principal(
        &self,
        caller: &Caller,
        name: &str,
        verb: Keep<'_>,
    ) -> Result<(), No> {
        let no = |why: String| Err((CloseReason::Failed, why));
        match verb {
            Keep::Put { .. } if self.options.access.has_in_file(name) => {
                no(format!("`{name}` is in the file of --credentials: change it there"))
            }
            // What is kept goes by the core, whose inputs are all in there.
            Keep::Put { .. } if self.options.flags.contains_key("journal") => {
                no("this master writes a --journal, and secrets never enter it: use --credentials, or \
                    start the masters without"
                    .to_owned())
            }
            Keep::Put { value, .. } => match kept::read(name, value) {
                Ok(terms) if terms.has_root() && !caller.rights.has(Rights::ANY_USER) => {
                    let why = "who may not run tasks as root hands that on to nobody: root on the \
                               master's machine may, and principals that `run_tasks` of --acls names";
                    Err((CloseReason::Denied, why.to_owned()))
                }
                Ok(terms) => terms.check().or_else(no).and_then(|()| self.judge_users(caller, &terms)),
                Err(why) => no(why),
            },
            Keep::Get => no("secrets are not told".to_owned()),
            Keep::Remove { .. } | Keep::List => Ok(()),
        }
    }

    /// Who may run tasks as some users alone hands on no others.
    fn judge_users(&self, caller: &Caller, terms: &Terms) -> Result<(), No> {
        let may = |user: Option<&str>| {
            let may = self.options.access.may(caller, Action::RunTask, user);
            may || caller.rights.has(Rights::ANY_USER)
        };
        let denied = |why: String| Err((CloseReason::Denied, why));
        match terms.users.iter().find(|user| !may(Some(user))) {
            Some(user) => {
                denied(format!("who may not run tasks as `{user}` hands that on to nobody"))
            }
            None if terms.users.is_empty() && !may(None) => denied(
                "who may run tasks as some users alone hands on no more than those: name them by --user"
                    .to_owned(),
            ),
            None => Ok(()),
        }
    }

    /// Those that are kept now count, and those that are not what they were have no connection.
    pub(crate) fn principals_changed(&self) {
        let changed = {
            let store = self.store.borrow();
            let all = store.of(kept::OWNER).map(|stored| (&*stored.key, &*stored.value));
            self.options.access.keep(all)
        };
        self.end_those_of(&changed);
    }

    /// Reads `--credentials`, `--acls` and `--rate-limits` again: as above.
    pub(crate) fn read_access_again(&self) {
        let (changed, troubles) = self.options.access.read_again();
        troubles.iter().for_each(|why| log::error!("{why}"));
        self.end_those_of(&changed);
        // One that the file has no more may be kept, and the reverse.
        self.principals_changed();
        for name in changed {
            log::info!("`{name}` is another, may do other things, or is no more: it is cut off");
        }
        self.options.access.trouble().iter().for_each(|trouble| log::warn!("{trouble}"));
    }

    /// Says why to who is not let in any more, hears nothing more of it, and waits for it no longer than a
    /// second.
    pub(crate) fn end_now(&self, conn: &Rc<Conn>, why: &str) {
        conn.denied.set(true);
        conn.part(Parting::Denied, why);
        let conn = Rc::clone(conn);
        self.tasks.go(async move {
            alarm::after(LAST_WORDS_US).await;
            conn.outbox.cut();
        });
    }

    /// Ends what these principals have begun.
    fn end_those_of(&self, changed: &BTreeSet<String>) {
        let access = &self.options.access;
        let is_theirs = |caller: &str| {
            let principal = caller.strip_prefix(PRINCIPAL);
            principal.is_some_and(|one| changed.contains(one) || access.is_gone(one))
        };
        for conn in self.conns.all() {
            let proven = conn.proven.borrow().as_ref().is_some_and(|one| is_theirs(&one.name));
            if proven || is_theirs(&conn.caller.name) {
                self.end_now(&conn, "this principal is no more, or is another by now");
            }
        }
        access.end(|principal| changed.contains(principal) || access.is_gone(principal));
        self.schedulers.end_those_of(is_theirs);
        self.subscribers.end_those_of(is_theirs);
    }
}

/// A line of a list.
pub(super) fn told(stored: &Stored) -> Value {
    let terms = kept::told(&stored.key, &stored.value).unwrap_or_default();
    json!({
        "principal": stored.key,
        "roles": terms.roles,
        "users": terms.users,
        "operate": terms.operate,
        "agent": terms.agent,
    })
}
