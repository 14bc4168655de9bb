//! The workflows that ship with the binary: one per step of the lifecycle, and the lifecycle that composes them.
//!
//! Only their names and texts; what they mean is the core's matter.

/// Name and YAML text of each, by name.
const SHIPPED: [(&str, &str); 13] = [
    ("campaign", include_str!("../workflows/campaign.yaml")),
    ("campaign-discover", include_str!("../workflows/campaign-discover.yaml")),
    ("campaign-host", include_str!("../workflows/campaign-host.yaml")),
    ("campaign-probe", include_str!("../workflows/campaign-probe.yaml")),
    ("campaign-wave", include_str!("../workflows/campaign-wave.yaml")),
    ("change", include_str!("../workflows/change.yaml")),
    ("correlate", include_str!("../workflows/correlate.yaml")),
    ("patch", include_str!("../workflows/patch.yaml")),
    ("patch-lifecycle", include_str!("../workflows/patch-lifecycle.yaml")),
    ("prepare", include_str!("../workflows/prepare.yaml")),
    ("reconcile", include_str!("../workflows/reconcile.yaml")),
    ("scan", include_str!("../workflows/scan.yaml")),
    ("verify", include_str!("../workflows/verify.yaml")),
];

/// All of them, by name: name and YAML text.
#[must_use]
pub fn all() -> &'static [(&'static str, &'static str)] {
    &SHIPPED
}

/// The text of the one called `name`.
///
/// # Example
/// ```
/// assert!(patchloom::shipped::text("scan").is_some());
/// assert!(patchloom::shipped::text("nothing").is_none());
/// ```
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use patchloom_core::Definition;

    use super::*;

    #[test]
    fn every_file_in_workflows_is_shipped_under_the_name_that_it_gives_itself() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows");
        let files: BTreeSet<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned))
            // The tests beside them are not shipped.
            .filter(|name| !name.ends_with(".test"))
            .collect();
        assert_eq!(files, all().iter().map(|(name, _)| (*name).to_owned()).collect());
        for (name, text) in all() {
            let definition = Definition::parse(name, text).unwrap();
            assert_eq!(&*definition.name, *name);
        }
    }
}
