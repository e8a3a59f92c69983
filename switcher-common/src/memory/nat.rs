//! Masqueraded flows in ordinary memory.

use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::Memory;
use crate::abi::FlowKey;
use crate::abi::nat::{Activity, NatClient, NatFlow, NatPort, NatSource};
use crate::nat::{Found, NatTables, Taken};

/// The maps of `forward = "masquerade"`.
#[derive(Clone, Debug, Default)]
pub struct Nat {
    /// By endpoint.
    pub sources: BTreeMap<u16, NatSource>,
    /// Flows by their client.
    pub flows: RefCell<BTreeMap<FlowKey, NatFlow>>,
    /// Who has which port.
    pub ports: RefCell<BTreeMap<NatPort, NatClient>>,
    /// Flows for which there is no room.
    pub full: bool,
    /// What another CPU remembers of a flow between the look that finds nothing and what is made of it.
    pub rival: Cell<Option<NatFlow>>,
}

impl NatTables for Memory {
    fn nat_source(&self, endpoint: u16) -> Option<&NatSource> {
        self.nat.sources.get(&endpoint)
    }

    fn nat_flow(&self, key: &FlowKey, see: impl FnOnce(&NatFlow) -> Activity) -> Found<NatFlow> {
        let mut flows = self.nat.flows.borrow_mut();
        let Some(flow) = flows.get_mut(key) else {
            return Found::default();
        };
        let entry = *flow;
        flow.client = see(&entry);
        Found {
            exists: true,
            entry,
        }
    }

    fn nat_client(
        &self,
        key: &NatPort,
        see: impl FnOnce(&NatClient) -> Activity,
    ) -> Found<NatClient> {
        let mut ports = self.nat.ports.borrow_mut();
        let Some(client) = ports.get_mut(key) else {
            return Found::default();
        };
        let entry = *client;
        client.server = see(&entry);
        Found {
            exists: true,
            entry,
        }
    }

    fn tell_nat_flow(&self, key: &FlowKey, server: Activity) {
        if let Some(flow) = self.nat.flows.borrow_mut().get_mut(key) {
            flow.server = server;
        }
    }

    fn tell_nat_client(&self, key: &NatPort, client: Activity) {
        if let Some(port) = self.nat.ports.borrow_mut().get_mut(key) {
            port.client = client;
        }
    }

    fn take_nat_port(&self, key: &NatPort, client: &NatClient) -> Taken {
        let mut ports = self.nat.ports.borrow_mut();
        if ports.contains_key(key) {
            return Taken::Already;
        }
        if self.nat.full {
            return Taken::Full;
        }
        ports.insert(*key, *client);
        Taken::Yes
    }

    fn keep_nat_port(&self, key: &NatPort, client: &NatClient) -> bool {
        let mut ports = self.nat.ports.borrow_mut();
        match ports.get_mut(key) {
            Some(holder) if holder.flow() == client.flow() => {
                *holder = *client;
                true
            }
            _ => false,
        }
    }

    fn claim_nat_port(
        &self,
        key: &NatPort,
        now: u32,
        may: impl FnOnce(&NatClient) -> bool,
    ) -> bool {
        let holder = self.nat.ports.borrow().get(key).copied();
        if !holder.is_some_and(|holder| may(&holder)) {
            return false;
        }
        let mut ports = self.nat.ports.borrow_mut();
        ports.entry(*key).and_modify(|holder| {
            holder.server = Activity::new(now, holder.server.state());
        });
        true
    }

    fn release_nat_port(&self, key: &NatPort) {
        self.nat.ports.borrow_mut().remove(key);
    }

    fn set_nat_flow(&self, key: &FlowKey, flow: &NatFlow, replace: bool) -> Taken {
        let mut flows = self.nat.flows.borrow_mut();
        if let Some(rival) = self.nat.rival.take() {
            flows.insert(*key, rival);
        }
        if !replace && flows.contains_key(key) {
            return Taken::Already;
        }
        flows.insert(*key, *flow);
        Taken::Yes
    }

    fn remove_nat_flow(&self, key: &FlowKey) {
        self.nat.flows.borrow_mut().remove(key);
    }
}
