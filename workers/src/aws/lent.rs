//! Keys that AWS lends to the machine or the container that this process stands on.

use std::time::Duration;

use hyper::body::Bytes;
use serde::Deserialize;
use tokio_rustls::TlsConnector;

use super::Error;
use super::http::{self, Outgoing};
use super::settings::Environment;
use super::sign::Credentials;

/// The service stands beside the machine: it answers at once or is not there.
const LIMIT: Duration = Duration::from_secs(5);

const CONTAINER: &str = "http://169.254.170.2";
const MACHINE: &str = "http://169.254.169.254";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Lent {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

/// Asks the container's lender where one is named, else the machine's.
pub(super) async fn borrow(env: &Environment, tls: &TlsConnector) -> Result<Credentials, Error> {
    let relative = env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER}{path}"));
    let container = env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI").cloned().or(relative);
    let text = match container {
        Some(address) => {
            let token = match env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
                Some(path) => Some(std::fs::read_to_string(path).map_err(|error| none(&format!("{path}: {error}")))?),
                None => env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").cloned(),
            };
            let headers = token.map(|token| ("authorization".to_owned(), token.trim().to_owned()));
            ask("GET", address, headers.into_iter().collect(), tls).await?
        }
        None if env.get("AWS_EC2_METADATA_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true")) => {
            return Err(none("neither the environment nor the shared files hold keys"));
        }
        None => of_machine(env, tls).await?,
    };
    let lent: Lent = serde_json::from_str(&text).map_err(|error| none(&format!("what was lent is no key: {error}")))?;
    Ok(Credentials { key: lent.access_key_id, secret: lent.secret_access_key, token: lent.token })
}

/// Version 2 of the instance metadata service: a token first, so that no open proxy on the machine gives keys away.
async fn of_machine(env: &Environment, tls: &TlsConnector) -> Result<String, Error> {
    let base = env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").map_or(MACHINE, |base| base.trim_end_matches('/'));
    let ttl = ("x-aws-ec2-metadata-token-ttl-seconds".to_owned(), "300".to_owned());
    let token = ask("PUT", format!("{base}/latest/api/token"), vec![ttl], tls).await?;
    let header = || vec![("x-aws-ec2-metadata-token".to_owned(), token.clone())];
    let roles = ask("GET", format!("{base}{ROLES}"), header(), tls).await?;
    let role = roles.lines().next().map(str::trim).filter(|role| !role.is_empty());
    let role = role.ok_or_else(|| none("the machine has no role"))?;
    ask("GET", format!("{base}{ROLES}{role}"), header(), tls).await
}

async fn ask(
    method: &'static str,
    address: String,
    headers: Vec<(String, String)>,
    tls: &TlsConnector,
) -> Result<String, Error> {
    let outgoing = Outgoing { method, address, headers, body: Bytes::new() };
    let answer = http::send(&outgoing, tls, LIMIT).await;
    let answer = answer.map_err(|why| none(&format!("{} lends none: {}", outgoing.address, why.text)))?;
    if answer.status != 200 {
        return Err(none(&format!("{} answers {}", outgoing.address, answer.status)));
    }
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

fn none(text: &str) -> Error {
    Error::Credentials {
        text: format!("{text}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of the machine"),
    }
}
