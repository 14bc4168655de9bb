//! The inventory: hosts out of files of many formats, merged, selected, grouped, and compared with what is recorded.
//!
//! Nothing here does IO: texts come in, values and mistakes go out. docs/inventory.md describes formats and rules.

mod mistake;

mod field;
mod tree;

mod entry;

mod ansible;
mod ansible_vars;
mod aws;
mod csv;
mod ini;
mod yaml;

mod discover;
mod merge;
mod read;
mod selector;

mod groups;
mod policy;
mod reconcile;

pub use discover::{GATHER, HostFacts, RANGE_MAX, addresses_of, discovered, not_seen_again, os_release};
pub use entry::{Names, Source, SourceKind};
pub use field::Field;
pub use groups::{GroupRule, GroupRules};
pub use merge::{INVENTORY_HOSTS_MAX, Merged, TagPatch, merge};
pub use mistake::{At, Level, Mistake, Mistakes, Spot};
pub use policy::{Policy, WINDOW_TAGS, check_policy, operating_system, read_policy};
pub use read::{Scope, TEXT_BYTES_MAX, Text, Texts, read};
pub use reconcile::{
    Difference, FieldChange, Inventory, InventoryDiff, PatchGroup, Schedule, What, diff_inventories, keep_ids,
};
pub use selector::{SELECTOR_BYTES_MAX, Selector, SelectorError};
pub use yaml::{to_discovered_yaml, to_yaml};
