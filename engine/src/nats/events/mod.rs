//! Events over NATS: those of others on their way in, and ours on their way out, each in a stream.

mod line;
mod listen;
mod take_in;
mod tell;

use std::time::Duration;

pub use listen::Listener;
pub use take_in::{Intake, take_in};
pub use tell::{NatsEvents, Past};

/// What bounds events on their way in and out.
#[derive(Clone, Debug)]
pub struct BusOptions {
    /// How many bytes of events may wait to be taken in, of all partitions together: then publishers are refused.
    pub in_bytes_max: u64,
    /// How many messages the leader has in hand at a time.
    pub in_hand_max: usize,
    /// After how long a message comes again whose leader died with it in hand.
    pub in_wait: Duration,
    /// Whether facts of single steps are told too.
    pub steps: bool,
    /// Whether events are told in binary mode, with their attributes as headers.
    pub binary: bool,
    /// How many bytes of told events are kept; the oldest go first.
    pub out_bytes_max: u64,
    /// For how long told events are kept.
    pub out_age_max: Duration,
    /// How many events may wait to be told; the oldest are given up first.
    pub out_line_max: usize,
}

impl Default for BusOptions {
    fn default() -> Self {
        Self {
            in_bytes_max: 1 << 30,
            in_hand_max: 2_000,
            in_wait: Duration::from_secs(5),
            steps: false,
            binary: false,
            out_bytes_max: 256 << 20,
            out_age_max: Duration::from_secs(7 * 86_400),
            out_line_max: crate::events::HEARD_MAX,
        }
    }
}
