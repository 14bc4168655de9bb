//! Gets one readable changelog per source: from records, from cached .debs, else by download, security first.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::record::{Records, Says};
use super::{Carrier, Learned, Limits, Source, Tally};
use crate::apt::Error;
use crate::apt::fetch::DebCache;
use crate::host::HostExec;

/// Packages per apt process: each process costs half a second of reading lists, each batch delays the first result.
const BATCH_MAX: usize = 8;

/// So many batches in a row that bring nothing mean that there is no way to the archive.
const BARREN_MAX: usize = 3;

/// Binaries of one source that are tried for a changelog.
const CARRIERS_MAX: usize = 4;

type Key = (String, String);

/// One source on its way to a changelog.
struct Pursuit {
    key: Key,
    security: bool,
    carriers: Vec<Carrier>,
    tried: usize,
}

impl Pursuit {
    /// Moves the sibling to the front of what is still to be tried.
    fn prefer(&mut self, sibling: &str) {
        if let Some(at) = self.carriers.iter().skip(self.tried).position(|carrier| carrier.name == sibling) {
            self.carriers[self.tried..=self.tried + at].rotate_right(1);
        }
    }

    fn next(&self) -> Option<&Carrier> {
        self.carriers.get(self.tried).filter(|_| self.tried < CARRIERS_MAX)
    }
}

pub(super) async fn gather(
    exec: &HostExec,
    cache: &Path,
    sources: &BTreeMap<Key, Source>,
    limits: &Limits,
    cancel: &CancellationToken,
    tell: &(dyn Fn(f64, String) + Sync),
) -> Result<(BTreeMap<Key, Learned>, Tally), Error> {
    let started = Instant::now();
    let shared = Arc::new(Shared {
        exec: exec.clone(),
        debs: DebCache::new(cache.join("debs")),
        records: Records::new(cache.join("changelogs")),
        limits: *limits,
        started,
        barren: AtomicUsize::new(0),
        cancel: cancel.clone(),
    });
    let mut learned = BTreeMap::new();
    let mut tally = Tally { sources: sources.len(), ..Tally::default() };
    let mut open: Vec<Pursuit> = sources
        .iter()
        .map(|(key, source)| Pursuit {
            key: key.clone(),
            security: source.security,
            carriers: source.carriers.clone(),
            tried: 0,
        })
        .collect();
    while !open.is_empty() {
        let mut round = Round { shared: &shared, tally: &mut tally, learned: &mut learned, tell, total: sources.len() };
        open = round.run(open).await?;
    }
    tally.known = learned.values().filter(|what| matches!(what, Learned::Entries(_))).count();
    Ok((learned, tally))
}

struct Shared {
    exec: HostExec,
    debs: DebCache,
    records: Records,
    limits: Limits,
    started: Instant,
    barren: AtomicUsize,
    cancel: CancellationToken,
}

/// What became of one carrier.
enum Got {
    Says(Says),
    Reason(String),
}

impl Shared {
    /// What the .deb says, if it is on record or cached; `bool` tells whether it was on record.
    fn at_hand(&self, carrier: &Carrier) -> Option<(Got, bool)> {
        if let Some(says) = self.records.get(&carrier.sha256) {
            return Some((Got::Says(says), true));
        }
        self.debs.adopt_from_archives(&self.exec, std::slice::from_ref(carrier));
        self.debs.has(&carrier.sha256).then(|| (self.read(carrier), false))
    }

    fn read(&self, carrier: &Carrier) -> Got {
        let file = self.debs.path(&carrier.sha256);
        match self.records.read(&file, &carrier.name, &carrier.sha256) {
            Ok(says) => Got::Says(says),
            Err(why) => Got::Reason(format!("the package {} could not be read: {why}", carrier.name)),
        }
    }

    /// Downloads and reads one batch.
    async fn batch(self: Arc<Self>, wanted: Vec<(usize, Carrier)>) -> Result<Vec<(usize, Got, u64)>, Error> {
        let give_up =
            |why: &str| Ok(wanted.iter().map(|(at, _)| (*at, Got::Reason(why.to_owned()), 0)).collect::<Vec<_>>());
        if self.barren.load(Ordering::Relaxed) >= BARREN_MAX {
            return give_up("no way to the archive: several downloads in a row brought nothing");
        }
        if self.started.elapsed() > self.limits.total {
            return give_up("the time for downloads was over");
        }
        let carriers: Vec<Carrier> = wanted.iter().map(|(_, carrier)| carrier.clone()).collect();
        let count = u32::try_from(carriers.len()).unwrap_or(u32::MAX);
        let timeout = self.limits.download.saturating_mul(count).min(self.limits.total);
        let reasons = self.debs.download(&self.exec, &carriers, timeout, &self.cancel).await?;
        let came = carriers.iter().filter(|carrier| self.debs.has(&carrier.sha256)).count();
        if came == 0 {
            self.barren.fetch_add(1, Ordering::Relaxed);
        } else {
            self.barren.store(0, Ordering::Relaxed);
        }
        let reason = reasons.into_iter().next().unwrap_or_else(|| "apt did not bring it".to_owned());
        let this = Arc::clone(&self);
        let read = tokio::task::spawn_blocking(move || {
            let each = |(at, carrier): (usize, Carrier)| match this.debs.has(&carrier.sha256) {
                true => (at, this.read(&carrier), carrier.size_bytes),
                false => (at, Got::Reason(format!("not downloaded ({reason})")), 0),
            };
            wanted.into_iter().map(each).collect()
        });
        read.await.map_err(|error| Error::Failed {
            command: "reading packages".to_owned(),
            place: "the cache".to_owned(),
            reason: error.to_string(),
        })
    }
}

/// One carrier per open source.
struct Round<'a> {
    shared: &'a Arc<Shared>,
    tally: &'a mut Tally,
    learned: &'a mut BTreeMap<Key, Learned>,
    tell: &'a (dyn Fn(f64, String) + Sync),
    total: usize,
}

impl Round<'_> {
    /// Tries one carrier of each; gives back those that must try another.
    async fn run(&mut self, open: Vec<Pursuit>) -> Result<Vec<Pursuit>, Error> {
        let mut again = Vec::new();
        let mut wanted = Vec::new();
        for (pursuit, got) in self.look_at_hand(open).await? {
            match (pursuit.next().cloned(), got) {
                (None, _) => {
                    let why = match pursuit.tried {
                        0 => "its index names no hash to download it by",
                        _ => "its packages ship no Debian changelog",
                    };
                    self.learned.insert(pursuit.key, Learned::Unknown(why.to_owned()));
                }
                (Some(_), Some((got, on_record))) => {
                    self.tally.from_cache += usize::from(on_record);
                    again.extend(self.settle(pursuit, got));
                }
                (Some(carrier), None) => wanted.push((pursuit, carrier)),
            }
        }
        // Security first; then small ones first, so that a budget reaches far.
        wanted.sort_by_key(|(pursuit, carrier)| (!pursuit.security, carrier.size_bytes));
        again.extend(self.download(wanted).await?);
        Ok(again)
    }

    async fn look_at_hand(&self, open: Vec<Pursuit>) -> Result<Vec<(Pursuit, Option<(Got, bool)>)>, Error> {
        let shared = Arc::clone(self.shared);
        let look = move |pursuit: Pursuit| {
            let got = pursuit.next().and_then(|carrier| shared.at_hand(carrier));
            (pursuit, got)
        };
        let looked = tokio::task::spawn_blocking(move || open.into_iter().map(look).collect()).await;
        looked.map_err(|error| Error::Failed {
            command: "reading packages".to_owned(),
            place: "the cache".to_owned(),
            reason: error.to_string(),
        })
    }

    async fn download(&mut self, wanted: Vec<(Pursuit, Carrier)>) -> Result<Vec<Pursuit>, Error> {
        let limits = self.shared.limits;
        let mut again = Vec::new();
        let mut chosen: Vec<Option<Pursuit>> = Vec::new();
        let mut queue: Vec<(usize, Carrier)> = Vec::new();
        let mut bytes = self.tally.downloaded_bytes;
        for (pursuit, carrier) in wanted {
            let refused = if limits.offline {
                Some("not in the cache, and offline was asked for".to_owned())
            } else if bytes.saturating_add(carrier.size_bytes) > limits.bytes_max {
                Some(format!("the budget of {} MiB for downloads was used up", limits.bytes_max >> 20))
            } else {
                None
            };
            match refused {
                Some(why) => {
                    self.learned.insert(pursuit.key, Learned::Unknown(why));
                }
                None => {
                    bytes = bytes.saturating_add(carrier.size_bytes);
                    queue.push((chosen.len(), carrier));
                    chosen.push(Some(pursuit));
                }
            }
        }
        let lanes = limits.parallel.max(1);
        let size = queue.len().div_ceil(lanes * 2).clamp(1, BATCH_MAX);
        let slots = Arc::new(Semaphore::new(lanes));
        let mut running = JoinSet::new();
        for batch in queue.chunks(size) {
            let (shared, slots, batch) = (Arc::clone(self.shared), Arc::clone(&slots), batch.to_vec());
            running.spawn(async move {
                // The semaphore is never closed; were it, the batch would just run at once.
                let _slot = slots.acquire_owned().await.ok();
                shared.batch(batch).await
            });
        }
        while let Some(done) = running.join_next().await {
            let done = done.unwrap_or_else(|error| {
                let (command, place) = ("downloading".to_owned(), "the cache".to_owned());
                Err(Error::Failed { command, place, reason: error.to_string() })
            })?;
            for (at, got, size_bytes) in done {
                if size_bytes > 0 {
                    self.tally.downloaded += 1;
                    self.tally.downloaded_bytes = self.tally.downloaded_bytes.saturating_add(size_bytes);
                }
                if let Some(pursuit) = chosen.get_mut(at).and_then(Option::take) {
                    again.extend(self.settle(pursuit, got));
                }
            }
        }
        Ok(again)
    }

    /// Takes in what one carrier gave; gives the source back when another carrier must be tried.
    fn settle(&mut self, mut pursuit: Pursuit, got: Got) -> Option<Pursuit> {
        pursuit.tried += 1;
        let learned = match got {
            Got::Says(Says::Entries(entries)) => Learned::Entries(entries),
            Got::Says(Says::Sibling(sibling)) => {
                pursuit.prefer(&sibling);
                return Some(pursuit);
            }
            Got::Says(Says::Nothing) => return Some(pursuit),
            Got::Reason(why) => Learned::Unknown(why),
        };
        self.learned.insert(pursuit.key, learned);
        let done = self.learned.len();
        let part = f64::from(u32::try_from(done).unwrap_or(u32::MAX));
        let whole = f64::from(u32::try_from(self.total.max(1)).unwrap_or(u32::MAX));
        (self.tell)(part / whole, format!("{done} of {} changelogs read", self.total));
        None
    }
}
