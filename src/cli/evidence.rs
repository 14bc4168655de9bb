//! `patchloom evidence`: what proves what a change did, taken out as one file and checked.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use nkeys::KeyPair;
use patchloom_workers::aws::{Aws, Place};
use patchloom_workers::evidence::{self, BUNDLE_BYTES_MAX, Signature, Sound};
use patchloom_workers::runtime::DataDir;
use serde_json::json;

use super::{AwsArgs, Context, aws, change, explain};
use crate::fault::{Exit, Fault};

/// Works with the evidence of changes.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum EvidenceCommand {
    /// Write all that proves what a change did into one file
    Export(EvidenceExportArgs),
    /// Check such a file, with nothing but the file
    Verify(EvidenceVerifyArgs),
}

/// Exports evidence.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom evidence export CHG0000007 --output CHG0000007.tar.zst\n",
    "  patchloom evidence export last --output e.tar.zst --sign-key auditor.nk\n",
    "  patchloom evidence export CHG0000007 --to s3://proofs/2026/CHG0000007.tar.zst\n\n",
    "The same change gives the same bytes. A key is an nkeys seed of any kind (SU…, SA…), as `nk -gen user` makes it.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct EvidenceExportArgs {
    /// Its number, or 'last'
    #[arg(value_name = "CHANGE")]
    pub change: String,
    /// Where to
    #[arg(long, value_name = "FILE", required_unless_present = "to")]
    pub output: Option<PathBuf>,
    /// Where to in S3: s3://BUCKET/KEY; a bucket alone, or a key that ends with /, gets the number of the change
    #[arg(long, value_name = "PLACE")]
    pub to: Option<String>,
    /// Sign it with the seed in this file (ed25519)
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,
    /// Who we are for AWS.
    #[command(flatten)]
    pub aws: AwsArgs,
}

/// Verifies evidence.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom evidence verify CHG0000007.tar.zst\n",
    "  patchloom evidence verify CHG0000007.tar.zst --verify-key UDXU4RCSJN…\n\n",
    "Ends with 0 where it is sound, and with 1 where it is not: then the place and the reason are told.\n",
    "Without --verify-key a signature is not looked at; with it, it has to be there and of that key.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct EvidenceVerifyArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Whose signature it has to have: a public key, or a file with one
    #[arg(long, value_name = "KEY")]
    pub verify_key: Option<String>,
    /// Take it also where it was packed again, or by another version of zstd
    #[arg(long)]
    pub repacked: bool,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(command: &EvidenceCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        EvidenceCommand::Export(args) => export(args, context),
        EvidenceCommand::Verify(args) => verify(args, context),
    }
}

fn unusable(error: anyhow::Error) -> Fault {
    Fault::new("E0906", Exit::BadInput, error)
}

fn bad_key(error: anyhow::Error) -> Fault {
    Fault::new("E0873", Exit::BadInput, error).hint("a seed begins with S, a public key with U, A, O, N or C")
}

fn export(args: &EvidenceExportArgs, context: &Context) -> Result<Exit, Fault> {
    let register = change::register(context)?;
    let number = change::select(&register, &args.change)?.number;
    let dir = DataDir::new(context.own_dir()?);
    let key = args.sign_key.as_deref().map(seed).transpose()?;
    let sign = |manifest: &[u8]| {
        let key = key.as_ref()?;
        let signature = key.sign(manifest).ok()?;
        let signature = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Signature { key: key.public_key(), signature })
    };
    let bundle = evidence::export(&register, &dir.artifacts(), &number, sign).map_err(|error| {
        let code = error.code().to_owned();
        let remedy = explain::remedy(&code);
        let fault = Fault::new(code, Exit::Failed, anyhow!(error));
        match remedy {
            Some(remedy) => fault.hint(remedy),
            None => fault,
        }
    })?;
    let signed = if args.sign_key.is_some() { ", signed" } else { "" };
    if let Some(output) = &args.output {
        keep(output, &number, &bundle)?;
        context.print(&format!("{number}: {} bytes in {}{signed}\n", bundle.len(), output.display()))?;
    }
    if let Some(to) = &args.to {
        let place = Place::parse(to).map_err(aws::fault)?;
        let is_folder = to.ends_with('/') || place.key.is_empty();
        let place = if is_folder { place.join(&format!("{number}.tar.zst")) } else { place };
        let bytes = bundle.len();
        aws::asked(async { Aws::new(&args.aws.options())?.put_object(&place, bundle).await })?;
        context.print(&format!("{number}: {bytes} bytes in {place}{signed}\n"))?;
    }
    Ok(Exit::Ok)
}

/// Writes a bundle whole or not at all: a part of one would look like a forged one.
fn keep(output: &Path, number: &str, bundle: &[u8]) -> Result<(), Fault> {
    let folder = output.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let partial = folder.join(format!(".{number}.{}.partial", std::process::id()));
    let written = std::fs::File::create(&partial)
        .and_then(|mut file| file.write_all(bundle).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&partial, output));
    if written.is_err() {
        // What is left of it is of no use; that it cannot be deleted is no second fault.
        let _ = std::fs::remove_file(&partial);
    }
    written.with_context(|| format!("cannot write {}", output.display())).map_err(unusable)
}

fn seed(path: &Path) -> Result<KeyPair, Fault> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let text = text.map_err(unusable)?;
    // A file of credentials has comments around its seed.
    let line = text.lines().map(str::trim).find(|line| line.starts_with('S')).unwrap_or_default();
    KeyPair::from_seed(line).map_err(|error| bad_key(anyhow!("{} holds no seed: {error}", path.display())))
}

fn verify(args: &EvidenceVerifyArgs, context: &Context) -> Result<Exit, Fault> {
    let mut bundle = Vec::new();
    std::fs::File::open(&args.file)
        .and_then(|file| file.take(BUNDLE_BYTES_MAX).read_to_end(&mut bundle))
        .with_context(|| format!("cannot read {}", args.file.display()))
        .map_err(unusable)?;
    let found = evidence::verify(&bundle, args.repacked);
    let wanted = args.verify_key.as_deref().map(public).transpose()?;
    let unsigned = match (&found, &wanted) {
        (Ok(sound), Some(key)) => signature(sound, key).err(),
        (Ok(_) | Err(_), _) => None,
    };
    let code = if unsigned.is_some() { "E0873" } else { "E0872" };
    let (place, reason) = match (&found, unsigned) {
        (Err(damage), _) => (damage.place.clone(), damage.reason.clone()),
        (Ok(_), Some(reason)) => ("signature.json".to_owned(), reason),
        (Ok(sound), None) => return sound_told(args, sound, wanted.is_some(), context),
    };
    if args.json {
        context.print_json(&json!({ "sound": false, "code": code, "place": place, "reason": reason }))?;
        return Ok(Exit::Failed);
    }
    let error = anyhow!("{} is not sound: {place}: {reason}", args.file.display());
    Err(Fault::new(code, Exit::Failed, error).hint("compare it with another copy; what it says proves nothing"))
}

fn sound_told(args: &EvidenceVerifyArgs, sound: &Sound, checked: bool, context: &Context) -> Result<Exit, Fault> {
    let signed = sound.signature.as_ref().map(|signature| signature.key.clone());
    if args.json {
        context.print_json(&json!({
            "sound": true, "change": sound.manifest.change, "state": sound.change.state,
            "entries": sound.manifest.evidence.entries, "head": sound.manifest.evidence.head,
            "sealed": sound.manifest.sealed, "signed_by": signed, "signature_checked": checked,
        }))?;
        return Ok(Exit::Ok);
    }
    let seal = if sound.manifest.sealed { "sealed" } else { "not sealed: the change is not over" };
    let signature = match (signed, checked) {
        (Some(key), true) => format!("signed by {key}, checked"),
        (Some(key), false) => format!("says it is signed by {key}, not checked: give --verify-key"),
        (None, _) => "not signed".to_owned(),
    };
    context.print(&format!(
        "sound: {} ({}), {} entries, {seal}\n  head       {}\n  signature  {signature}\n",
        sound.manifest.change, sound.change.state, sound.manifest.evidence.entries, sound.manifest.evidence.head,
    ))?;
    Ok(Exit::Ok)
}

fn public(key: &str) -> Result<KeyPair, Fault> {
    let text = std::fs::read_to_string(key).unwrap_or_else(|_| key.to_owned());
    let text = text.trim();
    KeyPair::from_public_key(text).map_err(|error| bad_key(anyhow!("'{text}' is no public key: {error}")))
}

/// Whether a bundle is signed by a key.
fn signature(sound: &Sound, key: &KeyPair) -> Result<(), String> {
    let signature = sound.signature.as_ref().ok_or("it is not signed")?;
    if signature.key != key.public_key() {
        return Err(format!("it is signed by {}, not by {}", signature.key, key.public_key()));
    }
    let digits = signature.signature.as_bytes();
    let pair = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
    let bytes = bytes.ok_or("the signature is not in hex")?;
    key.verify(&sound.signed, &bytes).map_err(|_| "the signature is not of this manifest".to_owned())
}
