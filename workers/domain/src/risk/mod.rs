//! How urgent a finding is: scores from vectors, what is known to be exploited, and the deadline that follows. Reads no file
//! and no clock.

mod cvss;
mod decide;
mod epss;
mod feed;
mod kev;
mod order;
mod table;
mod vulnrichment;

pub use cvss::{BaseScore, CvssError};
pub use decide::{Assume, Decision, Feeds, ForensicTriage, Question, decide};
pub use epss::{Epss, EpssScore, read_epss};
pub use feed::{APART_MAX, FeedError, RECORDS_MAX, Unread};
pub use kev::{Kev, KevEntry, read_kev};
pub use order::{HostRisk, Ranked, rank_hosts};
pub use table::{TableInputs, Timeline, timeline};
pub use vulnrichment::{CveRecord, Exploitation, Ssvc, Vulnrichment, read_vulnrichment};
