//! The built-in change register: one JSON document per change request in a directory.
//!
//! The engine's worker and a person at a command line use it at the same time, from different processes: every write
//! happens under a file lock and replaces a document as a whole. What a change may do is the domain's matter alone.

mod evidence;
mod file;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use patchloom_domain::{
    Actor, Applied, ChangeRequest, ChangeState, CloseCode, Command, Draft, EvidenceFact, EvidenceSeal, Instant,
    NextState, Order, PlanDigest, Refused,
};

/// How long a writer waits for another one.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Why the register could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such change.
    #[error("there is no change {number} in {}", dir.display())]
    NotFound {
        /// What was asked for.
        number: String,
        /// Where.
        dir: PathBuf,
    },
    /// A document that cannot be read as a change. The others stay usable.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process writes and does not end.
    #[error("another process has held {} for {}s", path.display(), LOCK_WAIT.as_secs())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What we tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The change refused the order.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Error {
    /// Its page in docs/errors.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::NotFound { .. } => "E0604",
            Self::Damaged { .. } => "E0605",
            Self::Busy { .. } => "E0606",
            Self::Io { .. } => "E0607",
            Self::Refused(refused) => &refused.code,
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Io { .. })
    }
}

/// All changes, and the documents that could not be read.
#[derive(Debug, Default)]
pub struct Listing {
    /// By number.
    pub changes: Vec<ChangeRequest>,
    /// One [`Error::Damaged`] or [`Error::Io`] per unreadable document.
    pub damaged: Vec<Error>,
}

/// The register in one directory.
///
/// # Durability
/// A call that returned is on disk: document, name and index are synced before the lock is let go.
#[derive(Clone, Debug)]
pub struct Register {
    dir: PathBuf,
}

impl Register {
    /// The register in `dir`, which is made where it is missing.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be made.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let register = Self { dir: dir.to_owned() };
        let index = register.index_dir();
        std::fs::create_dir_all(&index).map_err(file::io_error("create", &index))?;
        Ok(register)
    }

    /// Every change, by number. A damaged document is reported beside the others.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be read.
    pub fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for number in self.numbers()? {
            match self.get(&file::number_text(number)) {
                Ok(change) => listing.changes.push(change),
                Err(error) => listing.damaged.push(error),
            }
        }
        Ok(listing)
    }

    /// One change.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::Io`].
    pub fn get(&self, number: &str) -> Result<ChangeRequest, Error> {
        let not_found = || Error::NotFound { number: number.to_owned(), dir: self.dir.clone() };
        // The number comes from outside and becomes part of a path: only its own canonical text does.
        let known = file::parse_number(number).map(file::number_text).filter(|text| text == number);
        let path = self.document(&known.ok_or_else(not_found)?);
        file::read_change(&path, number)?.ok_or_else(not_found)
    }

    /// The change that was opened for `correlation_id`.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn find(&self, correlation_id: &str) -> Result<Option<ChangeRequest>, Error> {
        let path = self.index_entry(correlation_id);
        if let Some(number) = file::read_text(&path)? {
            match self.get(number.trim()) {
                // An index entry that leads nowhere is as good as none.
                Err(Error::NotFound { .. }) => {}
                found => return found.map(Some),
            }
        }
        // A crash between document and index can only have hit the last document: writers hold the lock.
        let last = self.numbers()?.last().and_then(|&number| self.get(&file::number_text(number)).ok());
        Ok(last.filter(|change| change.correlation_id == correlation_id))
    }

    /// The change of `correlation_id`: opened with `draft` in state New unless it is there already.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Damaged`] (of this very change), [`Error::Io`].
    pub fn ensure_change(&self, correlation_id: &str, draft: Draft, at: Instant) -> Result<ChangeRequest, Error> {
        let _lock = self.lock()?;
        let change = match self.find(correlation_id)? {
            Some(change) => change,
            None => {
                let number = self.numbers()?.last().copied().unwrap_or(0).saturating_add(1);
                let change = ChangeRequest::open(file::number_text(number), correlation_id.to_owned(), draft, at);
                evidence::append(&self.dir, &change.number, vec![evidence::of_opening(&change)])?;
                file::write_change(&self.document(&change.number), &change)?;
                change
            }
        };
        let entry = self.index_entry(correlation_id);
        if file::read_text(&entry)?.is_none_or(|number| number.trim() != change.number) {
            file::write(&entry, change.number.as_bytes())?;
        }
        Ok(change)
    }

    /// Gives a change an order. One that was carried out before changes nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] by the change, and all of [`Register::get`] and [`Error::Busy`].
    pub fn apply(&self, number: &str, order: &Order) -> Result<Applied, Error> {
        let _lock = self.lock()?;
        let mut applied = self.get(number)?.apply(order)?;
        if !applied.events.is_empty() {
            // First the evidence: what a crash leaves behind is an order without its effect, never an effect without
            // its order.
            let seal = evidence::append(&self.dir, number, vec![evidence::of_order(&applied.change, order)])?;
            seal_on(&mut applied.change, seal);
            file::write_change(&self.document(number), &applied.change)?;
        }
        Ok(applied)
    }

    /// Writes facts about a change as evidence, each key once; a change that is over is sealed anew.
    ///
    /// # Errors
    /// As [`Register::get`], and [`Error::Busy`].
    pub fn witness(&self, number: &str, facts: Vec<EvidenceFact>) -> Result<(), Error> {
        let _lock = self.lock()?;
        let mut change = self.get(number)?;
        let seal = evidence::append(&self.dir, number, facts)?;
        let before = change.evidence.clone();
        seal_on(&mut change, seal);
        if change.evidence != before {
            file::write_change(&self.document(number), &change)?;
        }
        Ok(())
    }

    /// A change and all its evidence as it lies on disk, of one moment.
    ///
    /// # Errors
    /// As [`Register::get`], and [`Error::Busy`].
    pub fn evidence(&self, number: &str) -> Result<(ChangeRequest, Vec<u8>), Error> {
        let _lock = self.lock()?;
        Ok((self.get(number)?, evidence::read(&self.dir, number)?))
    }

    /// What may follow, and what it takes.
    ///
    /// # Errors
    /// As [`Register::get`].
    pub fn next_states(&self, number: &str, now: Instant) -> Result<Vec<NextState>, Error> {
        Ok(self.get(number)?.next_states(now))
    }

    /// Brings a change to `to`; one that is there or beyond stays as it is.
    ///
    /// # Errors
    /// As [`Register::apply`].
    pub fn advance(&self, number: &str, to: ChangeState, by: &Actor, at: Instant) -> Result<ChangeRequest, Error> {
        self.order(number, by, at, Command::Advance(to))
    }

    /// Writes a work note; the same key is written once.
    ///
    /// # Errors
    /// As [`Register::apply`].
    pub fn note(&self, number: &str, by: &Actor, at: Instant, text: &str, key: &str) -> Result<ChangeRequest, Error> {
        self.order(number, by, at, Command::Note { text: text.to_owned(), key: key.to_owned() })
    }

    /// Approves the plan that `digest` names; `None` takes the plan that the change holds.
    ///
    /// # Errors
    /// As [`Register::apply`]: refused to the requester, and for any other plan than the present one.
    pub fn approve(
        &self,
        number: &str,
        by: &Actor,
        at: Instant,
        digest: Option<&PlanDigest>,
        comment: Option<&str>,
    ) -> Result<ChangeRequest, Error> {
        let digest = match digest {
            Some(digest) => digest.clone(),
            None => self.get(number)?.draft.digest,
        };
        self.order(number, by, at, Command::Approve { digest, comment: comment.map(str::to_owned) })
    }

    /// Rejects the present plan.
    ///
    /// # Errors
    /// As [`Register::apply`]: refused without a comment.
    pub fn reject(&self, number: &str, by: &Actor, at: Instant, comment: &str) -> Result<ChangeRequest, Error> {
        self.order(number, by, at, Command::Reject { comment: comment.to_owned() })
    }

    /// Closes a change that is in Review.
    ///
    /// # Errors
    /// As [`Register::apply`]: refused when the code does not tell the truth about its hosts.
    pub fn close(
        &self,
        number: &str,
        by: &Actor,
        at: Instant,
        code: CloseCode,
        notes: &str,
    ) -> Result<ChangeRequest, Error> {
        self.order(number, by, at, Command::Close { code, notes: notes.to_owned() })
    }

    fn order(&self, number: &str, by: &Actor, at: Instant, command: Command) -> Result<ChangeRequest, Error> {
        Ok(self.apply(number, &Order { by: by.clone(), at, command })?.change)
    }

    fn lock(&self) -> Result<std::fs::File, Error> {
        file::lock(&self.dir.join(".lock"), LOCK_WAIT)
    }

    fn numbers(&self) -> Result<Vec<u64>, Error> {
        file::numbers(&self.dir)
    }

    fn document(&self, number: &str) -> PathBuf {
        self.dir.join(format!("{number}.json"))
    }

    fn index_dir(&self) -> PathBuf {
        self.dir.join("by-correlation")
    }

    fn index_entry(&self, correlation_id: &str) -> PathBuf {
        self.index_dir().join(file::index_name(correlation_id))
    }
}

/// A change that is over says how far its evidence goes.
fn seal_on(change: &mut ChangeRequest, seal: EvidenceSeal) {
    change.evidence = change.state.is_final().then_some(seal);
}
