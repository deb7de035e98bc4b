//! What a master answers over HTTP.

use std::rc::Rc;

use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::MasterNode;
use crate::conn::Ends;
use crate::doors::{Caller, Denied};
use crate::http::{Answering, Gauges, Site, Visit};

impl Site for MasterNode {
    fn kind(&self) -> &'static str {
        "master"
    }

    fn caller(&self, ends: &Ends) -> Result<Caller, Denied> {
        self.doors.caller(ends)
    }

    fn health(&self) -> Value {
        let leading = self.catalog.borrow().now.leading;
        json!({
            "healthy": true,
            "leading": leading.is_some(),
            "cluster": leading.map(|(cluster, _)| format!("{cluster:016x}")),
            "epoch": leading.map(|(_, fence)| fence.epoch),
            "trouble": self.doors.trouble(),
        })
    }

    fn gauges(&self) -> Gauges<'_> {
        Box::pin(async {
            let core = self.port.gauges().await;
            let mut own = self.conns.gauges().to_vec();
            own.extend(self.port.bodies.borrow().gauges());
            own.extend(self.catalog.borrow().gauges());
            own.extend(self.schedulers.gauges());
            own.push(("backlog_bytes", self.port.backlog_bytes() as u64));
            let waiting = self.conns.all().iter().map(|conn| conn.outbox.bytes() as u64).sum();
            own.push(("outbox_bytes", waiting));
            (core, own)
        })
    }

    fn visit(self: Rc<Self>, visit: Visit) -> Result<Answering, Box<Visit>> {
        // libprocess serves everything under the name of its process, too.
        let path = visit.request.uri().path();
        match path.strip_prefix("/master").unwrap_or(path) {
            "/api/v1/scheduler" => Ok(Box::pin(self.scheduler(visit))),
            _ => Err(Box::new(visit)),
        }
    }

    fn outcast(self: Rc<Self>, _: Request<Incoming>, _: Denied) -> Option<Answering> {
        None
    }
}
