//! Names become numbers, and endpoints what a table should hold.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use switcher_common::abi::{AddressKey, Endpoint, Tunnel, endpoint_flags, service_flags};

use super::number::{endpoint_key, split};
use super::{Planner, Refusal, Standing, WantCanary, WantEndpoint, WantGroup, WantService};
use crate::datapath::{Buckets, Canary, Change, Colour, GroupIndex, Mix, Slot};
use crate::maglev::Share;

/// A group whose names all have numbers.
pub(super) struct Draft {
    pub(super) index: GroupIndex,
    pub(super) name: String,
    pub(super) initial: Colour,
    pub(super) colours: BTreeMap<Colour, String>,
    pub(super) services: Vec<DraftService>,
    /// What there are to be tables of: each colour, and the canary's share in the live one's.
    pub(super) mixes: Vec<Mix>,
    /// Where these tables are or will be.
    pub(super) targets: BTreeMap<Mix, Slot>,
}

/// A service whose endpoints all have ids.
pub(super) struct DraftService {
    pub(super) index: u16,
    pub(super) name: String,
    pub(super) want: WantService,
    pub(super) preview: Option<(u16, SocketAddr)>,
    /// By colour: who takes part, and what health checks say of them.
    pub(super) shares: BTreeMap<Colour, Vec<(Share, Standing)>>,
    /// What tables should hold.
    pub(super) tables: BTreeMap<Mix, Buckets>,
    /// Keys of its endpoints.
    pub(super) keys: BTreeMap<AddressKey, u16>,
    /// Its endpoints that answer clients directly. They have no keys: one may serve several VIPs.
    pub(super) direct: Vec<u16>,
}

impl Planner {
    /// Numbers everything of a group, and writes its endpoints.
    pub(super) fn draft(&mut self, name: &str, want: &WantGroup) -> Result<Draft, Refusal> {
        let found = self.find_group(name);
        let colours = self.number_colours(found, want)?;
        let mut initial = colours.iter().filter(|(_, n)| **n == want.initial);
        let initial = initial.next().map(|(number, _)| *number);
        let initial = initial.ok_or_else(|| Refusal::Initial {
            group: name.into(),
            colour: want.initial.clone(),
        })?;
        let index = match found {
            Some(index) => index,
            None => {
                self.say(format!("group {name}: add, with {} live", want.initial));
                self.new_group()?
            }
        };
        let mut mixes: Vec<Mix> = colours.keys().copied().map(Mix::pure).collect();
        mixes.extend(self.canary(index, want, &colours));
        let mut services = Vec::new();
        for (service, want) in &want.services {
            let mut service = self.draft_service(index, name, service, want, &colours)?;
            self.draft_tables(index, &mut service, &mixes);
            services.push(service);
        }
        Ok(Draft {
            index,
            name: name.into(),
            initial,
            colours,
            services,
            mixes,
            targets: BTreeMap::new(),
        })
    }

    /// The mix that the live colour's new flows are to be dealt out by.
    fn canary(
        &self,
        group: GroupIndex,
        want: &WantGroup,
        colours: &BTreeMap<Colour, String>,
    ) -> Option<Mix> {
        let WantCanary { colour, percent } = want.canary.as_ref()?;
        let live = self.have().groups.get(&group)?.live()?;
        let mut others = colours.iter().filter(|(number, _)| **number != live);
        let (number, _) = others.find(|(_, name)| *name == colour)?;
        let canary = Some(Canary {
            colour: *number,
            percent: *percent,
        });
        Some(Mix {
            colour: live,
            canary,
        })
    }

    fn draft_service(
        &mut self,
        group: GroupIndex,
        group_name: &str,
        name: &str,
        want: &WantService,
        colours: &BTreeMap<Colour, String>,
    ) -> Result<DraftService, Refusal> {
        let index = self.number_service(group, name, want.vip, want, None)?;
        self.services.insert(index);
        let preview = match want.preview {
            Some(address) => {
                let preview = self.number_service(group, name, address, want, Some(index))?;
                self.services.insert(preview);
                Some((preview, address))
            }
            None => None,
        };
        let mut service = DraftService {
            index,
            name: name.into(),
            want: want.clone(),
            preview,
            shares: BTreeMap::new(),
            tables: BTreeMap::new(),
            keys: BTreeMap::new(),
            direct: Vec::new(),
        };
        for (number, colour) in colours {
            let endpoints = want.endpoints.get(colour).map_or(&[][..], Vec::as_slice);
            let path = format!("{group_name}/{name}");
            let shares = self.endpoints_of(&mut service, *number, (&path, colour), endpoints)?;
            service.shares.insert(*number, shares);
        }
        Ok(service)
    }

    /// Where outer headers come from. What nobody can tell stays as it was.
    fn set_tunnel(&mut self, id: u16, tunnel: Tunnel) {
        let known = self.have().tunnels.get(&id).copied();
        if known.unwrap_or_default() != tunnel {
            self.emit(Change::SetTunnel { id, tunnel });
        }
    }

    /// Numbers and writes the endpoints of one colour.
    fn endpoints_of(
        &mut self,
        service: &mut DraftService,
        colour: Colour,
        (path, colour_name): (&str, &str),
        wanted: &[WantEndpoint],
    ) -> Result<Vec<(Share, Standing)>, Refusal> {
        let mut shares = Vec::new();
        let mut counter = None;
        for want in wanted {
            let id = self.number_endpoint(service.index, colour, want.address)?;
            let known = self.have().endpoints.get(&id).copied();
            let (address, port) = split(want.address);
            let cell = match counter {
                Some(cell) => cell,
                None => self.number_counter(service.index, colour)?,
            };
            counter = Some(cell);
            let endpoint = Endpoint {
                address,
                port,
                protocol: service.want.protocol,
                flags: want.flags,
                service: service.index,
                colour,
                reserved: 0,
                counter: cell,
                noted: known.map_or(0, |known| known.noted),
            };
            let goes_inside = endpoint.has(endpoint_flags::TUNNEL);
            if goes_inside && want.tunnel.is_known() {
                self.set_tunnel(id, want.tunnel);
            }
            if known != Some(endpoint) {
                let verb = if known.is_some() { "change" } else { "add" };
                let address = want.address;
                self.say(format!(
                    "service {path}: {verb} {colour_name} endpoint {address}"
                ));
                self.emit(Change::SetEndpoint { id, endpoint });
            }
            if !goes_inside {
                self.set_tunnel(id, Tunnel::default());
            }
            self.endpoints.insert(id);
            let key = endpoint_key(&endpoint);
            let published = self.have().addresses.get(&key) == Some(&id);
            let first = !service.keys.contains_key(&key);
            if endpoint.flags & endpoint_flags::DIRECT != 0 {
                service.direct.push(id);
            } else if published || first {
                service.keys.insert(key, id);
            }
            let share = Share {
                id,
                address: want.address,
                weight: want.weight,
            };
            // Whoever is new and not known yet counts: it was put there to be used.
            let standing = match (want.standing, known) {
                (Standing::Unknown, None) => Standing::Up,
                (standing, _) => standing,
            };
            shares.push((share, standing));
        }
        Ok(shares)
    }
}

impl Draft {
    /// The slot of the colour after `colour`, in the order of their numbers and around.
    pub(super) fn after(&self, colour: Colour) -> Option<Slot> {
        let pure = || self.targets.iter().filter(|(mix, _)| mix.canary.is_none());
        let higher = pure().filter(|(mix, _)| mix.colour > colour);
        let mut others = higher.chain(pure().filter(|(mix, _)| mix.colour < colour));
        others.next().map(|(_, slot)| *slot)
    }

    /// The slot that is to be current while `live` is live.
    pub(super) fn aim(&self, live: Colour) -> Option<Slot> {
        let of_live = self.targets.iter().filter(|(mix, _)| mix.colour == live);
        let aim = of_live.max_by_key(|(mix, _)| mix.canary.is_some());
        aim.map(|(_, slot)| *slot)
    }

    /// A mix as people read it.
    pub(super) fn said(&self, mix: Mix) -> String {
        let colour = &self.colours[&mix.colour];
        match mix.canary {
            None => colour.clone(),
            Some(Canary {
                colour: other,
                percent,
            }) => format!("{colour} with {percent} % {}", self.colours[&other]),
        }
    }
}

impl DraftService {
    /// Its entries in `SERVICES`: itself and its preview.
    pub(super) fn faces(&self) -> impl Iterator<Item = (u16, SocketAddr, u8)> + use<> {
        let Self { want, .. } = self;
        let (index, vip, flags) = (self.index, want.vip, want.flags);
        let preview = self.preview;
        let preview = preview.map(|(index, at)| (index, at, flags | service_flags::PREVIEW));
        std::iter::once((index, vip, flags)).chain(preview)
    }
}
