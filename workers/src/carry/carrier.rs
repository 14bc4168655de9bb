//! What a worker knows of hosts that it carries tasks to: its options, its own binary, which hosts have it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use patchloom_core::Failure;
use patchloom_domain::{Machine, Target};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use super::message::{Reply, Request};
use super::post::{Post, reply_of};
use super::way::{Trouble, Way};
use crate::artifact::hex;
use crate::aws::AwsOptions;
use crate::host::Far;
use crate::runtime::TaskContext;
use crate::ssh::{Client, Error, SshOptions, Stdin};

/// How long a short question may take.
pub(super) const ASK_LIMIT: Duration = Duration::from_secs(60);

/// How long a file of a line may take.
const READ_LIMIT: Duration = Duration::from_secs(20);

/// How long the binary or an artifact may take: it may be large, and the way slow.
pub(super) const BULK_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Whether a binary of this content lies there: `there PATH SHA256`.
const THERE: &str = r#"
[ -f "$1" ] && [ -x "$1" ] && sum=$(sha256sum <"$1") && [ "${sum%% *}" = "$2" ] && echo yes || echo no
"#;

/// Puts what comes on standard input at a path, whole and for good or not at all: `put DIR NAME SHA256`.
const PUT: &str = r#"
set -eu
umask 022
mkdir -p -- "$1"
new=$(mktemp -- "$1/.new-XXXXXXXX")
trap 'rm -f -- "$new"' EXIT
cat >"$new"
sum=$(sha256sum <"$new")
[ "${sum%% *}" = "$3" ] || { echo "it did not arrive whole" >&2; exit 3; }
chmod 0755 -- "$new"
sync -- "$new" 2>/dev/null || sync
mv -f -- "$new" "$1/$2"
sync -- "$1" 2>/dev/null || sync
"#;

/// Carries tasks to hosts; clones share what they know.
#[derive(Clone, Debug, Default)]
pub struct Carrier {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    options: SshOptions,
    aws: AwsOptions,
    /// Our binary and its digest, once it was read.
    binary: OnceCell<(PathBuf, String)>,
    /// Hosts that have it.
    ready: Mutex<BTreeSet<Machine>>,
}

impl Carrier {
    /// A carrier with these options.
    #[must_use]
    pub fn new(options: SshOptions) -> Self {
        Self { shared: Arc::new(Shared { options, ..Shared::default() }) }
    }

    /// A carrier that reaches hosts through Systems Manager with these options too; else the environment says who we are.
    #[must_use]
    pub fn with_aws(options: SshOptions, aws: AwsOptions) -> Self {
        Self { shared: Arc::new(Shared { options, aws, ..Shared::default() }) }
    }

    /// The way to a host for a task: connected, and our binary there.
    pub(crate) async fn post<'a>(&self, context: &'a TaskContext, target: &Machine) -> Result<Post<'a>, Failure> {
        let cache = context.data().cache();
        let options = (&self.shared.options, &self.shared.aws);
        let way = Way::new(target, options, &cache).map_err(|error| error.failure())?;
        let (local, digest) = self.binary().await.map_err(|error| error.failure())?;
        let name = format!("patchloom-{}", &digest[..16]);
        let dir = format!("{}/bin", self.shared.options.host_dir.trim_end_matches('/'));
        let remote = format!("{dir}/{name}");
        let post = Post::new(context, self, way, (remote, self.shared.options.host_dir.clone()));
        if self.ready().contains(target) {
            return Ok(post);
        }
        context.progress(0.0, format!("connecting to {target}"));
        let way = post.way();
        let there = way.run(&["sh", "-c", THERE, "there", post.binary(), digest], Stdin::Nothing, ASK_LIMIT).await;
        if there.map_err(|error| error.failure())?.trim_ascii() != b"yes" {
            context.progress(0.0, format!("carrying the binary to {target}"));
            let file = File::open(local).map_err(|source| own_binary(local, source).failure())?;
            let argv = ["sh", "-c", PUT, "put", &dir, &name, digest];
            let put = way.run(&argv, Stdin::File(file), BULK_LIMIT).await;
            put.map_err(|error| error.failure())?;
        }
        hello(&post).await.map_err(|error| error.failure())?;
        self.ready().insert(target.clone());
        Ok(post)
    }

    /// The context of a task with the way to its Windows machine; none where it is about another target. Nothing is carried there.
    pub(crate) fn reaching(&self, context: &TaskContext, target: &Target) -> Result<Option<TaskContext>, Failure> {
        let Target::Windows(ssh) = target else { return Ok(None) };
        let client = Client::new(ssh, &self.shared.options, &context.data().cache());
        let client = client.map_err(|error| error.failure())?;
        let far = Far::new(client, &context.key().to_string());
        Ok(Some(context.clone().reaching(far)))
    }

    /// What a small file of a host holds, without the space around it. Nothing is carried there.
    pub(crate) async fn read(&self, context: &TaskContext, target: &Machine, path: &str) -> Result<String, Failure> {
        let options = (&self.shared.options, &self.shared.aws);
        let way = Way::new(target, options, &context.data().cache()).map_err(|error| error.failure())?;
        let said = way.run(&["cat", path], Stdin::Nothing, READ_LIMIT).await.map_err(|error| error.failure())?;
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    }

    /// Who we are at AWS.
    pub(crate) fn aws(&self) -> &AwsOptions {
        &self.shared.aws
    }

    /// Looks anew at a host the next time: what it has may be gone.
    pub(crate) fn forget(&self, target: &Machine) {
        self.ready().remove(target);
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, BTreeSet<Machine>> {
        self.shared.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn binary(&self) -> Result<&(PathBuf, String), Error> {
        let find = async || {
            let path = match &self.shared.options.carry {
                Some(path) => path.clone(),
                // The very file that runs, even where a newer one was put in its place.
                None => PathBuf::from("/proc/self/exe"),
            };
            let read = path.clone();
            let digest = tokio::task::spawn_blocking(move || digest_of(&read)).await;
            let digest = digest.map_err(io::Error::other).and_then(|digest| digest);
            digest.map(|digest| (path.clone(), digest)).map_err(|source| own_binary(&path, source))
        };
        self.shared.binary.get_or_try_init(find).await
    }
}

fn own_binary(path: &Path, source: io::Error) -> Error {
    Error::Client { action: "read the binary to carry,", what: path.display().to_string(), source }
}

fn digest_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    io::copy(&mut file, &mut Hasher(&mut digest))?;
    Ok(hex(&digest.finalize()))
}

struct Hasher<'a>(&'a mut Sha256);

impl io::Write for Hasher<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the binary runs there, and is ours.
async fn hello(post: &Post<'_>) -> Result<(), Trouble> {
    let way = post.way();
    match post.ask(&Request::Hello, ASK_LIMIT).await {
        Ok((Reply::Hello { version, .. }, _)) if version == env!("CARGO_PKG_VERSION") => Ok(()),
        Ok((Reply::Hello { version, .. }, _)) => {
            let text = format!("it is version {version}, and this is {}", env!("CARGO_PKG_VERSION"));
            Err(way.unfit(text))
        }
        Ok((other, _)) => Err(way.strange(format!("a greeting was answered with {other:?}"))),
        // It ran, or the loader did, and what it says is of it: another libc, another machine, a mount without exec.
        Err(trouble) => Err(match trouble.remote() {
            Some((code, text)) => way.unfit(format!("{text} (code {code})")),
            None => trouble,
        }),
    }
}

/// Splits an answer into its line and its bytes.
pub(super) fn split(way: &Way, said: Vec<u8>) -> Result<(Reply, Vec<u8>), Trouble> {
    let answer = |text: String| way.strange(text);
    let end = said.iter().position(|&byte| byte == b'\n').ok_or_else(|| answer("it said nothing".to_owned()))?;
    let reply = reply_of(&said[..end]).map_err(|error| answer(error.to_string()))?;
    let mut bytes = said;
    bytes.drain(..=end);
    Ok((reply, bytes))
}
