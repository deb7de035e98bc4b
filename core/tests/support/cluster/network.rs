//! Connections: dialled, used in order, cut at either end.

use super::*;

impl Cluster {
    /// Breaks a connection: each end that lives hears of it, in its own time.
    pub(super) fn cut(&mut self, number: u64, dead: Option<Node>) {
        let Some(link) = self.links.get(&number).copied() else { return };
        for (end, (node, _)) in link.ends.into_iter().enumerate() {
            if link.open[end] && Some(node) != dead {
                let delay = self.delay();
                self.at(delay, Happening::Closed { at: node, link: number });
            }
        }
        if let Some(dead) = dead {
            let link = self.links.get_mut(&number).unwrap();
            for end in 0..2 {
                if link.ends[end].0 == dead {
                    link.open[end] = false;
                }
            }
        }
    }

    pub(super) fn send(&mut self, from: Node, conn: Id, head: &Head<'_>, bodies: &[BodyRef]) {
        head.check().unwrap();
        if std::env::var_os("TRACE").is_some() {
            eprintln!("{:?} {from:?} {conn:?}: {}", self.now, super::super::show::head(head));
        }
        let found = self.links.iter().find(|(_, link)| link.ends.contains(&(from, conn)));
        let Some((number, link)) = found.map(|(number, link)| (*number, *link)) else { return };
        let to = link.ends[usize::from(link.ends[0].0 == from)].0;
        let delay = self.delay();
        // In order: never before what was sent earlier on the same connection.
        let last = self.queue.iter().rev().find_map(|((time, _), what)| match what {
            Happening::Deliver { to: other, link, .. } if *link == number && *other == to => {
                Some(*time)
            }
            _ => None,
        });
        let after = delay.max(last.map_or(0, |last| last.since(self.now)));
        let head = bytes_of(head);
        self.at(after, Happening::Deliver { to, link: number, head, bodies: bodies.to_vec() });
    }

    pub(super) fn close(&mut self, from: Node, conn: Id) {
        let found = self.links.iter().find(|(_, link)| link.ends.contains(&(from, conn)));
        if let Some(number) = found.map(|(number, _)| *number) {
            self.cut(number, None);
        }
    }

    pub(super) fn dial(&mut self, who: Node) {
        let (alive, linked) = match who {
            Node::Agent(agent) => {
                let node = &self.agents[agent];
                (node.drive.is_some(), node.link.is_some())
            }
            Node::Framework(framework) => {
                let node = &self.frameworks[framework];
                (node.drive.is_some() && !node.over, node.link.is_some())
            }
            Node::Master => return,
        };
        if !alive || linked {
            return;
        }
        if self.master.is_none() {
            let again = SECOND / 5 + self.delay() * 10;
            self.at(again, Happening::Dial { who });
            return;
        }
        let number = self.next_link;
        self.next_link += 1;
        let slot = self.free_slot();
        let conn = Id { index: slot, generation: number as u32 };
        let theirs = Id { index: 0, generation: number as u32 };
        let ends = [(Node::Master, conn), (who, theirs)];
        let now = self.now;
        self.links.insert(number, Link { ends, open: [true, true], last_ping: now });
        match who {
            Node::Agent(agent) => {
                self.agents[agent].link = Some(number);
                let opened = master::Input::Opened {
                    conn,
                    role: Role::Agent,
                    version: 3,
                    caller: 0,
                    head_max: 8_192,
                };
                self.tell_master(opened);
                self.tell_agent(
                    agent,
                    agent::Input::Opened { conn: theirs, role: Role::Master, head_max: 8_192 },
                );
            }
            Node::Framework(framework) => {
                self.frameworks[framework].link = Some(number);
                let role = Role::Framework;
                let opened =
                    master::Input::Opened { conn, role, version: 3, caller: 0, head_max: 8_192 };
                self.tell_master(opened);
                self.tell_framework(framework, scheduler::Input::Connected);
            }
            Node::Master => {}
        }
    }

    /// A slot that no connection of the master's has now.
    pub(super) fn free_slot(&self) -> u32 {
        let used: BTreeSet<_> = self
            .links
            .values()
            .filter(|link| link.open[0])
            .map(|link| link.ends[0].1.index)
            .collect();
        (0..).find(|slot| !used.contains(slot)).unwrap()
    }

    pub(super) fn deliver(&mut self, to: Node, number: u64, head: &[u8], bodies: &[BodyRef]) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let end = usize::from(link.ends[0].0 != to);
        if !link.open[end] {
            return;
        }
        link.last_ping = self.now;
        let conn = link.ends[end].1;
        let mut memory = [0; 4096];
        let bodies = list_of(bodies, &mut memory);
        match to {
            Node::Master => {
                let verdicts = Seq::EMPTY;
                self.tell_master(master::Input::Frame { conn, head, bodies, verdicts });
            }
            Node::Agent(agent) => {
                self.tell_agent(agent, agent::Input::Frame { conn, head, bodies });
            }
            Node::Framework(framework) => {
                self.tell_framework(framework, scheduler::Input::Frame { head, bodies });
            }
        }
    }

    pub(super) fn closed(&mut self, at: Node, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let end = usize::from(link.ends[0].0 != at);
        if !std::mem::take(&mut link.open[end]) {
            return;
        }
        let (conn, since) = (link.ends[end].1, link.last_ping);
        if link.open == [false, false] {
            self.links.remove(&number);
        }
        let again = SECOND / 10 + self.delay() * 10;
        match at {
            Node::Master => self.tell_master(master::Input::Closed { conn, since }),
            Node::Agent(agent) => {
                if self.agents[agent].link == Some(number) {
                    self.agents[agent].link = None;
                    self.at(again, Happening::Dial { who: at });
                }
                self.tell_agent(agent, agent::Input::Closed { conn });
            }
            Node::Framework(framework) => {
                let node = &mut self.frameworks[framework];
                if node.link == Some(number) {
                    node.link = None;
                    node.offers.clear();
                    self.at(again, Happening::Dial { who: at });
                }
                self.tell_framework(framework, scheduler::Input::Disconnected);
            }
        }
    }
}
