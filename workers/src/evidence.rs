//! A bundle of evidence: all that proves what one change did, in one file that can be checked without us.
//!
//! A tar with a fixed order, fixed names and no times in it, packed with zstd: the same change gives the same bytes.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use patchloom_domain::{
    ChangeRequest, EvidenceChain, EvidenceError, EvidenceSeal, Plan, read_evidence, sha256_hex, verify_evidence,
};
use serde::{Deserialize, Serialize};

use crate::artifact::{ArtifactError, ArtifactId, ArtifactStore};
use crate::register::{self, Register};

/// A bundle that would be larger when unpacked is refused.
pub const BUNDLE_BYTES_MAX: u64 = 2 << 30;
/// How hard zstd tries; part of what makes the bytes the same.
const LEVEL: i32 = 9;
const MANIFEST: &str = "manifest.json";
const CHANGE: &str = "change.json";
const ENTRIES: &str = "entries.jsonl";
const PLAN: &str = "plan.json";
const SIGNATURE: &str = "signature.json";

/// What could not be bundled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The register has no such change, or it cannot be read.
    #[error(transparent)]
    Register(#[from] register::Error),
    /// The evidence is not sound: what is not sound is not exported as if it were.
    #[error("the evidence of {change} is not sound")]
    Unsound {
        /// The change.
        change: String,
        /// What is wrong.
        #[source]
        source: EvidenceError,
    },
    /// An artifact that an entry names cannot be had.
    #[error("entry {seq} names an artifact that cannot be had")]
    Artifact {
        /// Which entry.
        seq: u64,
        /// Why.
        #[source]
        source: ArtifactError,
    },
    /// The packing failed.
    #[error("the bundle cannot be packed")]
    Pack(#[source] std::io::Error),
}

impl Error {
    /// Its page in docs/errors.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Register(error) => error.code(),
            Self::Unsound { .. } => "E0872",
            Self::Artifact { source, .. } => source.code(),
            Self::Pack(_) => "E0871",
        }
    }
}

/// What is wrong with a bundle: where, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct Damage {
    /// The file in the bundle, or `bundle`.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
}

fn damage(place: &str, reason: impl ToString) -> Damage {
    Damage { place: place.to_owned(), reason: reason.to_string() }
}

/// What a bundle holds, and what it was when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Which way of bundling.
    pub format: u32,
    /// The change.
    pub change: String,
    /// How far its evidence went.
    pub evidence: EvidenceSeal,
    /// Whether the change was over, and its evidence sealed on it.
    pub sealed: bool,
    /// Every other file with its SHA-256 in hex.
    pub files: BTreeMap<String, String>,
}

/// Who vouches for a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The public key, as nkeys writes it.
    pub key: String,
    /// The signature of the bytes of the manifest, in hex.
    pub signature: String,
}

/// A bundle that is sound.
#[derive(Clone, Debug)]
pub struct Sound {
    /// Its manifest.
    pub manifest: Manifest,
    /// The bytes that a signature is of.
    pub signed: Vec<u8>,
    /// The signature, where there is one. It is not checked here.
    pub signature: Option<Signature>,
    /// The change.
    pub change: ChangeRequest,
    /// Its evidence.
    pub chain: EvidenceChain,
}

/// Bundles the evidence of a change; `sign` is given the bytes of the manifest.
///
/// # Errors
/// [`Error`]: evidence that is not sound, or artifacts that are gone.
pub fn export(
    register: &Register,
    artifacts: &ArtifactStore,
    number: &str,
    sign: impl FnOnce(&[u8]) -> Option<Signature>,
) -> Result<Vec<u8>, Error> {
    let (change, text) = register.evidence(number)?;
    let unsound = |source| Error::Unsound { change: number.to_owned(), source };
    let chain = verify_evidence(&change, &text).map_err(unsound)?;
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for entry in &chain.entries {
        for id in entry.fact.output.iter().filter_map(|id| id.parse::<ArtifactId>().ok()) {
            let bytes = artifacts.get(&id).map_err(|source| Error::Artifact { seq: entry.seq, source })?;
            files.insert(name_of(&id), bytes);
        }
    }
    let plan = change.draft.plan.as_ref().and_then(|id| id.parse::<ArtifactId>().ok());
    if let Some(id) = plan {
        files.insert(PLAN.to_owned(), artifacts.get(&id).map_err(|source| Error::Artifact { seq: 1, source })?);
    }
    files.insert(CHANGE.to_owned(), json(&change));
    files.insert(ENTRIES.to_owned(), text);
    let manifest = Manifest {
        format: 1,
        change: change.number.clone(),
        evidence: chain.seal(),
        sealed: change.evidence.is_some(),
        files: files.iter().map(|(name, bytes)| (name.clone(), sha256_hex(bytes))).collect(),
    };
    let manifest = json(&manifest);
    if let Some(signature) = sign(&manifest) {
        files.insert(SIGNATURE.to_owned(), json(&signature));
    }
    files.insert(MANIFEST.to_owned(), manifest);
    pack(&files).map_err(Error::Pack)
}

fn name_of(id: &ArtifactId) -> String {
    format!("artifacts/{}", id.hex())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings, numbers and lists have a JSON form")
}

fn pack(files: &BTreeMap<String, Vec<u8>>) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        header.set_mode(0o644);
        header.set_mtime(0);
        tar.append_data(&mut header, name, bytes.as_slice())?;
    }
    let tar = tar.into_inner()?;
    let mut packer = zstd::bulk::Compressor::new(LEVEL)?;
    packer.include_checksum(true)?;
    packer.include_contentsize(true)?;
    packer.compress(&tar)
}

/// Checks a bundle with nothing but the bundle.
///
/// It is sound only where it is byte for byte what its files give when they are bundled, so that nothing can hide between
/// them. One that was packed by another version of zstd, or packed again, is taken with `repacked`.
///
/// # Errors
/// The first damage, with its place.
pub fn verify(bundle: &[u8], repacked: bool) -> Result<Sound, Damage> {
    let files = unpack(bundle)?;
    let again = pack(&files).map_err(|error| damage("bundle", error))?;
    if again != bundle && !repacked {
        let reason = "it is not packed as bundles are: it was altered, or packed again (then verify with --repacked)";
        return Err(damage("bundle", reason));
    }
    let file = |name: &str| files.get(name).ok_or_else(|| damage(name, "it is missing"));
    let signed = file(MANIFEST)?.clone();
    let manifest: Manifest = exact(MANIFEST, &signed)?;
    if manifest.format != 1 {
        return Err(damage(MANIFEST, format!("it has format {}, this version reads format 1", manifest.format)));
    }
    let signature = files.get(SIGNATURE).map(|bytes| exact(SIGNATURE, bytes)).transpose()?;
    check_files(&manifest, &files)?;
    let change: ChangeRequest = exact(CHANGE, file(CHANGE)?)?;
    if change.number != manifest.change {
        return Err(damage(CHANGE, format!("it is {}, the manifest is of {}", change.number, manifest.change)));
    }
    let text = file(ENTRIES)?;
    // First by themselves: so that what is wrong with them is told before what the change says of them.
    read_evidence(&change.number, text).map_err(|error| damage(ENTRIES, error))?;
    let chain = verify_evidence(&change, text).map_err(|error| damage(CHANGE, error))?;
    if chain.seal() != manifest.evidence || manifest.sealed != change.evidence.is_some() {
        return Err(damage(MANIFEST, "it does not say how far the evidence goes"));
    }
    check_artifacts(&change, &chain, &files)?;
    Ok(Sound { manifest, signed, signature, change, chain })
}

fn unpack(bundle: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, Damage> {
    let bad = |error: std::io::Error| damage("bundle", format!("it cannot be unpacked: {error}"));
    let mut tar = Vec::new();
    let stream = zstd::stream::read::Decoder::new(bundle).map_err(bad)?;
    stream.take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut tar).map_err(bad)?;
    if u64::try_from(tar.len()).unwrap_or(u64::MAX) > BUNDLE_BYTES_MAX {
        return Err(damage("bundle", format!("it is larger than {BUNDLE_BYTES_MAX} bytes when unpacked")));
    }
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(tar.as_slice()).entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(bad)?;
        if files.insert(name.clone(), bytes).is_some() {
            return Err(damage(&name, "it is there twice"));
        }
    }
    Ok(files)
}

/// A file of JSON that is written exactly as we write it.
fn exact<T: Serialize + for<'a> Deserialize<'a>>(name: &str, bytes: &[u8]) -> Result<T, Damage> {
    let value: T = serde_json::from_slice(bytes).map_err(|error| damage(name, error))?;
    if json(&value) == bytes { Ok(value) } else { Err(damage(name, "it is not written as such files are")) }
}

fn check_files(manifest: &Manifest, files: &BTreeMap<String, Vec<u8>>) -> Result<(), Damage> {
    for (name, digest) in &manifest.files {
        let bytes = files.get(name).ok_or_else(|| damage(name, "the manifest names it, and it is missing"))?;
        if sha256_hex(bytes) != *digest {
            return Err(damage(name, "its content is not what the manifest says"));
        }
    }
    let extra = |name: &&String| !manifest.files.contains_key(*name) && *name != MANIFEST && *name != SIGNATURE;
    files.keys().find(extra).map_or(Ok(()), |name| Err(damage(name, "the manifest does not name it")))
}

/// The plan is the one that was approved, and every artifact is there, is what its name says, and is named.
fn check_artifacts(
    change: &ChangeRequest,
    chain: &EvidenceChain,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<(), Damage> {
    let mut named: BTreeSet<String> = [CHANGE, ENTRIES, PLAN, MANIFEST, SIGNATURE].map(str::to_owned).into();
    for entry in &chain.entries {
        for id in entry.fact.output.iter().filter_map(|id| id.parse::<ArtifactId>().ok()) {
            let name = name_of(&id);
            let bytes = files.get(&name);
            let bytes =
                bytes.ok_or_else(|| damage(&name, format!("entry {} names it, and it is missing", entry.seq)))?;
            if ArtifactId::of(bytes) != id {
                return Err(damage(&name, "its content is not what its name says"));
            }
            named.insert(name);
        }
    }
    if let Some(name) = files.keys().find(|name| !named.contains(*name)) {
        return Err(damage(name, "no entry names it"));
    }
    if let Some(id) = &change.draft.plan {
        let bytes = files.get(PLAN).ok_or_else(|| damage(PLAN, "it is missing"))?;
        let plan: Plan = serde_json::from_slice(bytes).map_err(|error| damage(PLAN, error))?;
        if ArtifactId::of(bytes).as_str() != id || plan.digest() != change.draft.digest {
            return Err(damage(PLAN, "it is not the plan of the change"));
        }
    }
    Ok(())
}
