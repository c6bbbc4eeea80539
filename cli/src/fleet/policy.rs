//! What a worker does for each tenant: a JSON file.

use anyhow::{Context, Result, anyhow};
use cellblock::CellLimits;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// Bytes that a policy may have.
const MAX_BYTES: usize = 4 << 20;

/// The policy of a worker.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// What tenants that are not named have.
    #[serde(default)]
    default: TenantPolicy,
    /// Tenants by name; the empty name is the fleet's own account.
    #[serde(default)]
    tenants: HashMap<String, TenantPolicy>,
}

/// What a tenant has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TenantPolicy {
    /// Cells on this worker at one time.
    max_cells: Option<usize>,
    /// Limits of its cells, each where it is narrower than the worker's.
    limits: Option<CellLimits>,
}

impl Policy {
    /// Reads and checks a policy.
    pub fn read(path: &Path) -> Result<Self> {
        let text = crate::run::input::file(path, MAX_BYTES)
            .with_context(|| format!("cannot read the policy {}", path.display()))?;
        let mut json = serde_json::Deserializer::from_str(&text);
        let policy: Self = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            anyhow!("the policy {}, at {}: {}", path.display(), error.path(), error.inner())
        })?;
        json.end().with_context(|| format!("the policy {}", path.display()))?;
        Ok(policy)
    }

    /// Cells that a tenant may have; `None` where nothing says.
    pub fn cells(&self, tenant: &str) -> Option<usize> {
        self.of(tenant).and_then(|of| of.max_cells).or(self.default.max_cells)
    }

    /// The worker's limits as a tenant has them.
    pub fn limits(&self, tenant: &str, own: &CellLimits) -> CellLimits {
        let given = self.of(tenant).and_then(|of| of.limits.as_ref());
        match given.or(self.default.limits.as_ref()) {
            Some(limits) => own.narrowed_by(limits),
            None => own.clone(),
        }
    }

    fn of(&self, tenant: &str) -> Option<&TenantPolicy> {
        self.tenants.get(tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_what_it_is_given_and_no_more_than_the_worker() {
        let text = r#"{
            "default": { "maxCells": 2, "limits": { "calls": 5 } },
            "tenants": { "acme": { "maxCells": 9, "limits": { "calls": 1000000 } }, "big": {} }
        }"#;
        let policy: Policy = serde_json::from_str(text).unwrap();
        let own = CellLimits { calls: 100, ..CellLimits::default() };
        assert_eq!((policy.cells("acme"), policy.cells("other")), (Some(9), Some(2)));
        assert_eq!(policy.cells("big"), Some(2));
        assert_eq!(policy.limits("acme", &own).calls, 100);
        assert_eq!(policy.limits("other", &own).calls, 5);
        assert!(serde_json::from_str::<Policy>(r#"{ "tenant": {} }"#).is_err());
    }
}
