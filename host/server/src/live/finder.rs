//! Finds tenants and routes without going through all of them: a delivery must not cost more because there are a thousand tenants.
//!
//! Holds places in the configuration's lists. It leaves out what can't fit; what fits is judged by the same rules as ever.

use std::collections::HashMap;

use penstock_model::id::{RouteName, TenantName};
use penstock_model::tenant::Tenant;

use crate::config::Route;

/// Where things stand in the lists of one configuration.
#[derive(Debug, Default)]
pub(super) struct Finder {
    /// By the segments before the first placeholder of their pattern.
    tenants: HashMap<String, Vec<usize>>,
    of_tenant: HashMap<TenantName, Vec<usize>>,
    of_all: Vec<usize>,
    named: HashMap<RouteName, usize>,
}

impl Finder {
    pub(super) fn new(tenants: &[Tenant], routes: &[Route]) -> Self {
        let mut finder = Self::default();
        for (n, tenant) in tenants.iter().enumerate() {
            let lead = tenant.pattern.lead().to_ascii_lowercase();
            finder.tenants.entry(lead).or_default().push(n);
        }
        for (n, route) in routes.iter().enumerate() {
            match &route.tenant {
                Some(tenant) => {
                    let of_tenant = finder.of_tenant.entry(tenant.clone()).or_default();
                    of_tenant.push(n);
                }
                None => finder.of_all.push(n),
            }
            finder.named.entry(route.name.clone()).or_insert(n);
        }
        finder
    }

    /// Tenants whose pattern begins as the path does, in the list's order.
    pub(super) fn tenants(&self, path: &str) -> Vec<usize> {
        let path = path.to_ascii_lowercase();
        let ends = path.match_indices('/').map(|(at, _)| at);
        let leads = ends.chain([path.len()]).filter_map(|end| path.get(..end));
        let mut found: Vec<usize> = std::iter::once("")
            .chain(leads.filter(|lead| !lead.is_empty()))
            .filter_map(|lead| self.tenants.get(lead))
            .flatten()
            .copied()
            .collect();
        found.sort_unstable();
        found
    }

    /// Routes of a tenant and of all tenants, in the list's order.
    pub(super) fn routes(&self, tenant: &TenantName) -> Vec<usize> {
        let own = self.of_tenant.get(tenant).into_iter().flatten();
        let mut found: Vec<usize> = own.chain(&self.of_all).copied().collect();
        found.sort_unstable();
        found
    }

    /// The route of a name.
    pub(super) fn named(&self, name: &RouteName) -> Option<usize> {
        self.named.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use penstock_model::tenant::belonging;

    use super::*;

    #[test]
    fn a_path_belongs_where_it_would_if_all_were_looked_at() {
        let patterns = [
            "**",
            "acme/**",
            "acme/*",
            "Acme/Pay/**",
            "acme/{team}/api",
            "acme/pay/api",
            "acme/pay*/**",
            "{group}/**",
            "**/api",
            "acme",
            "other/**",
            "other/{any}/**",
        ];
        let all: Vec<Tenant> = patterns
            .iter()
            .map(|text| Tenant {
                pattern: penstock_model::pattern::Pattern::parse(text).unwrap(),
                places: [].into(),
            })
            .collect();
        let paths = [
            "acme",
            "ACME/pay",
            "acme/pay/api",
            "acme/Pay/api/x",
            "acme/web/api",
            "acme/payments/x",
            "other/x",
            "other/x/y",
            "zoo/api",
            "zoo",
            "a/b/c/d/api",
            "",
            "acme/",
            "/acme",
        ];
        // Each set of them, so that each has been the best and the rival of each.
        for chosen in 0..(1_u32 << patterns.len()) {
            let some: Vec<Tenant> = all
                .iter()
                .enumerate()
                .filter(|(n, _)| chosen & (1 << n) != 0)
                .map(|(_, tenant)| tenant.clone())
                .collect();
            let finder = Finder::new(&some, &[]);
            for path in paths {
                let found = finder.tenants(path);
                let found = belonging(found.iter().map(|n| &some[*n]), path);
                assert_eq!(found, belonging(&some, path), "{path} in {chosen:b}");
            }
        }
    }
}
