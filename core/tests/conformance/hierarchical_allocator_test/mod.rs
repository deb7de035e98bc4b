//! `HierarchicalAllocatorTest`: who is offered what.
//!
//! One agent's resources stand as Mesos writes them; an offer is `framework/role@agent resources`.
//! Amounts follow Mesos' own tests where those give any.
//!
//! | file | concern |
//! |---|---|
//! | `shares` | who is behind, and gets what is there |
//! | `filters` | what was refused, suppressed or is too little to be offered |
//! | `reservations` | what is reserved is offered to its role and those below |
//! | `agents` | agents come, go and change; what they offer twice |
//! | `volumes` | volumes, shared ones too, and what operations change |
//! | `quota` | what roles are guaranteed and may have at most |
//! | `metrics` | what is counted |

mod agents;
mod filters;
mod metrics;
mod quota;
mod reservations;
mod shares;
mod volumes;

use crate::support::allocation::{Rig, told};

/// What the next run offers.
fn offered(rig: &mut Rig) -> Vec<String> {
    told(&rig.allocate())
}

/// Who got something in the next run, by agent.
fn winners(rig: &mut Rig) -> Vec<String> {
    rig.allocate().iter().map(|offer| format!("{}@{}", offer.framework, offer.agent)).collect()
}
