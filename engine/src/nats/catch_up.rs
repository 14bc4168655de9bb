//! Brings the copy of a journal in a data directory up to its stream, and refuses a stream that lost what the copy has.

use std::path::{Path, PathBuf};

use patchloom_core::record::Term;
use serde::Deserialize;

use super::journal::NatsJournal;
use super::mirror::MirroredJournal;
use super::snapshots::NatsSnapshots;
use super::stream_error::{StreamError, chain};
use crate::datadir::DataDir;
use crate::disk::RealDisk;
use crate::journal::{AppendError, EmbeddedJournal, Error, Head, Journal, Options, RecordReader};
use crate::snapshot::{self, Snapshots};

/// What catching up did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaughtUp {
    /// How many records were copied.
    pub copied: u64,
    /// What was put aside or begun anew, for people.
    pub notes: Vec<String>,
}

/// Makes the journal in `dir` a copy of `nats`, up to the head that `nats` knows, before an engine opens the directory.
///
/// # Errors
/// [`StreamError::Lost`] where the copy has more than the stream, or something else: the broker lost or changed what it had
/// acknowledged, and [`reseed`] gives it back. [`StreamError::Unfit`] where the directory holds another journal.
/// [`StreamError::NoSnapshot`] where the stream was trimmed beyond the copy and nothing stands in for what is gone.
pub async fn catch_up(nats: NatsJournal, dir: &DataDir) -> Result<(MirroredJournal, CaughtUp), Error> {
    let mut done = CaughtUp::default();
    let local = match existing(&nats, dir) {
        Ok(Some(local)) if agrees(&nats, local.head()).await? => Some(local),
        Ok(Some(local)) => {
            local.close().await;
            done.notes.push(put_aside(dir, "it ends before the first record that the stream still has")?);
            None
        }
        Ok(None) => None,
        Err(error @ Error::Damaged { .. }) => {
            done.notes.push(put_aside(dir, &error.to_string())?);
            None
        }
        Err(error) => return Err(error),
    };
    let local = match local {
        Some(local) => local,
        None => begin(&nats, dir, &mut done.notes).await?,
    };
    let snapshots = Snapshots::open(RealDisk, &dir.snapshots(), nats.semantics()).map_err(unreadable(&nats))?;
    let mut mirror = MirroredJournal::new(nats, local, snapshots);
    done.copied = mirror.copy_missing(&mut |_| {}).await?;
    Ok((mirror, done))
}

/// Gives back to the stream what the copy in `dir` has more, each record fenced and under its link of the chain. Returns
/// how many records that were.
///
/// A stream that lost everything begins again as the journal that the copy is of.
///
/// # Errors
/// [`StreamError::Lost`] where the stream holds records that the copy does not: which of the two is right, a person has to
/// say. [`StreamError::Unfit`] where the copy is of another journal, or begins behind the end of the stream.
pub async fn reseed(nats: &mut NatsJournal, dir: &DataDir) -> Result<u64, Error> {
    let local = journal_in(nats, dir)?.ok_or_else(|| unfit(nats, "the data directory holds no journal".to_owned()))?;
    let (journal, opened) = local;
    if opened.id != nats.id() && nats.head().seq > 0 {
        return Err(other_journal(nats, dir, opened.id));
    }
    if nats.head().seq == 0 {
        begin_again(nats, dir, &journal, opened.id).await?;
    }
    let known = journal.head();
    let end = nats.head();
    if end.seq + 1 < journal.first() || end.seq > known.seq {
        let reason = format!("it ends at record {}, the copy holds {} to {}", end.seq, journal.first(), known.seq);
        return Err(unfit(nats, reason));
    }
    let mut reader = journal.read_from(end.seq.max(journal.first())).await?;
    let (mut count, mut term) = (0, nats.term());
    while let Some(record) = reader.next().await? {
        if record.seq == end.seq {
            if record.hash != end.hash {
                let found = format!("has another record {}", end.seq);
                return Err(StreamError::Lost { stream: nats.stream().to_owned(), found, known }.into());
            }
            continue;
        }
        term = term_of(&record.payload).unwrap_or(term);
        let appended = nats.append_as(record.payload, record.semantics, term).await.map_err(refused(nats))?;
        if (appended.seq, appended.hash) != (record.seq, record.hash) {
            let reason = format!("record {} of the copy became record {} of it", record.seq, appended.seq);
            return Err(unfit(nats, reason));
        }
        count += 1;
    }
    Ok(count)
}

/// Makes a stream that lost everything that of the copy's journal, with the snapshots that stand for what was trimmed.
async fn begin_again(
    nats: &mut NatsJournal,
    dir: &DataDir,
    journal: &EmbeddedJournal,
    id: [u8; 16],
) -> Result<(), Error> {
    let first = journal.first();
    if first > 1 {
        let remote = NatsSnapshots::open(&nats.context, nats.partition(), nats.replicas()).await?;
        let local = Snapshots::open(RealDisk, &dir.snapshots(), nats.semantics()).map_err(unreadable(nats))?;
        let seqs = local.list().map_err(unreadable(nats))?;
        // The first record only holds the link that the next one builds on: a snapshot must have it.
        if seqs.last().is_none_or(|newest| *newest < first) {
            return Err(StreamError::NoSnapshot { stream: nats.stream().to_owned(), first }.into());
        }
        for seq in seqs {
            remote.upload(seq, &local.path_of(seq)).await?;
        }
    }
    Ok(nats.adopt(id, crate::journal::begins_after(&dir.journal())?).await?)
}

/// The copy in `dir`, where there is one of this journal.
fn existing(nats: &NatsJournal, dir: &DataDir) -> Result<Option<EmbeddedJournal>, Error> {
    let Some((local, opened)) = journal_in(nats, dir)? else { return Ok(None) };
    if opened.id != nats.id() {
        return Err(other_journal(nats, dir, opened.id));
    }
    Ok(Some(local))
}

fn journal_in(nats: &NatsJournal, dir: &DataDir) -> Result<Option<(EmbeddedJournal, crate::journal::Opened)>, Error> {
    if !crate::journal::is_in(&dir.journal())? {
        return Ok(None);
    }
    let options = Options { durable: false, ..Options::new(nats.semantics()) };
    EmbeddedJournal::open(&dir.journal(), options).map(Some)
}

/// Whether a copy that ends at `known` can go on there; an error where the stream does not hold what the copy has.
pub(super) async fn agrees(nats: &NatsJournal, known: Head) -> Result<bool, Error> {
    let end = nats.head();
    let lost = |found: String| StreamError::Lost { stream: nats.stream().to_owned(), found, known };
    if known.seq > end.seq {
        return Err(lost(format!("ends at record {}", end.seq)).into());
    }
    if known.seq + 1 < nats.first() {
        return Ok(false);
    }
    if known.seq > 0 {
        let link = nats.link(known.seq).await?;
        if link.is_some_and(|link| link != known.hash) {
            return Err(lost(format!("has another record {}", known.seq)).into());
        }
    }
    Ok(true)
}

/// Begins the copy: at the first record, or behind the newest sound snapshot where the stream was trimmed.
async fn begin(nats: &NatsJournal, dir: &DataDir, notes: &mut Vec<String>) -> Result<EmbeddedJournal, Error> {
    let begins_after = if nats.first() > 1 { snapshot(nats, dir, notes).await? } else { Head::default() };
    let semantics = nats.semantics();
    let options = Options { id_if_new: nats.id(), begins_after, durable: false, ..Options::new(semantics) };
    Ok(EmbeddedJournal::open(&dir.journal(), options)?.0)
}

/// Copies the newest sound snapshot into the data directory; what it is of.
async fn snapshot(nats: &NatsJournal, dir: &DataDir, notes: &mut Vec<String>) -> Result<Head, Error> {
    let remote = NatsSnapshots::open(&nats.context, nats.partition(), nats.replicas()).await?;
    let local = Snapshots::open(RealDisk, &dir.snapshots(), nats.semantics()).map_err(unreadable(nats))?;
    let fits = nats.first() - 1..=nats.head().seq;
    for seq in remote.list().await?.into_iter().rev().filter(|seq| fits.contains(seq)) {
        remote.download(seq, &dir.snapshots()).await?;
        let about = match local.get(seq) {
            Ok(found) => found.about,
            Err(error @ snapshot::Error::Damaged { .. }) => {
                notes.push(format!("snapshot: {error}"));
                continue;
            }
            Err(error) => return Err(unreadable(nats)(error)),
        };
        let link = nats.link(seq).await?;
        if about.journal == nats.id() && about.head.seq == seq && link == Some(about.head.hash) {
            notes.push(format!("journal: begun behind the snapshot of record {seq}, which the object store had"));
            return Ok(about.head);
        }
        notes.push(format!("snapshot: that of record {seq} in the object store is not of this journal"));
    }
    Err(StreamError::NoSnapshot { stream: nats.stream().to_owned(), first: nats.first() }.into())
}

/// Moves the journal of a data directory out of the way, and says where it lies.
fn put_aside(dir: &DataDir, reason: &str) -> Result<String, Error> {
    let from = dir.journal();
    let free = |number: &u32| !aside(&from, *number).exists();
    let to = aside(&from, (1..u32::MAX).find(free).unwrap_or(u32::MAX));
    std::fs::rename(&from, &to).map_err(|source| Error::Io { attempt: "put aside", path: from.clone(), source })?;
    Ok(format!("journal: the copy is made anew, {reason}; the former one lies in {}", to.display()))
}

fn aside(journal: &Path, number: u32) -> PathBuf {
    journal.with_extension(format!("aside-{number}"))
}

/// The term that a record opens, where it does.
fn term_of(payload: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Opens {
        term: Option<Term>,
    }
    serde_json::from_slice::<Opens>(payload).ok()?.term.map(|term| term.number)
}

fn unfit(nats: &NatsJournal, reason: String) -> Error {
    StreamError::Unfit { stream: nats.stream().to_owned(), reason }.into()
}

fn other_journal(nats: &NatsJournal, dir: &DataDir, id: [u8; 16]) -> Error {
    let (ours, theirs) = (uuid::Uuid::from_bytes(id), uuid::Uuid::from_bytes(nats.id()));
    unfit(nats, format!("it is the journal {theirs}, and {} holds the journal {ours}", dir.path().display()))
}

fn unreadable(nats: &NatsJournal) -> impl Fn(snapshot::Error) -> Error {
    let stream = nats.stream().to_owned();
    move |error| StreamError::Unfit { stream: stream.clone(), reason: chain(&error) }.into()
}

fn refused(nats: &NatsJournal) -> impl Fn(AppendError) -> Error {
    let stream = nats.stream().to_owned();
    move |error| {
        let (stream, reason) = (stream.clone(), chain(&error));
        if error.is_transient() {
            StreamError::Unavailable { attempt: "give records back to", stream, reason }.into()
        } else {
            StreamError::Unfit { stream, reason }.into()
        }
    }
}
