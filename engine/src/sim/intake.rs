//! The way to the leader over a network that loses, repeats and delays.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use patchloom_core::record::Entry;

use super::Random;
use crate::runtime::{EngineError, Intake, Seen};

/// How bad the network is, in percent of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetFaults {
    /// A message never arrives.
    pub lost: u64,
    /// A message arrives, its answer does not.
    pub unanswered: u64,
    /// A message arrives twice.
    pub twice: u64,
    /// The longest a message is under way, on the clock of the runtime.
    pub delay_max: Duration,
    /// How long the sender waits for an answer before it sends again.
    pub patience: Duration,
}

/// A lossy way to the leader: its caller sends again until it is answered. Clones share the draw.
#[derive(Clone, Debug)]
pub struct LossyIntake<I> {
    inner: I,
    faults: NetFaults,
    random: Arc<Mutex<Random>>,
}

enum Fate {
    Lost,
    Unanswered,
    Twice,
    Fine,
}

impl<I: Intake> LossyIntake<I> {
    /// A network before `inner` whose faults are drawn from `seed`.
    #[must_use]
    pub fn new(inner: I, faults: NetFaults, seed: u64) -> Self {
        Self { inner, faults, random: Arc::new(Mutex::new(Random::new(seed))) }
    }

    fn draw(&self) -> (Duration, Fate) {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let millis = u64::try_from(self.faults.delay_max.as_millis()).unwrap_or(u64::MAX - 1);
        let delay = Duration::from_millis(random.below(millis + 1));
        let NetFaults { lost, unanswered, twice, .. } = self.faults;
        let fate = match random.below(100) {
            at if at < lost => Fate::Lost,
            at if at < lost + unanswered => Fate::Unanswered,
            at if at < lost + unanswered + twice => Fate::Twice,
            _ => Fate::Fine,
        };
        (delay, fate)
    }
}

impl<I: Intake> Intake for LossyIntake<I> {
    async fn submit(&self, entries: Vec<Entry>) -> Result<Vec<Seen>, EngineError> {
        loop {
            let (delay, fate) = self.draw();
            tokio::time::sleep(delay).await;
            match fate {
                Fate::Lost => {}
                Fate::Unanswered => {
                    self.inner.submit(entries.clone()).await?;
                }
                Fate::Twice => {
                    // The first answer is the one that the sender hears.
                    let seen = self.inner.submit(entries.clone()).await?;
                    self.inner.submit(entries).await?;
                    return Ok(seen);
                }
                Fate::Fine => return self.inner.submit(entries).await,
            }
            tokio::time::sleep(self.faults.patience).await;
        }
    }
}
