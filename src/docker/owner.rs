//! Whose a container or volume is, by its labels. Sans-io.
//!
//! AppAPI leaves `instance_id` empty, so that the ExApps of two Nextclouds on one engine bear the
//! same names; with HaRP one overwrote and deleted what the other had made (contract 8.1). Things
//! without a label were made by HaRP and belong to the default tenant, whose name is empty.

use std::collections::HashMap;

/// Label that names the tenant.
pub const TENANT: &str = "io.trigon.tenant";

/// Label that names the ExApp.
pub const EXAPP: &str = "io.trigon.exapp";

/// Labels as an engine holds them.
pub type Labels = HashMap<String, String>;

/// The labels of something made for an ExApp of a tenant.
pub fn labels(tenant: &str, app: &str) -> Labels {
    [(TENANT, tenant), (EXAPP, app)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Whether something with these labels belongs to another tenant.
pub fn is_foreign(labels: Option<&Labels>, tenant: &str) -> bool {
    let owner = labels.and_then(|labels| labels.get(TENANT)).map_or("", String::as_str);
    owner != tenant
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_label_belongs_to_the_default_tenant() {
        let other = Labels::from([("maintainer".to_owned(), "x".to_owned())]);
        for unlabelled in [None, Some(&other), Some(&labels("", "demo"))] {
            assert!(!is_foreign(unlabelled, ""));
            assert!(is_foreign(unlabelled, "blue"));
        }
        assert!(is_foreign(Some(&labels("blue", "demo")), ""));
        assert!(is_foreign(Some(&labels("blue", "demo")), "red"));
        assert!(!is_foreign(Some(&labels("blue", "demo")), "blue"));
    }
}
