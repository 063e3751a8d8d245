//! All manifests of a system and the relations between them.

use crate::graph::Graph;
use crate::{Error, Instances, Manifest, SERVICES_MAX};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Number of a manifest in its catalog.
pub type Index = usize;

/// Manifests without missing targets and without cycles.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    manifests: Vec<Manifest>,
    by_label: BTreeMap<String, Index>,
    order: Vec<Index>,
    /// Edges of each manifest, resolved.
    edges: Vec<Edges>,
}

/// The relations of one manifest as numbers.
#[derive(Clone, Debug, Default)]
struct Edges {
    needs: Vec<Index>,
    wants: Vec<Index>,
    notify: Vec<Index>,
    /// With `true` for an admin badge.
    calls: Vec<(Index, bool)>,
    spawns: Vec<Index>,
    complains: Vec<Index>,
}

impl Catalog {
    /// A catalog of the manifests that are sound, and what was wrong with the others: whoever
    /// needs a refused service is refused too; of other lists a missing target is struck out.
    pub fn tolerant(manifests: Vec<Manifest>) -> (Self, Vec<Error>) {
        let mut errors = Vec::new();
        let mut by_label: BTreeMap<String, Manifest> = BTreeMap::new();
        for manifest in manifests {
            if by_label.contains_key(&manifest.label) {
                errors.push(Error::Duplicate { label: manifest.label });
            } else if by_label.len() == SERVICES_MAX {
                errors.push(Error::TooMany);
                break;
            } else {
                by_label.insert(manifest.label.clone(), manifest);
            }
        }
        let mut manifests: Vec<Manifest> = by_label.into_values().collect();
        loop {
            match Self::build(&manifests) {
                Ok((edges, order)) => {
                    let by_label =
                        manifests.iter().enumerate().map(|(i, m)| (m.label.clone(), i)).collect();
                    return (Catalog { manifests, by_label, order, edges }, errors);
                }
                Err((bad, error)) => {
                    let struck = match (&error, bad.as_slice()) {
                        (Error::Missing { key, target, .. }, &[at]) => {
                            strike(&mut manifests[at], key, target)
                        }
                        _ => false,
                    };
                    errors.push(error);
                    if struck {
                        continue;
                    }
                    let mut at = 0;
                    manifests.retain(|_| {
                        at += 1;
                        !bad.contains(&(at - 1))
                    });
                }
            }
        }
    }

    /// All manifests are sound, or the first reason why not.
    pub fn strict(manifests: Vec<Manifest>) -> Result<Self, Error> {
        let (catalog, errors) = Self::tolerant(manifests);
        match errors.into_iter().next() {
            None => Ok(catalog),
            Some(error) => Err(error),
        }
    }

    /// One manifest more; the numbers of the others stay. Refused as a whole directory would be.
    pub fn add(&mut self, manifest: Manifest) -> Result<Index, Error> {
        if self.by_label.contains_key(&manifest.label) {
            return Err(Error::Duplicate { label: manifest.label });
        }
        let free = self.manifests.iter().position(|m| m.removed);
        let index = free.unwrap_or(self.manifests.len());
        if index == SERVICES_MAX {
            return Err(Error::TooMany);
        }
        let label = manifest.label.clone();
        let mut manifests = self.manifests.clone();
        match free {
            Some(free) => manifests[free] = manifest,
            None => manifests.push(manifest),
        }
        self.rebuild(manifests)?;
        self.by_label.insert(label, index);
        Ok(index)
    }

    /// Takes a manifest out; refused when others name it.
    pub fn remove(&mut self, index: Index) -> Result<(), Error> {
        let mut manifests = self.manifests.clone();
        manifests[index].removed = true;
        self.rebuild(manifests)?;
        let label = &self.manifests[index].label;
        self.by_label.remove(label);
        Ok(())
    }

    fn rebuild(&mut self, manifests: Vec<Manifest>) -> Result<(), Error> {
        let (edges, order) = Self::build(&manifests).map_err(|(_, error)| error)?;
        (self.manifests, self.edges, self.order) = (manifests, edges, order);
        Ok(())
    }

    /// The edges and a start order, or which manifests to leave out and why.
    #[allow(clippy::type_complexity)]
    fn build(manifests: &[Manifest]) -> Result<(Vec<Edges>, Vec<Index>), (Vec<Index>, Error)> {
        let mut all = Vec::with_capacity(manifests.len());
        let mut graph = Graph::new(manifests.len());
        for (index, manifest) in manifests.iter().enumerate() {
            if manifest.removed {
                all.push(Edges::default());
                continue;
            }
            let edges =
                resolve(manifests, manifest).map_err(|error| (Vec::from([index]), error))?;
            let calls = edges.calls.iter().map(|(target, _)| target);
            let down = edges.needs.iter().chain(&edges.wants).chain(&edges.spawns).chain(calls);
            for &target in down {
                graph.edge(index, target);
            }
            all.push(edges);
        }
        match graph.order() {
            Ok(order) => {
                Ok((all, order.into_iter().filter(|&index| !manifests[index].removed).collect()))
            }
            Err(cycle) => {
                let path = cycle.iter().map(|&i| manifests[i].label.clone()).collect();
                Err((cycle, Error::Cycle { path }))
            }
        }
    }

    pub fn len(&self) -> usize {
        self.manifests.len()
    }

    pub fn is_empty(&self) -> bool {
        self.manifests.is_empty()
    }

    pub fn get(&self, index: Index) -> &Manifest {
        &self.manifests[index]
    }

    pub fn find(&self, label: &str) -> Option<Index> {
        self.by_label.get(label).copied()
    }

    /// What ordinary programs may do, if a manifest says.
    pub fn programs(&self) -> Option<Index> {
        self.manifests.iter().position(|m| m.instances == Instances::Programs)
    }

    /// Every manifest, each behind all it needs, wants, calls or spawns.
    pub fn order(&self) -> &[Index] {
        &self.order
    }

    pub fn needs(&self, index: Index) -> &[Index] {
        &self.edges[index].needs
    }

    pub fn wants(&self, index: Index) -> &[Index] {
        &self.edges[index].wants
    }

    pub fn notify(&self, index: Index) -> &[Index] {
        &self.edges[index].notify
    }

    pub fn spawns(&self, index: Index) -> &[Index] {
        &self.edges[index].spawns
    }

    pub fn complains(&self, index: Index) -> &[Index] {
        &self.edges[index].complains
    }

    /// What the manifest says of others, by key.
    pub fn relations(&self, index: Index) -> [(&'static str, Vec<Index>); 6] {
        let edges = &self.edges[index];
        let calls = edges.calls.iter().map(|(target, _)| *target).collect();
        [
            ("needs", edges.needs.clone()),
            ("wants", edges.wants.clone()),
            ("notify", edges.notify.clone()),
            ("calls", calls),
            ("spawns", edges.spawns.clone()),
            ("complains", edges.complains.clone()),
        ]
    }

    /// Services that cannot run without `target`, directly or by others that need it.
    pub fn dependents(&self, target: Index) -> Vec<Index> {
        let mut all = Vec::from([target]);
        // The order has every manifest behind what it needs.
        for &index in &self.order {
            if self.edges[index].needs.iter().any(|need| all.contains(need)) {
                all.push(index);
            }
        }
        all.remove(0);
        all
    }

    /// Whether one of the services that `index` relies on in any way is among `those`.
    pub fn relies_on(&self, index: Index, those: impl Fn(Index) -> bool) -> bool {
        let edges = &self.edges[index];
        let calls = edges.calls.iter().map(|(target, _)| target);
        let all = edges.needs.iter().chain(&edges.wants).chain(&edges.spawns).chain(calls);
        all.copied().any(those)
    }

    /// Whether `caller` may look `target` up: `Some(true)` with an admin badge.
    pub fn may_call(&self, caller: Index, target: Index) -> Option<bool> {
        let calls = self.edges[caller].calls.iter().filter(|(t, _)| *t == target);
        calls.map(|(_, admin)| *admin).reduce(|a, b| a || b)
    }

    /// Whether `user` must be gone before `target` is stopped.
    pub fn depends(&self, user: Index, target: Index) -> bool {
        let edges = &self.edges[user];
        edges.needs.contains(&target)
            || edges.wants.contains(&target)
            || edges.spawns.contains(&target)
            || edges.calls.iter().any(|(t, _)| *t == target)
    }

    /// The driver of a PCI function. Matches by vendor and device go before matches by class, and
    /// labels are compared where both are equally good.
    pub fn driver(&self, id: u32, class: u32) -> Option<Index> {
        let rank = |m: &Manifest| {
            let hits = m.pci.iter().filter(|p| p.matches(id, class));
            hits.map(|p| u8::from(p.device.is_some()) * 2 + u8::from(p.subclass.is_some())).max()
        };
        let candidates = self.manifests.iter().enumerate().filter(|(_, m)| !m.removed);
        let ranked = candidates.filter_map(|(i, m)| rank(m).map(|r| (r, i)));
        ranked.max_by_key(|&(r, i)| (r, core::cmp::Reverse(i))).map(|(_, i)| i)
    }
}

/// Takes a missing target out of a list that the service can do without.
fn strike(manifest: &mut Manifest, key: &str, target: &str) -> bool {
    let list = match key {
        "wants" => &mut manifest.wants,
        "notify" => &mut manifest.notify,
        "calls" => &mut manifest.calls,
        "spawns" => &mut manifest.spawns,
        "complains" => &mut manifest.complains,
        _ => return false,
    };
    list.retain(|name| name.strip_suffix(":admin").unwrap_or(name) != target);
    true
}

fn resolve(manifests: &[Manifest], manifest: &Manifest) -> Result<Edges, Error> {
    let list = |key: &'static str, names: &[String]| {
        let mut targets = Vec::new();
        for name in names {
            targets.extend(targets_of(manifests, name).ok_or_else(|| Error::Missing {
                label: manifest.label.clone(),
                key,
                target: name.clone(),
            })?);
        }
        Ok(targets)
    };
    let mut calls = Vec::new();
    for call in &manifest.calls {
        let (name, admin) = match call.strip_suffix(":admin") {
            Some(name) => (name.to_string(), true),
            None => (call.clone(), false),
        };
        calls.extend(list("calls", &[name])?.into_iter().map(|target| (target, admin)));
    }
    let spawns: Vec<Index> = list("spawns", &manifest.spawns)?;
    let fixed = |i: &&Index| {
        matches!(manifests[**i].instances, Instances::PerFunction | Instances::Programs)
    };
    if let Some(&fixed) = spawns.iter().find(fixed) {
        return Err(Error::Value {
            label: manifest.label.clone(),
            key: "spawns",
            text: alloc::format!("{} has no instances to start", manifests[fixed].label),
        });
    }
    let needs = list("needs", &manifest.needs)?;
    let wants = list("wants", &manifest.wants)?;
    let idle = |i: &&Index| matches!(manifests[**i].instances, Instances::OnDemand);
    if let Some(&idle) = needs.iter().chain(&wants).find(idle) {
        return Err(Error::Value {
            label: manifest.label.clone(),
            key: "needs",
            text: alloc::format!(
                "{} is on-demand: nothing starts it at boot",
                manifests[idle].label
            ),
        });
    }
    let notify = list("notify", &manifest.notify)?;
    let complains = list("complains", &manifest.complains)?;
    Ok(Edges { needs, wants, notify, calls, spawns, complains })
}

/// A label is one service; `class:NAME` all of that class, at least one.
fn targets_of(manifests: &[Manifest], name: &str) -> Option<Vec<Index>> {
    let of = |test: &dyn Fn(&Manifest) -> bool| -> Vec<Index> {
        let service = |m: &Manifest| !m.removed && m.instances != Instances::Programs && test(m);
        manifests.iter().enumerate().filter(|(_, m)| service(m)).map(|(i, _)| i).collect()
    };
    let found = match name.strip_prefix("class:") {
        Some(class) => of(&|m| m.class.as_deref() == Some(class)),
        None => of(&|m| m.label == name),
    };
    (!found.is_empty()).then_some(found)
}
