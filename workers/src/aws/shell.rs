//! A command with input and output on an instance behind Systems Manager, whose commands have neither.
//!
//! A script goes out and at most 24,000 characters come back. What is small travels in them; what is larger through a
//! bucket, by addresses that are good for this one object and a while. The host needs sh, base64, sha256sum and curl.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::body::Bytes;
use patchloom_domain::SsmTarget;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::client::Aws;
use super::ec2::check_instance;
use super::settings::Place;
use super::ssm::{Invocation, Order, Standing};
use super::{AwsOptions, Error};
use crate::artifact::hex;
use crate::ssh::{Stdin, quoted};

/// So much input travels inside a command: its parameters may not be large, and are kept in its history.
const INLINE_IN_MAX: usize = 16 << 10;

/// So much output travels inside the answer: 24,000 characters of base64 and what stands around it.
const INLINE_OUT_MAX: usize = 15_000;

/// So much of what a command complained of comes back.
const COMPLAINT_MAX: usize = 1_500;

/// What is carried in at once.
const INPUT_BYTES_MAX: u64 = 1 << 30;

/// A command takes that long at least: it waits for its agent, and its agent for Systems Manager.
const LIMIT_MIN: Duration = Duration::from_secs(90);

/// First and longest wait between two looks at a command.
const LOOK_FIRST: Duration = Duration::from_millis(300);
const LOOK_MAX: Duration = Duration::from_secs(3);

/// What the answer begins with.
const MARK: &str = "patchloom-answer";

/// An instance, and how it is reached from here.
#[derive(Clone, Debug)]
pub(crate) struct Shell {
    aws: Aws,
    target: SsmTarget,
}

/// How input gets there.
enum Input {
    Nothing,
    Inline(Vec<u8>),
    Bucket { place: Place, sha256: String, keep: bool },
}

impl Shell {
    /// Prepares commands on an instance; sends none.
    pub(crate) fn new(target: &SsmTarget, options: &AwsOptions) -> Result<Self, Error> {
        check_instance(&target.instance)?;
        let mut options = options.clone();
        options.region = target.region.clone().or(options.region);
        Ok(Self { aws: Aws::new(&options)?, target: target.clone() })
    }

    pub(crate) fn target(&self) -> &SsmTarget {
        &self.target
    }

    /// Runs a command as root and returns what it wrote.
    ///
    /// It may run twice where the answer to its sending was lost: what is asked of a host does no harm twice.
    pub(crate) async fn run(&self, argv: &[&str], stdin: Stdin<'_>, limit: Duration) -> Result<Vec<u8>, Error> {
        let limit = limit.max(LIMIT_MIN);
        let input = self.input(stdin).await?;
        let output = self.aws.bucket().map(|bucket| bucket.join(&format!("out/{}", Uuid::now_v7())));
        let script = self.script(argv, &input, output.as_ref(), limit).await?;
        let ended = self.command(&script, limit).await;
        if let Input::Bucket { place, keep: false, .. } = &input {
            // What stays is deleted by the rule of the bucket.
            drop(self.aws.delete_object(place).await);
        }
        let ended = ended?;
        self.answer(&ended, output.as_ref()).await
    }

    async fn input(&self, stdin: Stdin<'_>) -> Result<Input, Error> {
        let (bytes, keep) = match stdin {
            Stdin::Nothing => return Ok(Input::Nothing),
            Stdin::Bytes(bytes) if bytes.len() <= INLINE_IN_MAX => return Ok(Input::Inline(bytes.to_vec())),
            Stdin::Bytes(bytes) => (bytes.to_vec(), false),
            // A file is the binary: the next host takes the same one.
            Stdin::File(file) => (contents(file).await?, true),
        };
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let bucket = self.aws.bucket().ok_or(Error::Bucket { bytes: count })?;
        let sha256 = hex(&Sha256::digest(&bytes));
        let place = match keep {
            true => bucket.join(&format!("carry/{sha256}")),
            false => bucket.join(&format!("in/{}", Uuid::now_v7())),
        };
        if !keep || !self.aws.has_object(&place).await? {
            self.aws.put_object(&place, Bytes::from(bytes)).await?;
        }
        Ok(Input::Bucket { place, sha256, keep })
    }

    async fn script(
        &self,
        argv: &[&str],
        input: &Input,
        output: Option<&Place>,
        limit: Duration,
    ) -> Result<String, Error> {
        // The host may take the command late.
        let lasts = limit + Duration::from_secs(300);
        let bring = match input {
            Input::Nothing => "in=/dev/null".to_owned(),
            Input::Inline(bytes) => format!("printf %s {} | base64 -d >\"$d/in\"", BASE64.encode(bytes)),
            Input::Bucket { place, sha256, .. } => {
                let address = quoted(&[&self.aws.address_to_get(place, lasts).await?]);
                format!(
                    "bring {address}\nsum=$(sha256sum <\"$in\")\n[ \"${{sum%% *}}\" = {sha256} ] || transfer 'it did not arrive whole'"
                )
            }
        };
        let send = match output {
            Some(place) => format!("send {}", quoted(&[&self.aws.address_to_put(place, lasts).await?])),
            None => "transfer \"$size bytes of output fit into no answer, and no bucket is told\"".to_owned(),
        };
        let script = SCRIPT
            .replace("@BRING@", &bring)
            .replace("@SEND@", &send)
            .replace("@MARK@", MARK)
            .replace("@INLINE@", &INLINE_OUT_MAX.to_string())
            .replace("@COMPLAINT@", &COMPLAINT_MAX.to_string())
            .replace("@ARGV@", &quoted(argv));
        Ok(unbraced(script))
    }

    /// Sends a script and follows it to its end.
    async fn command(&self, script: &str, limit: Duration) -> Result<Invocation, Error> {
        let instance = self.target.instance.as_str();
        let order = Order { instance, script, delivery: limit, execution: limit, comment: "patchloom" };
        let id = match self.aws.send_command(&order).await {
            // Nobody knows whether it was read. It does no harm twice.
            Err(Error::Unreachable { .. }) => self.aws.send_command(&order).await?,
            other => other?,
        };
        let (end, mut wait) = (Instant::now() + limit, LOOK_FIRST);
        loop {
            sleep(wait).await;
            wait = (wait * 3 / 2).min(LOOK_MAX);
            let looked = self.aws.invocation(&id, instance).await;
            let words = match looked {
                Ok(Some(invocation)) => match invocation.standing {
                    Standing::Ran => return Ok(invocation),
                    Standing::Undelivered => {
                        let text = format!("its command {id} ended as {}", invocation.words);
                        return Err(Error::Unmanaged { instance: instance.to_owned(), text });
                    }
                    Standing::Unknown => return Err(self.lost(&format!("command {id} ended as {}", invocation.words))),
                    Standing::Open => invocation.words,
                },
                Ok(None) => "not known yet".to_owned(),
                // It goes on without us: it is looked at again until its time is over.
                Err(error) if error.is_passing() => error.to_string(),
                Err(error) => return Err(error),
            };
            if Instant::now() >= end {
                // One that waits for its agent must not begin when nobody expects it any more.
                drop(self.aws.cancel_command(&id, instance).await);
                return Err(self.lost(&format!("command {id} is not over in time: {words}")));
            }
        }
    }

    async fn answer(&self, ended: &Invocation, output: Option<&Place>) -> Result<Vec<u8>, Error> {
        match read(ended) {
            Err(Unread::Transfer(text)) => Err(Error::Transfer { instance: self.target.instance.clone(), text }),
            Err(Unread::Strange(text)) => Err(Error::Answer { place: self.target.to_string(), text }),
            Ok(Read { code, complaint, content }) => {
                let bytes = match content {
                    Content::Here(bytes) => Some(bytes),
                    Content::Bucket { sha256 } => self.collect(output, &sha256).await?,
                };
                let bytes = bytes.ok_or_else(|| self.lost("its output did not come out of the bucket whole"))?;
                match code {
                    0 => Ok(bytes),
                    _ => Err(Error::Remote { instance: self.target.instance.clone(), code, text: complaint }),
                }
            }
        }
    }

    async fn collect(&self, place: Option<&Place>, sha256: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(place) = place else { return Ok(None) };
        let bytes = self.aws.get_object(place).await?;
        drop(self.aws.delete_object(place).await);
        Ok(bytes.filter(|bytes| hex(&Sha256::digest(bytes)) == sha256).map(|bytes| bytes.to_vec()))
    }

    fn lost(&self, text: &str) -> Error {
        Error::Lost { instance: self.target.instance.clone(), text: text.to_owned() }
    }
}

/// What runs on the host. A file for each stream: the command's own must not mix with what is told of it.
const SCRIPT: &str = r#"umask 077
d=$(mktemp -d /var/tmp/patchloom-XXXXXXXX) || exit 1
trap 'rm -rf -- "$d"' EXIT
in=$d/in
transfer() { printf '@MARK@ transfer %s\n' "$1"; exit 0; }
fetch() { curl -sS -f --retry 3 --connect-timeout 20 "$@" 2>"$d/curl" || transfer "curl: $(head -c 500 "$d/curl" | tr '\n' ' ')"; }
bring() { fetch -o "$in" "$1"; }
send() { fetch -o /dev/null -T "$d/out" "$1"; }
@BRING@
@ARGV@ <"$in" >"$d/out" 2>"$d/err"
code=$?
size=$(($(wc -c <"$d/out")))
sum=$(sha256sum <"$d/out")
if [ "$size" -gt @INLINE@ ]; then way=bucket; @SEND@; else way=here; fi
printf '@MARK@ %s %s %s %s\n' "$code" "$size" "${sum%% *}" "$way"
tail -c @COMPLAINT@ "$d/err" | base64 | tr -d '\n'; echo
[ "$way" = bucket ] || base64 <"$d/out" | tr -d '\n'
echo
"#;

/// Two braces would name a parameter of Systems Manager, which takes them wherever they stand.
fn unbraced(mut script: String) -> String {
    // Only inside the single quotes of a word of the command line can there be two.
    while script.contains("{{") {
        script = script.replace("{{", "{''{");
    }
    script
}

async fn contents(mut file: File) -> Result<Vec<u8>, Error> {
    let read = move || {
        file.rewind()?;
        let mut bytes = Vec::new();
        file.take(INPUT_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let read = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other).and_then(|read| read);
    read.map_err(|source| Error::File { what: "what is to be carried".to_owned(), source })
}

#[derive(Debug, PartialEq, Eq)]
struct Read {
    code: i32,
    complaint: String,
    content: Content,
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Here(Vec<u8>),
    Bucket { sha256: String },
}

#[derive(Debug, PartialEq, Eq)]
enum Unread {
    Transfer(String),
    Strange(String),
}

/// Reads what the script told.
fn read(ended: &Invocation) -> Result<Read, Unread> {
    let strange = |what: &str| {
        let said: String = ended.stderr.chars().chain(ended.stdout.chars()).take(300).collect();
        Unread::Strange(format!("{what}: its command ended as {}, code {}: {}", ended.words, ended.code, said.trim()))
    };
    let mut lines = ended.stdout.lines();
    let head =
        lines.next().and_then(|line| line.strip_prefix(MARK)).ok_or_else(|| strange("it said nothing of ours"))?;
    if let Some(text) = head.trim_start().strip_prefix("transfer ") {
        return Err(Unread::Transfer(text.to_owned()));
    }
    let words: Vec<&str> = head.split_whitespace().collect();
    let [code, size, sha256, way] = words[..] else { return Err(strange("its answer has no head")) };
    let code: i32 = code.parse().map_err(|_| strange("its exit code is none"))?;
    let decoded = |line: Option<&str>| BASE64.decode(line.unwrap_or_default().trim()).ok();
    let complaint = decoded(lines.next()).ok_or_else(|| strange("its complaints are cut"))?;
    let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
    let content = match way {
        "here" => {
            let bytes = decoded(lines.next()).filter(|bytes| bytes.len().to_string() == size);
            let bytes = bytes.filter(|bytes| hex(&Sha256::digest(bytes)) == sha256);
            Content::Here(bytes.ok_or_else(|| strange("its output did not arrive whole"))?)
        }
        "bucket" => Content::Bucket { sha256: sha256.to_owned() },
        _ => return Err(strange("its output went another way")),
    };
    Ok(Read { code, complaint, content })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// What the agent makes of a script: sh, and the first 24,000 characters.
    fn agent(script: &str) -> Invocation {
        let mut child = Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let stdout: String = String::from_utf8_lossy(&output.stdout).chars().take(24_000).collect();
        let code = output.status.code().unwrap();
        Invocation { standing: Standing::Ran, words: "Success".into(), code, stdout, stderr: String::new() }
    }

    fn script(argv: &[&str], input: &[u8]) -> String {
        let bring = format!("printf %s {} | base64 -d >\"$d/in\"", BASE64.encode(input));
        let send = "transfer \"$size bytes of output fit into no answer, and no bucket is told\"";
        let script = SCRIPT.replace("@BRING@", &bring).replace("@SEND@", send).replace("@MARK@", MARK);
        let script = script.replace("@INLINE@", &INLINE_OUT_MAX.to_string());
        unbraced(script.replace("@COMPLAINT@", &COMPLAINT_MAX.to_string()).replace("@ARGV@", &quoted(argv)))
    }

    #[test]
    fn a_command_gets_its_input_and_its_code_output_and_complaints_come_back() {
        let argv = ["sh", "-c", "cat; echo \"$1 it's\" >&2; exit 7", "x", "{{ssm:secret}} {{{"];
        let text = script(&argv, b"in\0put\n");
        assert!(!text.contains("{{"), "{text}");
        let read = read(&agent(&text)).unwrap();
        assert_eq!((read.code, read.content), (7, Content::Here(b"in\0put\n".to_vec())));
        assert_eq!(read.complaint, "{{ssm:secret}} {{{ it's");
    }

    #[test]
    fn the_most_that_travels_inside_an_answer_fits_and_one_byte_more_does_not() {
        let whole = vec![b'x'; INLINE_OUT_MAX];
        let long = "head -c 4000 /dev/zero | tr '\\0' e >&2; cat";
        let fits = agent(&script(&["sh", "-c", long], &whole));
        assert!(fits.stdout.len() <= 24_000, "{}", fits.stdout.len());
        assert_eq!(read(&fits).unwrap().content, Content::Here(whole.clone()));
        let more = agent(&script(&["sh", "-c", "cat; printf y"], &whole));
        assert!(matches!(read(&more), Err(Unread::Transfer(text)) if text.contains("15001 bytes")));
    }

    #[test]
    fn an_answer_that_is_cut_or_of_somebody_else_is_none() {
        let whole = agent(&script(&["cat"], b"hello"));
        let of = |stdout: String| read(&Invocation { stdout, ..whole.clone() });
        assert!(of(whole.stdout.clone()).is_ok());
        for stdout in [String::new(), "hello".to_owned(), whole.stdout.replace("aGVsbG8=", "aGVs")] {
            assert!(matches!(of(stdout), Err(Unread::Strange(_))));
        }
    }
}
