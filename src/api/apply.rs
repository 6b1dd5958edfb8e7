//! Keeping definitions: what `apply` would change, and doing it. Knows manifests and what each kind
//! means to the store; reads no files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use sha2::{Digest, Sha256};

use super::{ApiError, Client, Result};
use crate::domain::text::nearest;
use crate::domain::{Name, QueueSettings};
use crate::store::Definition;
use crate::workflow::manifest::Kind;
use crate::workflow::spec::{QueueSpec, WebhookSpec};
use crate::workflow::{self, Manifest, Problem, Reference};

/// What applying one definition means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Created,
    Changed,
    Unchanged,
}

impl Change {
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Created => "created",
            Change::Changed => "changed",
            Change::Unchanged => "unchanged",
        }
    }
}

/// One manifest beside what the store keeps under its name.
#[derive(Clone, Debug)]
pub struct Planned {
    pub manifest: Manifest,
    pub definition: Definition,
    pub change: Change,
    /// The canonical text that is kept now.
    pub before: Option<String>,
}

/// A definition, and another one that cannot do without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub kind: Kind,
    pub name: Name,
    pub by: (Kind, Name),
}

/// What the store keeps of a manifest.
pub fn definition(manifest: &Manifest) -> Definition {
    let text = manifest.text();
    let hash = match manifest {
        Manifest::Workflow(workflow) => workflow.hash().to_owned(),
        _ => Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    Definition { kind: manifest.kind().stored().to_owned(), name: manifest.name().clone(), hash, text }
}

impl Client {
    /// All that manifests name and that is neither among them nor in the store, each where it is named; and
    /// what they give to workflows that do not take it.
    ///
    /// # Errors
    /// The store's.
    pub async fn missing(&self, manifests: &[Manifest], references: &[Reference]) -> Result<Vec<Problem>> {
        let is_here = |reference: &Reference| {
            manifests.iter().any(|one| one.kind() == reference.kind && *one.name() == reference.name)
        };
        let mut kept: BTreeMap<Kind, Vec<Name>> = BTreeMap::new();
        let mut missing = Vec::new();
        let mut called: BTreeMap<&Name, Option<workflow::Definition>> = BTreeMap::new();
        for Reference { name, input, .. } in references {
            let Some(given) = input else { continue };
            let here = Manifest::workflow_among(manifests, name);
            if here.is_none() && !called.contains_key(name) {
                called.insert(name, self.kept_workflow(name).await?);
            }
            let workflow = here.or_else(|| called.get(name)?.as_ref());
            missing.extend(workflow.into_iter().flat_map(|workflow| given.misfits(workflow)));
        }
        for reference in references.iter().filter(|reference| !is_here(reference)) {
            let names: &[Name] = match kept.entry(reference.kind) {
                Entry::Occupied(found) => found.into_mut(),
                Entry::Vacant(free) => {
                    let found = self.definitions(reference.kind).await?;
                    free.insert(found.into_iter().map(|one| one.name).collect())
                }
            };
            if names.contains(&reference.name) {
                continue;
            }
            let here = manifests.iter().filter(|one| one.kind() == reference.kind).map(Manifest::name);
            let known = names.iter().chain(here).map(Name::as_str);
            let mut problem = reference.missing.clone();
            if let Some(near) = nearest(reference.name.as_str(), known) {
                problem.hint = Some(format!("did you mean `{near}`?"));
            }
            missing.push(problem);
        }
        Ok(missing)
    }

    async fn kept_workflow(&self, name: &Name) -> Result<Option<workflow::Definition>> {
        let kept = self.definitions(Kind::Workflow).await?.into_iter().find(|one| one.name == *name);
        // One that cannot be read is told where it is used.
        Ok(kept.and_then(|kept| workflow::Definition::load(&kept.text).ok()))
    }

    /// What applying these would change, in order.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] if two webhooks would have one path; the store's.
    pub async fn plan(&self, manifests: Vec<Manifest>) -> Result<Vec<Planned>> {
        self.check_paths(&manifests).await?;
        let mut current = std::collections::BTreeMap::new();
        let mut plan = Vec::with_capacity(manifests.len());
        for manifest in manifests {
            let definition = definition(&manifest);
            if !current.contains_key(&definition.kind) {
                current.insert(definition.kind.clone(), self.store().definitions(&definition.kind).await?);
            }
            let kept = current.get(&definition.kind).and_then(|kept| kept.iter().find(|k| k.name == definition.name));
            let change = match kept {
                None => Change::Created,
                Some(kept) if kept.hash == definition.hash => Change::Unchanged,
                Some(_) => Change::Changed,
            };
            let before = kept.map(|kept| kept.text.clone());
            plan.push(Planned { manifest, definition, change, before });
        }
        Ok(plan)
    }

    /// Keeps what `plan` says is new or changed, all or none; then gives queues their settings and
    /// schedules their ticks. Those of an unchanged manifest are given again, so that an apply that was
    /// cut is finished by the next.
    ///
    /// # Errors
    /// The store's.
    pub async fn apply(&self, plan: &[Planned]) -> Result<()> {
        let wanted: Vec<Definition> = plan
            .iter()
            .filter(|planned| planned.change != Change::Unchanged)
            .map(|planned| planned.definition.clone())
            .collect();
        if !wanted.is_empty() {
            self.store().define(&wanted).await?;
        }
        let queues: Vec<&QueueSpec> = plan
            .iter()
            .filter_map(|planned| match &planned.manifest {
                Manifest::Queue(queue) => Some(queue),
                _ => None,
            })
            .collect();
        if !queues.is_empty() {
            self.set_queues(&queues).await?;
        }
        for planned in plan {
            if let Manifest::Schedule(schedule) = &planned.manifest {
                self.set_schedule(schedule).await?;
            }
        }
        Ok(())
    }

    /// Each path leads to one webhook, or nobody would know which one is called.
    async fn check_paths(&self, manifests: &[Manifest]) -> Result<()> {
        let hooks = manifests.iter().filter_map(|manifest| match manifest {
            Manifest::Webhook(hook) => Some(hook),
            _ => None,
        });
        let hooks: Vec<&WebhookSpec> = hooks.collect();
        if hooks.is_empty() {
            return Ok(());
        }
        let kept = self.webhooks().await?;
        // One that is applied now may have left its path.
        let stays = |kept: &&WebhookSpec| hooks.iter().all(|hook| hook.name != kept.name);
        let mut taken: Vec<&WebhookSpec> = kept.iter().filter(stays).collect();
        for hook in hooks {
            if let Some(other) = taken.iter().find(|other| other.path == hook.path) {
                let (name, path, other) = (&hook.name, &hook.path, &other.name);
                let message = format!("the webhook `{name}`: /webhooks/{path} is the path of the webhook `{other}`");
                return Err(ApiError::Conflict(message));
            }
            taken.push(hook);
        }
        Ok(())
    }

    /// Gives queues what their manifests say; what those leave out stays as it is.
    async fn set_queues(&self, queues: &[&QueueSpec]) -> Result<()> {
        let known = self.store().queues().await?;
        for queue in queues {
            let found = known.iter().find(|(name, _)| *name == queue.name).map(|(_, settings)| settings);
            let before = found.cloned().unwrap_or_default();
            let settings = QueueSettings {
                paused: queue.paused.unwrap_or(before.paused),
                weight: queue.weight.or(before.weight),
                rate_limit: queue.rate_limit.or(before.rate_limit),
                concurrency: queue.concurrency.or(before.concurrency),
                retention: before.retention,
            };
            if found != Some(&settings) {
                self.store().set_queue(&queue.name, &settings).await?;
            }
        }
        Ok(())
    }

    /// Which of these are started or called by definitions that are not among them.
    ///
    /// # Errors
    /// The store's.
    pub async fn users_of(&self, definitions: &[(Kind, Name)]) -> Result<Vec<User>> {
        let mut users = Vec::new();
        if !definitions.iter().any(|(kind, _)| *kind == Kind::Workflow) {
            return Ok(users);
        }
        for kind in [Kind::Workflow, Kind::Schedule, Kind::Webhook] {
            for kept in self.definitions(kind).await? {
                let by = (kind, kept.name.clone());
                if definitions.contains(&by) {
                    continue;
                }
                // What this version cannot read, it cannot start either.
                let Ok(manifest) = Manifest::load(&kept.text) else { continue };
                for (kind, name) in manifest.uses().into_iter().filter(|used| definitions.contains(used)) {
                    users.push(User { kind, name, by: by.clone() });
                }
            }
        }
        Ok(users)
    }

    /// Takes definitions back, in order; for each whether there was one. A queue keeps its settings
    /// and its jobs, a run the version that it began with.
    ///
    /// # Errors
    /// The store's.
    pub async fn undefine(&self, definitions: &[(Kind, Name)]) -> Result<Vec<bool>> {
        let mut were = Vec::with_capacity(definitions.len());
        for (kind, name) in definitions {
            let was = self.store().undefine(kind.stored(), name).await?;
            let ticked = *kind == Kind::Schedule && self.delete_schedule(name).await?;
            were.push(was || ticked);
        }
        Ok(were)
    }

    /// The current definitions of a kind, by name.
    ///
    /// # Errors
    /// The store's.
    pub async fn definitions(&self, kind: Kind) -> Result<Vec<Definition>> {
        Ok(self.store().definitions(kind.stored()).await?)
    }

    /// The current definition of this kind and name.
    ///
    /// # Errors
    /// [`ApiError::NoDefinition`].
    pub async fn definition(&self, kind: Kind, name: &Name) -> Result<Definition> {
        let mut all = self.definitions(kind).await?;
        if let Some(at) = all.iter().position(|one| one.name == *name) {
            return Ok(all.swap_remove(at));
        }
        let names = all.iter().map(|one| one.name.as_str());
        let nearest = crate::domain::text::nearest(name.as_str(), names).map(str::to_owned);
        Err(ApiError::NoDefinition { kind: kind.stored(), name: name.clone(), nearest })
    }
}
