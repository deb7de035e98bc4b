//! Whether a launch may still begin: looked at when it is about to, however long its image took.
//!
//! A master that has heard nothing for A gives an agent up, and what ran there is started elsewhere.
//! So what it ordered begins only while its session is fresh: for 0.75 A from when the newest question
//! was asked that it answered. When that is over, what has not begun waits for the next session, whose
//! verdicts say whether it is to. What starts again by its own rule asks nobody.

use mesita_core::time::Time;
use mesita_core::wire::Session;
use mesita_isolation::keeper::protocol::Request;

use super::AgentNode;
use super::containers::Container;
use crate::clock;
use crate::conn::Ends;
use crate::machines::fresh::fresh_until;

/// What a keeper says of a launch whose time is over.
pub(super) const TOO_LATE: &str = mesita_isolation::keeper::protocol::Step::Late.sentence();

/// True for a launch that begins by its own rule and asks nobody.
pub(super) fn is_alone(request: &mut Request) -> bool {
    request.launch_mut().is_none_or(|launch| launch.attempt > 0)
}

impl AgentNode {
    /// The master has answered what it was asked then.
    pub(super) fn answered(&self, asked: Time) {
        self.contact.set(asked);
        self.session_changed.notify(usize::MAX);
    }

    /// The master is in this process, asks for no sign of life, and ends with it.
    fn has_master_inside(&self) -> bool {
        let conn = self.master.get().and_then(|id| self.conns.get(id));
        conn.is_some_and(|conn| conn.ends == Ends::Memory)
    }

    /// The session, and until when what it ordered may begin, in µs since the machine's boot; 0 = there
    /// is no such time. None: there is no session, or nobody has answered for too long.
    fn word(&self) -> Option<(Session, u64)> {
        let conn = self.master.get().and_then(|id| self.conns.get(id))?;
        let (session, timeout_us) = (conn.session.get(), self.timeout_us.get());
        if timeout_us == 0 || session == Session::default() {
            return None;
        }
        if self.has_master_inside() {
            return Some((session, 0));
        }
        let until = fresh_until(session, self.contact.get(), timeout_us, clock::now())?;
        Some((session, until.0))
    }

    /// Waits until a launch may begin, and names the session in which it does, and until when it may.
    pub(super) async fn in_session(
        &self,
        container: &Container,
        request: &mut Request,
    ) -> Result<(), String> {
        let Some(launch) = request.launch_mut() else { return Ok(()) };
        let (session, deadline_us) = self.may_begin(container, launch.attempt).await?;
        launch.session = session.max(launch.session);
        launch.deadline_us = deadline_us;
        if self.has_master_inside() {
            launch.stop_after_us = 0;
        }
        let (session, contact_us) = (launch.session, self.contact.get().0);
        if launch.stop_after_us > 0 && contact_us > 0 {
            self.keeper.send(&Request::Renew { session, contact_us });
        }
        Ok(())
    }

    /// Waits until something may begin, for that start of it: the first one needs a session. Returns
    /// that, and until when it may, as in [`Self::word`].
    pub(super) async fn may_begin(
        &self,
        container: &Container,
        attempt: u32,
    ) -> Result<(Session, u64), String> {
        let mut waits = false;
        loop {
            let changed = self.session_changed.listen();
            let over = container.changed.listen();
            if container.abandoned.get() || container.is_over() {
                return Err("killed before it was started".to_owned());
            }
            if attempt > 0 {
                return Ok((self.inners.session.get(), 0));
            }
            if let Some(word) = self.word() {
                return Ok(word);
            }
            if !std::mem::replace(&mut waits, true) {
                log::info!("a launch that is ready waits for a master that answers");
            }
            futures_lite::future::or(changed, over).await;
        }
    }
}
