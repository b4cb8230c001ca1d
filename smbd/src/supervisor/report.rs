//! The status report: who is asked, and what the supervisor knows itself.

use std::collections::BTreeSet;
use std::time::Instant;

use proto::control::broker::SupervisorToBroker;
use proto::control::child::ToChild;
use proto::control::gateway::ToGateway;
use proto::control::status::{ChildReport, GatewayReport, StatusReport};

use super::Supervisor;
use super::status::Asked;

impl Supervisor {
    pub(super) fn on_status(&mut self) {
        let now = Instant::now();
        while let Some(query) = self.status.accept(now) {
            let mut asked = BTreeSet::new();
            let mut reports = Vec::new();
            for (child, record) in self.children.all() {
                let Some(pid) = record.pid else {
                    continue;
                };
                reports.push(ChildReport {
                    child: child.0,
                    pid,
                    status: None,
                });
                if record.linked {
                    record.link.send(&ToChild::QueryStatus { query });
                    self.unsent.insert(child);
                    asked.insert(child);
                }
            }
            if let Some(link) = self.gateway.link() {
                link.send(&ToGateway::QueryStatus { query });
            }
            if let Some(link) = self.broker.link() {
                link.send(&SupervisorToBroker::QueryStatus { query });
            }
            let report = StatusReport {
                supervisor: i32::try_from(std::process::id()).unwrap_or_default(),
                zygote: self.zygote.pid,
                broker: self.broker.pid,
                brokered: None,
                listening: self.listeners.values().map(|found| found.address).collect(),
                interfaces: self.offered.clone(),
                children: reports,
                settings: self.config.rdma_summary(),
                gateway: self.gateway.pid.map(|pid| GatewayReport {
                    pid,
                    interfaces: self.rdma.clone(),
                    ..GatewayReport::default()
                }),
            };
            let asked = Asked {
                children: asked,
                gateway: self.gateway.is_linked(),
                broker: self.broker.is_linked(),
            };
            self.status.expect(query, report, asked, now);
        }
    }
}
