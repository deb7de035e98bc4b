//! An agent's machine: its disk, and a kernel whose processes end as the seed decides.

use super::*;

impl Cluster {
    pub(super) fn agent_output(&mut self, agent: usize, output: &[u8], bodies: &[BodyRef]) {
        let at = Node::Agent(agent);
        match read::<agent::Output<'_>>(output) {
            agent::Output::Send { conn, head } => self.send(at, conn, &head, bodies),
            agent::Output::Close { conn, .. } => self.close(at, conn),
            agent::Output::Persist { sequence, sync, record } => {
                record.check().unwrap();
                self.append(agent, &record, sync, bodies);
                let (delay, life) = (self.delay(), self.agents[agent].life);
                self.at(delay, Happening::Persisted { at, life, sequence });
            }
            agent::Output::Hand(hand) => self.hand(agent, hand),
            agent::Output::Session { .. }
            | agent::Output::Identity { .. }
            | agent::Output::KeepBody(_)
            | agent::Output::DropBody(_)
            | agent::Output::Resources { .. }
            | agent::Output::Left => {}
        }
    }

    /// The disk thread: appends, and begins a new file at a snapshot.
    pub(super) fn append(
        &mut self,
        agent: usize,
        record: &Record<'_>,
        sync: bool,
        bodies: &[BodyRef],
    ) {
        let node = &mut self.agents[agent];
        node.file.push((bytes_of(record), bodies.to_vec()));
        if matches!(record, Record::SnapshotEnds) {
            let begins = bytes_of(&Record::SnapshotBegins);
            let start = node.file.iter().rposition(|(bytes, _)| *bytes == begins).unwrap();
            node.file.drain(..start);
            node.synced = 0;
        }
        if sync {
            node.synced = node.file.len();
        }
    }

    pub(super) fn hand(&mut self, agent: usize, hand: Hand<'_>) {
        match hand {
            Hand::Launch(launch) => {
                let name = format!("{:?}/{}/{}", launch.framework, launch.task, launch.attempt);
                let launches = self.launched.entry(name.clone()).or_default();
                *launches += 1;
                assert_eq!(*launches, 1, "{name} was launched twice");
                assert!(self.running.insert(name, agent).is_none());
                let container = launch.container;
                self.grouped += u64::from(launch.inside.is_some());
                self.agents[agent].containers.insert(container, None);
                let delay = self.delay();
                self.at(delay, Happening::Started { agent, container });
                if self.chance(300) {
                    let after = u64::from(self.rng.below(3_000)) * MILLI;
                    let (healthy, kill) = (self.chance(500), self.chance(300));
                    let looked = Happening::Looked { agent, container, healthy, kill };
                    self.at(after, looked);
                }
                let lasts = SECOND / 10 + u64::from(self.rng.below(20_000)) * MILLI;
                let exit = match self.rng.below(4) {
                    0 => Exit::Code(1),
                    1 => Exit::Signal(9),
                    _ => Exit::Code(0),
                };
                self.at(lasts, Happening::Exits { agent, container, exit });
            }
            Hand::Signal { container, signal } => {
                let (delay, stubborn) = (self.delay(), self.chance(100));
                if !stubborn {
                    let exit = Exit::Signal(signal);
                    self.at(delay, Happening::Exits { agent, container, exit });
                }
            }
            Hand::Destroy { container } => {
                let delay = self.delay();
                self.at(delay, Happening::Exits { agent, container, exit: Exit::Signal(9) });
            }
            // Its hands are faster here than any kill.
            Hand::Abandon { .. } => {}
            Hand::Volumes { .. } => {}
            Hand::Forget { container } => {
                self.agents[agent].containers.remove(&container);
            }
            Hand::Keep { containers } => {
                let kept: BTreeSet<_> = containers.iter().collect();
                self.agents[agent].containers.retain(|container, _| kept.contains(container));
            }
        }
    }

    /// Tasks that run on an agent.
    pub fn running_on(&self, agent: usize) -> usize {
        self.agents[agent].containers.values().filter(|ended| ended.is_none()).count()
    }

    pub fn compact(&mut self, agent: usize) {
        self.tell_agent(agent, agent::Input::Compact);
    }

    pub fn crash_agent(&mut self, agent: usize) {
        self.crash(Node::Agent(agent));
    }

    pub fn file_len(&self, agent: usize) -> usize {
        self.agents[agent].file.len()
    }
}
