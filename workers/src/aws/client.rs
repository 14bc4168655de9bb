//! Signed requests to AWS: sent, tried again where that may help, their errors told apart. Knows no operation.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::body::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use super::http::{self, Incoming, Outgoing, Unanswered};
use super::settings::{self, AwsOptions, Environment, Place, Settings};
use super::sign::{self, Credentials, Scope, Unsigned};
use super::{Error, lent, xml};
use crate::artifact::hex;

/// A request is sent at most so often.
const TRIES_MAX: u32 = 5;

/// The first wait is at most this, and each next one twice as long.
const BACKOFF: Duration = Duration::from_millis(250);

/// Keys that were lent are asked for anew after this: those who lend hand out new ones well before the end of the old.
const LENT_FOR: Duration = Duration::from_secs(4 * 60);

/// What AWS's services say where too much is asked.
const SLOWER: [&str; 8] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "RequestThrottled",
    "SlowDown",
    "RateExceeded",
];

/// What they say to somebody who may not, or is not who he says.
const DENIED: [&str; 12] = [
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "AuthFailure",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestTimeTooSkewed",
];

/// A way to AWS; clones share it.
#[derive(Clone, Debug)]
pub struct Aws {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    env: Environment,
    tls: OnceCell<Tls>,
    lent: Mutex<Option<(Instant, Credentials)>>,
}

#[derive(Clone)]
struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// One request, before it is signed.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) service: &'static str,
    /// For people: `ssm:SendCommand`.
    pub(super) operation: &'static str,
    pub(super) method: &'static str,
    /// Scheme and authority.
    pub(super) endpoint: String,
    /// Encoded.
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    /// Whether it does no harm twice: only then it is sent again when nobody knows whether it was read.
    pub(super) repeatable: bool,
    pub(super) limit: Duration,
}

impl Aws {
    /// A way to AWS as the options, the environment and the shared files say. Connects to nothing.
    ///
    /// # Errors
    /// [`Error::Region`], [`Error::Credentials`] or [`Error::Config`].
    pub fn new(options: &AwsOptions) -> Result<Self, Error> {
        Self::in_environment(options, settings::environment())
    }

    /// The same in an environment that is not that of this process.
    ///
    /// # Errors
    /// As [`Aws::new`].
    pub fn in_environment(options: &AwsOptions, env: Environment) -> Result<Self, Error> {
        let settings = settings::settle(options, &env)?;
        Ok(Self { shared: Arc::new(Shared { settings, env, tls: OnceCell::new(), lent: Mutex::new(None) }) })
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.shared.settings.region
    }

    /// Where what is too large for a command is carried.
    #[must_use]
    pub fn bucket(&self) -> Option<&Place> {
        self.shared.settings.bucket.as_ref()
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Sends a request until there is an answer or no hope of one.
    pub(super) async fn call(&self, call: &Call) -> Result<Bytes, Error> {
        let mut tries = 1;
        loop {
            let error = match self.once(call).await {
                Ok(incoming) if (200..300).contains(&incoming.status) => return Ok(incoming.body),
                Ok(incoming) => (judged(call, &incoming), true),
                Err((error, again)) => (error, again),
            };
            let (error, may) = error;
            if !may || !error.is_passing() || tries >= TRIES_MAX {
                return Err(error);
            }
            tracing::debug!(%error, tries, "asking AWS again");
            sleep(backoff(tries)).await;
            tries += 1;
        }
    }

    /// Sends it once; with what stood in the way, whether it may be sent again.
    async fn once(&self, call: &Call) -> Result<Incoming, (Error, bool)> {
        let tls = self.tls().await.map_err(|error| (error, false))?;
        let credentials = self.credentials(&tls).await.map_err(|error| (error, false))?;
        let outgoing = self.signed(call, &credentials);
        http::send(&outgoing, &tls, call.limit).await.map_err(|Unanswered { sent, text }| {
            let (operation, endpoint) = (call.operation.to_owned(), call.endpoint.clone());
            (Error::Unreachable { operation, endpoint, text }, call.repeatable || !sent)
        })
    }

    fn signed(&self, call: &Call, credentials: &Credentials) -> Outgoing {
        let time = sign::time_text(now_seconds());
        let body = hex(&Sha256::digest(&call.body));
        let mut headers = call.headers.clone();
        let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
        add("host", authority(&call.endpoint).to_owned());
        add("x-amz-date", time.clone());
        if call.service == "s3" {
            add("x-amz-content-sha256", body.clone());
        }
        if let Some(token) = &credentials.token {
            add("x-amz-security-token", token.clone());
        }
        let scope = Scope { service: call.service, region: self.region(), time: &time };
        let unsigned = Unsigned {
            method: call.method,
            path: &call.path,
            query: call.query.clone(),
            headers: headers.clone(),
            body,
        };
        headers.push(("authorization".to_owned(), sign::authorization(&unsigned, scope, credentials)));
        let query = sign::query(&call.query);
        let mark = if query.is_empty() { "" } else { "?" };
        let address = format!("{}{}{mark}{query}", call.endpoint, call.path);
        Outgoing { method: call.method, address, headers, body: call.body.clone() }
    }

    /// An address that lets whoever has it do this for a while.
    pub(super) async fn presigned(&self, call: &Call, lasts: Duration) -> Result<String, Error> {
        let tls = self.tls().await?;
        let credentials = self.credentials(&tls).await?;
        let time = sign::time_text(now_seconds());
        let unsigned = Unsigned {
            method: call.method,
            path: &call.path,
            query: call.query.clone(),
            headers: vec![("host".to_owned(), authority(&call.endpoint).to_owned())],
            body: sign::UNSIGNED.to_owned(),
        };
        let scope = Scope { service: call.service, region: self.region(), time: &time };
        let query = sign::presigned_query(unsigned, scope, &credentials, lasts.as_secs());
        Ok(format!("{}{}?{query}", call.endpoint, call.path))
    }

    async fn tls(&self) -> Result<TlsConnector, Error> {
        let more = self.shared.settings.authorities.as_deref();
        let made = self.shared.tls.get_or_try_init(async || http::trust(more).map(Tls)).await;
        made.map(|tls| tls.0.clone()).map_err(|text| Error::Answer { place: "TLS on this machine".to_owned(), text })
    }

    async fn credentials(&self, tls: &TlsConnector) -> Result<Credentials, Error> {
        if let Some(own) = &self.shared.settings.credentials {
            return Ok(own.clone());
        }
        let mut lent = self.shared.lent.lock().await;
        if let Some((since, credentials)) = lent.as_ref().filter(|(since, _)| since.elapsed() < LENT_FOR) {
            tracing::trace!(age = since.elapsed().as_secs(), "keys that were lent are used again");
            return Ok(credentials.clone());
        }
        let credentials = lent::borrow(&self.shared.env, tls).await?;
        *lent = Some((Instant::now(), credentials.clone()));
        Ok(credentials)
    }
}

/// Full jitter: many that were slowed down together do not come back together.
fn backoff(tries: u32) -> Duration {
    let most = BACKOFF.saturating_mul(1 << tries.min(6));
    let (_, random) = Uuid::now_v7().as_u64_pair();
    let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % millis.max(1) + 20)
}

pub(super) fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}

pub(super) fn authority(endpoint: &str) -> &str {
    endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest).split('/').next().unwrap_or_default()
}

/// Which error an answer is that is not 2xx.
fn judged(call: &Call, incoming: &Incoming) -> Error {
    let (code, text) = told(incoming);
    let operation = call.operation.to_owned();
    if SLOWER.contains(&code.as_str()) || incoming.status == 429 {
        return Error::Throttled { operation, code, text };
    }
    if DENIED.contains(&code.as_str()) || incoming.status == 401 || (incoming.status == 403 && code == "403") {
        return Error::Denied { operation, code, text };
    }
    if incoming.status >= 500 {
        let text = format!("{code}: {text}");
        return Error::Unreachable { operation, endpoint: call.endpoint.clone(), text };
    }
    Error::Refused { operation, code, text }
}

/// AWS's word and sentence in an answer of any of its protocols; the status where it has none.
fn told(incoming: &Incoming) -> (String, String) {
    let text = String::from_utf8_lossy(&incoming.body);
    let status = || (incoming.status.to_string(), text.chars().take(200).collect::<String>());
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(&text) {
        let word = |key: &str| json.get(key).and_then(serde_json::Value::as_str);
        let Some(code) = word("__type").or_else(|| word("code")) else { return status() };
        let code = code.rsplit('#').next().unwrap_or(code).to_owned();
        let sentence = word("message").or_else(|| word("Message")).unwrap_or_default();
        return (code, sentence.to_owned());
    }
    match xml::error(&text) {
        Some(told) => told,
        None => status(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(status: u16, body: &str) -> (&'static str, String) {
        let call = Call {
            service: "ssm",
            operation: "ssm:SendCommand",
            method: "POST",
            endpoint: "http://x".to_owned(),
            path: "/".to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            repeatable: true,
            limit: Duration::from_secs(1),
        };
        let error = judged(&call, &Incoming { status, body: Bytes::copy_from_slice(body.as_bytes()) });
        (error.code(), error.to_string())
    }

    #[test]
    fn errors_of_all_protocols_are_told_apart() {
        let ec2 = "<?xml version=\"1.0\"?><Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message>\
                   </Error></Errors><RequestID>a</RequestID></Response>";
        let s3 = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>gone</Message><Key>a</Key></Error>";
        for (status, body, code, words) in [
            (400, r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#, "E0954", "ThrottlingException"),
            (400, r#"{"__type":"com.amazon#InvalidInstanceId","message":"x"}"#, "E0955", ": InvalidInstanceId: x"),
            (400, r#"{"__type":"AccessDeniedException","Message":"y"}"#, "E0953", ": y"),
            (403, ec2, "E0953", "UnauthorizedOperation: no"),
            (404, s3, "E0955", "NoSuchKey: gone"),
            (403, "", "E0953", "403"),
            (503, "<html>busy", "E0952", "503"),
            (500, r#"{"__type":"InternalServerError","message":"z"}"#, "E0952", "InternalServerError: z"),
        ] {
            let (found, text) = judge(status, body);
            assert_eq!(found, code, "{body}");
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        for tries in 1..=TRIES_MAX {
            assert!(backoff(tries) <= BACKOFF * (1 << tries) + Duration::from_millis(20));
        }
    }
}
