//! One host over the OpenSSH client: runs a command there with data for it, within bounds. One connection carries them all.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use patchloom_domain::SshTarget;
use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::words::{self, SSH_FAILED};
use super::{Error, SshOptions, hops, options};

/// More than this on one stream ends the command: an artifact and a line before it.
const STREAM_BYTES_MAX: u64 = crate::artifact::ARTIFACT_BYTES_MAX + (1 << 20);

/// How often a running command is looked at.
const TICK: Duration = Duration::from_millis(20);

/// An unused connection stays so long.
const PERSIST_SECONDS: u32 = 60;

/// ssh puts 17 characters behind the path of a socket while it makes it; the system takes 108 in all.
const SOCKET_PATH_MAX: usize = 88;

/// Becomes root, where the account is not, and then the command: the arguments are it.
const AS_ROOT: &str = r#"if [ "$(id -u)" = 0 ]; then exec "$@"; fi; exec sudo -n -- "$@""#;

/// A host, and how it is reached from here.
#[derive(Clone, Debug)]
pub struct Client {
    target: SshTarget,
    program: PathBuf,
    config: PathBuf,
    socket: PathBuf,
}

/// What goes into a command.
#[derive(Debug)]
pub enum Stdin<'a> {
    /// Nothing.
    Nothing,
    /// These bytes.
    Bytes(&'a [u8]),
    /// A file from its beginning.
    File(File),
}

impl Client {
    /// Prepares connections to `target`; makes none. `cache` is a directory of ours for sockets and configuration.
    ///
    /// # Errors
    /// [`Error::Option`] for names that must not reach ssh, [`Error::Client`] where the cache cannot be written.
    pub fn new(target: &SshTarget, options: &SshOptions, cache: &Path) -> Result<Self, Error> {
        options::check(target)?;
        let text = options.configuration()?;
        let dir = cache.join("ssh");
        let named = |text: &str| crate::artifact::hex(&Sha256::digest(text)[..8]);
        let place = format!("{target} {:?}\n{text}", target.jump);
        let socket = dir.join(named(&place));
        // A data directory with a long name: sockets go where names are short, and nobody else may look.
        let socket = match socket.as_os_str().len() <= SOCKET_PATH_MAX {
            true => socket,
            false => short_dir()?.join(named(&format!("{place}{}", dir.display()))),
        };
        private(&dir)?;
        let config = dir.join(format!("{}.conf", named(&text)));
        crate::durable::replace(&config, text.as_bytes()).map_err(client_error("write", &config))?;
        Ok(Self { target: target.clone(), program: options.program.clone(), config, socket })
    }

    /// The host.
    #[must_use]
    pub fn target(&self) -> &SshTarget {
        &self.target
    }

    /// Runs a command as root and returns what it wrote.
    ///
    /// # Errors
    /// How it ended, as far as anybody knows: see [`Error`].
    pub async fn run(&self, argv: &[&str], stdin: Stdin<'_>, limit: Duration) -> Result<Vec<u8>, Error> {
        let words: Vec<&str> = ["sh", "-c", AS_ROOT, "patchloom-ssh"].into_iter().chain(argv.iter().copied()).collect();
        let ended = self.ssh(&words::quoted(&words), stdin, limit).await;
        self.settle(ended).await
    }

    /// What is left to do where a command came to no end.
    async fn settle<T>(&self, ended: Result<T, Error>) -> Result<T, Error> {
        if ended.as_ref().is_err_and(Error::is_passing) {
            // Whoever comes next must not wait for a connection that is dead: it makes its own. That one ends by itself.
            drop(std::fs::remove_file(&self.socket));
        }
        match ended {
            Err(error) => Err(self.blame(error).await),
            said => said,
        }
    }

    /// An error with the jump host that is to blame for it, where one is.
    async fn blame(&self, error: Error) -> Error {
        let may_be_a_hop = matches!(
            error,
            Error::Unreachable { .. }
                | Error::HostKeyUnknown { .. }
                | Error::HostKeyChanged { .. }
                | Error::Authentication { .. }
        );
        if self.target.jump.is_empty() || !may_be_a_hop {
            return error;
        }
        hops::to_blame(&self.target, &self.program, &self.config).await.unwrap_or(error)
    }

    /// Runs a line of the login shell as the account that logs in, whatever shell it is: its exit code and both streams.
    ///
    /// # Errors
    /// Where nobody knows how it ended: see [`Error`].
    pub async fn shell(&self, line: &str, stdin: Stdin<'_>, limit: Duration) -> Result<(i32, Vec<u8>, String), Error> {
        let ended = match self.ended(line, stdin, limit).await {
            Ok((Some(SSH_FAILED), _, text)) => Err(words::refused(&self.target, &text)),
            Ok((Some(code), stdout, text)) => return Ok((code, stdout, text)),
            Ok((None, ..)) => Err(self.late()),
            Err(error) => Err(error),
        };
        self.settle(ended).await
    }

    async fn ssh(&self, command: &str, stdin: Stdin<'_>, limit: Duration) -> Result<Vec<u8>, Error> {
        match self.ended(command, stdin, limit).await? {
            (Some(0), stdout, _) => Ok(stdout),
            (Some(SSH_FAILED), _, text) => Err(words::refused(&self.target, &text)),
            (Some(code), _, text) => Err(words::failed(&self.target, code, &text)),
            (None, ..) => Err(self.late()),
        }
    }

    fn late(&self) -> Error {
        Error::Lost { place: self.target.clone(), text: "no answer in time".to_owned() }
    }

    /// The exit code, none where its time was over, and both streams.
    async fn ended(
        &self,
        command: &str,
        stdin: Stdin<'_>,
        limit: Duration,
    ) -> Result<(Option<i32>, Vec<u8>, String), Error> {
        let (stdout, stderr) = (memory()?, memory()?);
        let stdin = match stdin {
            Stdin::Nothing => Stdio::null(),
            Stdin::File(file) => file.into(),
            Stdin::Bytes(bytes) => {
                let mut file = memory()?;
                let filled = file.write_all(bytes).and_then(|()| io::Seek::rewind(&mut file));
                filled.map_err(client_error("prepare the input of", &self.program))?;
                file.into()
            }
        };
        let mut ssh = Command::new(&self.program);
        ssh.arg("-F").arg(&self.config).args(["-T", "-o", "ControlMaster=auto", "-o"]);
        ssh.arg(format!("ControlPersist={PERSIST_SECONDS}")).arg("-S").arg(&self.socket);
        if !self.target.jump.is_empty() {
            ssh.arg("-J").arg(self.target.jump.join(","));
        }
        if let Some(user) = &self.target.user {
            ssh.arg("-l").arg(user);
        }
        if let Some(port) = self.target.port {
            ssh.arg("-p").arg(port.to_string());
        }
        ssh.arg("--").arg(&self.target.host).arg(command);
        ssh.env("LC_ALL", "C").stdin(stdin).kill_on_drop(true).process_group(0);
        let share = |file: &File| file.try_clone().map_err(client_error("prepare the output of", &self.program));
        ssh.stdout(share(&stdout)?).stderr(share(&stderr)?);
        let code = self.wait(&mut ssh, &stdout, limit).await?;
        let text = String::from_utf8_lossy(&contents(&stderr, 64 << 10)?).into_owned();
        Ok((code, contents(&stdout, STREAM_BYTES_MAX)?, text))
    }

    /// The exit code; `None` where its time was over.
    async fn wait(&self, ssh: &mut Command, stdout: &File, limit: Duration) -> Result<Option<i32>, Error> {
        let mut child = ssh.spawn().map_err(client_error("start", &self.program))?;
        let deadline = Instant::now() + limit;
        loop {
            // Cancel-safe: wait() of a child may be asked again.
            tokio::select! {
                biased;
                ended = child.wait() => {
                    let status = ended.map_err(client_error("watch", &self.program))?;
                    // Ended by a signal: nobody knows what the command came to.
                    return Ok(status.code());
                }
                () = sleep(TICK) => {}
            }
            let excessive = stdout.metadata().is_ok_and(|data| data.len() > STREAM_BYTES_MAX);
            if excessive || Instant::now() >= deadline {
                // The connection stays for others; only this client goes.
                let _ = child.kill().await;
                return match excessive {
                    true => Err(Error::Answer {
                        place: self.target.clone(),
                        text: format!("it wrote more than {STREAM_BYTES_MAX} bytes"),
                    }),
                    false => Ok(None),
                };
            }
        }
    }
}

/// A file in memory. The client that stays for the connection may keep it open: no end of a pipe is waited for.
fn memory() -> Result<File, Error> {
    let made = || {
        let fd = memfd_create("patchloom-ssh", MemfdFlags::CLOEXEC)?;
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::APPEND)?;
        Ok(File::from(fd))
    };
    made().map_err(client_error("make", Path::new("a file in memory")))
}

fn contents(file: &File, max: u64) -> Result<Vec<u8>, Error> {
    let size = file.metadata().map(|data| data.len()).unwrap_or(0).min(max);
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0).map_err(client_error("read", Path::new("what ssh wrote")))?;
    Ok(bytes)
}

/// Makes a directory that only we can read.
fn private(dir: &Path) -> Result<(), Error> {
    let make = || {
        std::fs::create_dir_all(dir)?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
    };
    make().map_err(client_error("make", dir))
}

/// A directory with a short name that belongs to us alone.
fn short_dir() -> Result<PathBuf, Error> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    let uid = rustix::process::geteuid().as_raw();
    let dir = PathBuf::from(format!("/tmp/patchloom-ssh-{uid}"));
    match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(client_error("make", &dir)(error)),
        Ok(()) | Err(_) => {}
    }
    let data = std::fs::symlink_metadata(&dir).map_err(client_error("look at", &dir))?;
    if data.is_dir() && data.uid() == uid && data.mode() & 0o077 == 0 {
        return Ok(dir);
    }
    let error =
        io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to somebody else, or others may look into it");
    Err(client_error("use", &dir)(error))
}

fn client_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let what = path.display().to_string();
    move |source| Error::Client { action, what, source }
}
