//! What a reported vulnerability means on a host: can it be fixed now, by what, and if not, why not. Knows no scanner's
//! file format, reads no file and no clock.

mod claim;
mod clean;
mod facts;
mod first_seen;
mod fix;
mod fleet;
mod host;
mod judge;
mod kernel;
mod measure;
mod report;
mod sample;
mod status;
mod table;
mod version;

pub use claim::{Claim, FixOf, FixVersion, SeverityClaim, canonical_id, merge_claims};
pub use clean::{Purl, clean_version, fix_versions};
pub use facts::{
    CandidateFact, FactsError, HostFacts, PACKAGES_MAX, PackageFact, Place, StaleProcess, Withheld, read_facts,
};
pub use first_seen::{FirstSeen, SEEN_MAX, Seen, SeenError, changelog_moment};
pub use fix::{Fixed, choose_fix};
pub use fleet::{Answer, Answers, Fleet, FleetSize, HostHead, HostLists, IndexedFleet, candidate_line, package_line};
pub use host::{Correlated, correlate_host};
pub use judge::{NotOffered, PatchUnit, State, Verdict};
pub use kernel::kernel_release;
pub use measure::{Measured, Spent, measure};
pub use report::{ReadClaims, read_claims};
pub use sample::{SampleHost, SampleSize};
pub use status::VendorStatus;
pub use version::Version;
