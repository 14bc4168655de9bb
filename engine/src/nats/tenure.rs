//! A lease that is held: renewed in time, and known to all who ask whether it still is.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::lease::Lease;

/// After a renewal that was not answered.
const AGAIN: Duration = Duration::from_millis(250);

/// The time for which a lease is held.
pub(super) struct Tenure {
    until: watch::Receiver<Option<Instant>>,
    /// Fires when somebody else has the lease.
    pub lost: CancellationToken,
    end: CancellationToken,
    task: JoinHandle<Lease>,
}

impl Tenure {
    /// Renews a lease that was acquired until [`Tenure::end`].
    pub fn begin(mut lease: Lease) -> Self {
        let (told, until) = watch::channel(lease.confirmed_until());
        let (lost, end) = (CancellationToken::new(), CancellationToken::new());
        let (gone, ends) = (lost.clone(), end.clone());
        let task = tokio::spawn(async move {
            let mut pause = lease.renew_every();
            loop {
                tokio::select! {
                    () = ends.cancelled() => return lease,
                    () = sleep(pause) => {}
                }
                pause = match lease.renew().await {
                    Ok(true) => lease.renew_every(),
                    Ok(false) => {
                        told.send_replace(None);
                        gone.cancel();
                        return lease;
                    }
                    Err(error) => {
                        warn!(%error, "the lease was not renewed");
                        AGAIN
                    }
                };
                told.send_replace(lease.confirmed_until());
            }
        });
        Self { until, lost, end, task }
    }

    /// Tells whether nobody else can hold the lease at this moment.
    pub fn holds(&self) -> impl Fn() -> bool + Clone + Send + Sync + 'static {
        let until = self.until.clone();
        move || until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Renews no more; gives the lease, which lapses or is released.
    pub async fn end(self) -> Option<Lease> {
        self.end.cancel();
        self.task.await.ok()
    }
}
