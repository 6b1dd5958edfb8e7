//! Keeping definitions: what `apply` would change, and doing it.

use super::{Client, Result};
use crate::store::Definition;

/// What applying one definition means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
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

impl Client {
    /// What applying these would change, in order.
    ///
    /// # Errors
    /// The store's.
    pub async fn plan(&self, definitions: &[Definition]) -> Result<Vec<Change>> {
        let mut current = std::collections::BTreeMap::new();
        for definition in definitions {
            if !current.contains_key(&definition.kind) {
                current.insert(definition.kind.clone(), self.store().definitions(&definition.kind).await?);
            }
        }
        let change = |wanted: &Definition| {
            let kept = current.get(&wanted.kind)?.iter().find(|kept| kept.name == wanted.name)?;
            Some(if kept.hash == wanted.hash { Change::Unchanged } else { Change::Changed })
        };
        Ok(definitions.iter().map(|wanted| change(wanted).unwrap_or(Change::Created)).collect())
    }

    /// Applies what `plan` says is new or changed, all or none.
    ///
    /// # Errors
    /// The store's.
    pub async fn apply(&self, definitions: &[Definition], plan: &[Change]) -> Result<()> {
        let wanted: Vec<Definition> = definitions
            .iter()
            .zip(plan)
            .filter(|(_, change)| **change != Change::Unchanged)
            .map(|(definition, _)| definition.clone())
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        Ok(self.store().define(&wanted).await?)
    }
}
