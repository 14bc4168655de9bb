//! The keys of users: a seed in a file that only its owner reads; the server needs but the public half.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use nkeys::{KeyPair, KeyPairType};

use super::{Made, write};

/// The public key of the user whose seed lies in `path`; a new one where there is none.
pub(super) fn user(path: &Path, made: &mut Made) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(seed) => {
            let pair = KeyPair::from_seed(seed.trim()).map_err(|error| anyhow!("{error}"));
            let pair = pair.with_context(|| format!("{} is no key: move it away for a new one", path.display()))?;
            if pair.key_pair_type() != KeyPairType::User {
                return Err(anyhow!("{} is no user's key: move it away for a new one", path.display()));
            }
            made.kept.push(path.to_owned());
            Ok(pair.public_key())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let pair = KeyPair::new_user();
            let seed = pair.seed().map_err(|error| anyhow!("cannot make a key: {error}"))?;
            write(path, &format!("{seed}\n"), 0o600, made)?;
            Ok(pair.public_key())
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
