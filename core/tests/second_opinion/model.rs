//! The rules of the allocator once more, slow and plain: maps, lists, and everything computed anew
//! each time it is asked.

use std::collections::{BTreeMap, BTreeSet};

/// Thousandths of cpus, memory, disk and GPUs.
pub type Amounts = [u64; 4];
pub const GPUS: usize = 3;

/// What an agent has or somebody holds: amounts by the role they are reserved for (empty =
/// anyone's), and ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    pub amounts: BTreeMap<String, Amounts>,
    pub ports: BTreeSet<u64>,
}

impl Bundle {
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.amounts.values().all(|amounts| *amounts == [0; 4])
    }

    /// By kind, whoever it is reserved for.
    fn sums(&self) -> Amounts {
        self.amounts.values().fold([0; 4], |sum, more| plus(sum, *more))
    }

    fn open(&self) -> Amounts {
        self.amounts.get("").copied().unwrap_or_default()
    }

    fn contains(&self, other: &Self) -> bool {
        let within = |(role, amounts): (&String, &Amounts)| {
            let own = self.amounts.get(role).copied().unwrap_or_default();
            amounts.iter().zip(own).all(|(amount, own)| *amount <= own)
        };
        other.ports.is_subset(&self.ports) && other.amounts.iter().all(within)
    }

    pub fn add(&mut self, other: &Self) {
        self.ports.extend(&other.ports);
        for (role, amounts) in &other.amounts {
            let own = self.amounts.entry(role.clone()).or_default();
            *own = plus(*own, *amounts);
        }
    }

    pub fn subtract(&mut self, other: &Self) {
        self.ports.retain(|port| !other.ports.contains(port));
        for (role, amounts) in &other.amounts {
            let own = self.amounts.entry(role.clone()).or_default();
            *own = minus(*own, *amounts);
        }
        self.amounts.retain(|_, amounts| *amounts != [0; 4]);
    }
}

fn plus(a: Amounts, b: Amounts) -> Amounts {
    std::array::from_fn(|kind| a[kind] + b[kind])
}

fn minus(a: Amounts, b: Amounts) -> Amounts {
    std::array::from_fn(|kind| a[kind].checked_sub(b[kind]).expect("an amount below zero"))
}

#[derive(Clone, Debug)]
pub struct Agent {
    pub total: Bundle,
    pub free: Bundle,
    pub barred: bool,
}

#[derive(Clone, Debug)]
pub struct Client {
    pub role: String,
    pub framework: u32,
    pub suppressed: bool,
    pub away: bool,
    pub uses_gpus: bool,
    /// Alternatives, one of which must be met; none = the master's.
    pub minimum: Option<Vec<Amounts>>,
    has: Bundle,
    offers: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Quota {
    pub guarantee: Amounts,
    pub limit: [Option<u64>; 4],
}

#[derive(Clone, Debug)]
struct Filter {
    client: u32,
    agent: u32,
    refused: Bundle,
    until: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Guarantees,
    Fair,
}

/// A node of the tree: a role, the frameworks of a role itself, or one of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Role(String),
    Own(String),
    Client(u32),
}

/// Who got what of which agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub agent: u32,
    pub client: u32,
    pub what: Bundle,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub agents: BTreeMap<u32, Agent>,
    pub clients: BTreeMap<u32, Client>,
    pub weights: BTreeMap<String, u32>,
    pub quotas: BTreeMap<String, Quota>,
    filters: Vec<Filter>,
    /// How often roles were offered something, for as long as they are known.
    counts: BTreeMap<Node, u64>,
}

/// A role and all above it, the innermost first.
fn line(role: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(role), |path| path.rsplit_once('/').map(|(above, _)| above))
}

fn is_within(role: &str, above: &str) -> bool {
    above.is_empty() || line(role).any(|path| path == above)
}

fn parent(role: &str) -> &str {
    role.rsplit_once('/').map_or("", |(above, _)| above)
}

impl Model {
    // ------------------------------------------------------------------- events

    pub fn add_client(&mut self, client: u32, role: &str, framework: u32, uses_gpus: bool) {
        let new = Client {
            role: role.to_string(),
            framework,
            suppressed: false,
            away: false,
            uses_gpus,
            minimum: None,
            has: Bundle::default(),
            offers: 0,
        };
        assert!(self.clients.insert(client, new).is_none());
    }

    pub fn remove_client(&mut self, client: u32) {
        let gone = self.clients.remove(&client).unwrap();
        assert!(gone.has.is_empty());
        self.lift(client);
    }

    pub fn lift(&mut self, client: u32) {
        self.filters.retain(|filter| filter.client != client);
    }

    pub fn remove_agent(&mut self, agent: u32) {
        self.agents.remove(&agent);
        self.filters.retain(|filter| filter.agent != agent);
    }

    pub fn give_back(&mut self, agent: u32, client: u32, what: &Bundle, until: Option<u64>) {
        self.clients.get_mut(&client).unwrap().has.subtract(what);
        if let Some(until) = until.filter(|_| !what.is_empty()) {
            self.filters.push(Filter { client, agent, refused: what.clone(), until });
        }
        if let Some(agent) = self.agents.get_mut(&agent) {
            agent.free.add(what);
        }
    }

    /// What nobody knows any more is forgotten: a role that comes back begins anew.
    pub fn forget_counts(&mut self) {
        let roles = self.roles();
        let own: BTreeSet<String> = self.clients.values().map(|one| one.role.clone()).collect();
        self.counts.retain(|node, _| match node {
            Node::Role(role) => roles.contains(role),
            Node::Own(role) => own.contains(role),
            Node::Client(_) => false,
        });
    }

    /// Every role that is known.
    fn roles(&self) -> BTreeSet<String> {
        let reserved = self.agents.values().flat_map(|agent| agent.total.amounts.keys());
        let of_clients = self.clients.values().map(|client| &client.role);
        let named = self.weights.keys().chain(self.quotas.keys()).chain(reserved).chain(of_clients);
        let with_those_above = named.flat_map(|role| line(role)).map(str::to_string);
        with_those_above.filter(|role| !role.is_empty()).collect()
    }

    // ------------------------------------------------------------------- shares

    fn totals(&self) -> Amounts {
        self.agents.values().fold([0; 4], |sum, agent| plus(sum, agent.total.sums()))
    }

    fn below<'m>(&'m self, node: &'m Node) -> impl Iterator<Item = (u32, &'m Client)> + 'm {
        let of = move |(number, client): &(&u32, &Client)| match node {
            Node::Role(role) => is_within(&client.role, role),
            Node::Own(role) => client.role == *role,
            Node::Client(one) => *number == one,
        };
        self.clients.iter().filter(of).map(|(number, client)| (*number, client))
    }

    /// The largest fraction of a resource, as numerator and denominator, the weight included.
    fn share(&self, node: &Node) -> (u128, u128) {
        let has = self.below(node).fold([0; 4], |sum, (_, one)| plus(sum, one.has.sums()));
        let weight = match node {
            Node::Role(role) => self.weights.get(role).copied().unwrap_or(1_000),
            Node::Own(_) | Node::Client(_) => 1_000,
        };
        let totals = self.totals();
        let mut share = (0u128, 1u128);
        for kind in 0..4 {
            // What there is nothing of counts for nobody.
            let (amount, total) = (u128::from(has[kind]), u128::from(totals[kind]));
            if total > 0 && amount * share.1 > share.0 * total {
                share = (amount, total);
            }
        }
        (share.0, share.1 * u128::from(weight))
    }

    fn count(&self, node: &Node) -> u64 {
        match node {
            Node::Client(client) => self.clients[client].offers,
            Node::Role(_) | Node::Own(_) => self.counts.get(node).copied().unwrap_or(0),
        }
    }

    fn comes_before(&self, a: &Node, b: &Node) -> bool {
        let ((n1, d1), (n2, d2)) = (self.share(a), self.share(b));
        if n1 * d2 != n2 * d1 {
            return n1 * d2 < n2 * d1;
        }
        if self.count(a) != self.count(b) {
            return self.count(a) < self.count(b);
        }
        let last = |node: &Node| match node {
            Node::Role(role) => (role.rsplit('/').next().unwrap().to_string(), 0),
            Node::Own(_) => (".".to_string(), 0),
            Node::Client(client) => (String::new(), self.clients[client].framework),
        };
        last(a) < last(b)
    }

    // -------------------------------------------------------------------- quota

    fn consumed(&self, role: &str) -> Amounts {
        let used = self.clients.values().filter(|one| is_within(&one.role, role));
        let used = used.fold([0; 4], |sum, one| plus(sum, one.has.open()));
        let reserved = self.agents.values().flat_map(|agent| &agent.total.amounts);
        let reserved = reserved.filter(|(of, _)| !of.is_empty() && is_within(of, role));
        reserved.fold(used, |sum, (_, amounts)| plus(sum, *amounts))
    }

    fn gap(&self, role: &str) -> Amounts {
        let consumed = self.consumed(role);
        let guarantee = self.quotas.get(role).map_or([0; 4], |quota| quota.guarantee);
        std::array::from_fn(|kind| guarantee[kind].saturating_sub(consumed[kind]))
    }

    /// What the roles right below one are short of, together; of the empty one, all of them.
    fn needs_below(&self, role: &str) -> Amounts {
        let named: BTreeSet<&str> = self.quotas.keys().flat_map(|role| line(role)).collect();
        let children = named.into_iter().filter(|path| !path.is_empty() && parent(path) == role);
        children.fold([0; 4], |sum, child| plus(sum, self.need(child)))
    }

    fn need(&self, role: &str) -> Amounts {
        let (gap, below) = (self.gap(role), self.needs_below(role));
        std::array::from_fn(|kind| gap[kind].max(below[kind]))
    }

    /// What a role may have first: what any gap of its line leaves after the needs beside.
    fn entitled(&self, role: &str) -> Amounts {
        let (mut entitled, mut child) = ([0; 4], [0; 4]);
        for path in line(role) {
            let (gap, below) = (self.gap(path), self.needs_below(path));
            for kind in 0..4 {
                let beside = below[kind].saturating_sub(child[kind]);
                entitled[kind] = entitled[kind].max(gap[kind].saturating_sub(beside));
            }
            child = self.need(path);
        }
        entitled
    }

    fn slack(&self, role: &str, kind: usize) -> u64 {
        let left = line(role).filter_map(|path| {
            let limit = self.quotas.get(path)?.limit[kind]?;
            Some(limit.saturating_sub(self.consumed(path)[kind]))
        });
        left.min().unwrap_or(u64::MAX)
    }

    fn available(&self) -> Amounts {
        let active = self.agents.values().filter(|agent| !agent.barred);
        active.fold([0; 4], |sum, agent| plus(sum, agent.free.open()))
    }

    pub fn is_anybody_short(&self) -> bool {
        self.needs_below("") != [0; 4]
    }

    // -------------------------------------------------------------------- gates

    fn suffices(&self, client: &Client, amounts: Amounts) -> bool {
        match &client.minimum {
            None => amounts[0] >= 10 || amounts[1] >= 32_000,
            Some(alternatives) if alternatives.is_empty() => true,
            Some(alternatives) => alternatives
                .iter()
                .any(|least| least.iter().zip(amounts).all(|(least, amount)| *least <= amount)),
        }
    }

    /// What a client would get of an agent, if anything.
    fn portion(&self, stage: Stage, number: u32, agent_number: u32) -> Option<Bundle> {
        let (client, agent) = (&self.clients[&number], &self.agents[&agent_number]);
        let mut portion = agent.free.clone();
        portion.amounts.retain(|role, _| match stage {
            Stage::Guarantees => role.is_empty() || *role == client.role,
            Stage::Fair => is_within(&client.role, role),
        });
        if portion.is_empty() || !self.suffices(client, portion.sums()) {
            return None;
        }
        if agent.total.sums()[GPUS] > 0 && !client.uses_gpus {
            return None;
        }
        if !self.quotas.is_empty() {
            let (required, available) = (self.needs_below(""), self.available());
            let short = self.is_anybody_short();
            let entitled = match stage {
                Stage::Guarantees => self.entitled(&client.role),
                Stage::Fair => [0; 4],
            };
            let mut first_of_all = 0;
            if let Some(open) = portion.amounts.get_mut("") {
                for kind in 0..4 {
                    let slack = self.slack(&client.role, kind);
                    let first = open[kind].min(entitled[kind]).min(slack);
                    first_of_all += first;
                    let left = available[kind].saturating_sub(required[kind]);
                    let left = if short { left } else { u64::MAX };
                    let more = (open[kind] - first).min(slack - first).min(left);
                    open[kind] = first + more;
                }
            }
            portion.amounts.retain(|_, amounts| *amounts != [0; 4]);
            if stage == Stage::Guarantees && first_of_all == 0 {
                return None;
            }
            if portion.is_empty() || !self.suffices(client, portion.sums()) {
                return None;
            }
        }
        let blocks = |filter: &Filter| {
            (filter.client, filter.agent) == (number, agent_number)
                && filter.refused.contains(&portion)
        };
        if self.filters.iter().any(blocks) { None } else { Some(portion) }
    }

    // ------------------------------------------------------------------- rounds

    /// Filters that are over go.
    pub fn expire(&mut self, now: u64) {
        self.filters.retain(|filter| filter.until > now);
    }

    /// One stage over agents in this order.
    pub fn serve(&mut self, stage: Stage, agents: &[u32]) -> Vec<Given> {
        let mut all = vec![];
        for agent in agents {
            let mut passed = BTreeSet::new();
            while !self.agents[agent].free.is_empty()
                && let Some(client) = self.first(stage, &mut passed)
            {
                passed.insert(Node::Client(client));
                if let Some(what) = self.portion(stage, client, *agent) {
                    self.grant(*agent, client, &what);
                    all.push(Given { agent: *agent, client, what });
                }
            }
        }
        all
    }

    /// True when somebody would be given something that nobody was asked about.
    pub fn find_forgotten(&self) -> Option<(u32, u32)> {
        for (number, client) in &self.clients {
            if client.suppressed || client.away {
                continue;
            }
            let open = self.agents.iter().find(|(agent_number, agent)| {
                let asked = |stage| self.portion(stage, *number, **agent_number).is_some();
                !agent.barred && !agent.free.is_empty() && asked(Stage::Fair)
            });
            if let Some((agent, _)) = open {
                return Some((*number, *agent));
            }
        }
        None
    }

    fn grant(&mut self, agent: u32, client: u32, what: &Bundle) {
        self.agents.get_mut(&agent).unwrap().free.subtract(what);
        let row = self.clients.get_mut(&client).unwrap();
        row.has.add(what);
        row.offers += 1;
        let role = row.role.clone();
        *self.counts.entry(Node::Own(role.clone())).or_default() += 1;
        for path in line(&role) {
            *self.counts.entry(Node::Role(path.to_string())).or_default() += 1;
        }
    }

    /// Whose turn it is: the first child of the first child … of the root. In the first stage only
    /// roles in need, until one whose own gap is more than the needs below.
    fn first(&self, stage: Stage, passed: &mut BTreeSet<Node>) -> Option<u32> {
        'again: loop {
            let mut at: Option<Node> = None;
            let mut all = stage == Stage::Fair;
            loop {
                let role = match &at {
                    Some(Node::Client(client)) => return Some(*client),
                    Some(Node::Role(role)) => role.as_str(),
                    Some(Node::Own(_)) | None => "",
                };
                if !role.is_empty() {
                    let (gap, below) = (self.gap(role), self.needs_below(role));
                    all = all || (0..4).any(|kind| gap[kind] > below[kind]);
                }
                let mut next: Option<Node> = None;
                for child in self.children(at.as_ref()) {
                    let needy = matches!(&child, Node::Role(role) if self.need(role) != [0; 4]);
                    let counts = (all || needy) && !passed.contains(&child);
                    if counts && next.as_ref().is_none_or(|best| self.comes_before(&child, best)) {
                        next = Some(child);
                    }
                }
                match (next, at) {
                    (Some(next), _) => at = Some(next),
                    (None, None) => return None,
                    (None, Some(node)) => {
                        passed.insert(node);
                        continue 'again;
                    }
                }
            }
        }
    }

    /// What is right below a node and has somebody who wants offers.
    fn children(&self, at: Option<&Node>) -> BTreeSet<Node> {
        let wanting = self.clients.iter().filter(|(_, one)| !one.suppressed && !one.away);
        let above = match at {
            None => "",
            Some(Node::Role(role)) => role,
            Some(Node::Own(role)) => {
                let own = wanting.filter(|(_, one)| one.role == *role);
                return own.map(|(number, _)| Node::Client(*number)).collect();
            }
            Some(Node::Client(_)) => return BTreeSet::new(),
        };
        let child = |role: &str| {
            if role == above {
                return Some(Node::Own(role.to_string()));
            }
            let child = line(role).find(|path| parent(path) == above)?;
            Some(Node::Role(child.to_string()))
        };
        wanting.filter_map(|(_, one)| child(&one.role)).collect()
    }
}
