//! Signatures of AWS, version 4, over requests and over addresses. Pure: the time is an argument, and nothing is sent.
//!
//! Source: AWS, "Signature Version 4 for API requests", and its published test suite.

use ring::hmac;
use sha2::{Digest as _, Sha256};

use crate::artifact::hex;

/// Stands for a body that is not part of a signature.
pub(super) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Who signs.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The id of the access key.
    pub key: String,
    /// The access key itself.
    pub secret: String,
    /// What proves that keys which were lent for a while were lent.
    pub token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("key", &self.key).finish_non_exhaustive()
    }
}

/// For which service, where and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) service: &'a str,
    pub(super) region: &'a str,
    /// `20150830T123600Z`.
    pub(super) time: &'a str,
}

/// A request as it is signed.
#[derive(Clone, Debug)]
pub(super) struct Unsigned<'a> {
    pub(super) method: &'a str,
    /// Encoded once, as it stands in the request.
    pub(super) path: &'a str,
    /// Names and values, not encoded.
    pub(super) query: Vec<(String, String)>,
    /// Names in small letters, and values.
    pub(super) headers: Vec<(String, String)>,
    /// SHA-256 of the body in hex, or [`UNSIGNED`].
    pub(super) body: String,
}

/// The header `authorization` of a request whose headers already hold all that is signed.
pub(super) fn authorization(request: &Unsigned<'_>, scope: Scope<'_>, credentials: &Credentials) -> String {
    let (names, signature) = sign(request, scope, &credentials.secret);
    let place = place(scope);
    format!("{ALGORITHM} Credential={}/{place}, SignedHeaders={names}, Signature={signature}", credentials.key)
}

/// The query that lets whoever has it send the request, so many seconds long.
pub(super) fn presigned_query(
    mut request: Unsigned<'_>,
    scope: Scope<'_>,
    credentials: &Credentials,
    seconds: u64,
) -> String {
    let mut add = |name: &str, value: String| request.query.push((name.to_owned(), value));
    add("X-Amz-Algorithm", ALGORITHM.to_owned());
    add("X-Amz-Credential", format!("{}/{}", credentials.key, place(scope)));
    add("X-Amz-Date", scope.time.to_owned());
    add("X-Amz-Expires", seconds.to_string());
    if let Some(token) = &credentials.token {
        add("X-Amz-Security-Token", token.clone());
    }
    let names = names(&request);
    request.query.push(("X-Amz-SignedHeaders".to_owned(), names));
    let (_, signature) = sign(&request, scope, &credentials.secret);
    format!("{}&X-Amz-Signature={signature}", query(&request.query))
}

fn place(scope: Scope<'_>) -> String {
    format!("{}/{}/{}/aws4_request", day(scope.time), scope.region, scope.service)
}

fn day(time: &str) -> &str {
    time.get(..8).unwrap_or(time)
}

fn names(request: &Unsigned<'_>) -> String {
    let mut names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(";")
}

/// The names of the signed headers, and the signature.
fn sign(request: &Unsigned<'_>, scope: Scope<'_>, secret: &str) -> (String, String) {
    let canonical = canonical(request, scope.service);
    let digest = hex(&Sha256::digest(canonical));
    let text = format!("{ALGORITHM}\n{}\n{}\n{digest}", scope.time, place(scope));
    let key = [day(scope.time), scope.region, scope.service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| keyed(&key, part));
    (names(request), hex(&keyed(&key, &text)))
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// The request in the one form that both sides compute.
fn canonical(request: &Unsigned<'_>, service: &str) -> String {
    // All services but S3 encode the path of the request once more.
    let path = if service == "s3" { request.path.to_owned() } else { encoded(request.path, true) };
    let mut headers: Vec<(&str, String)> =
        request.headers.iter().map(|(name, value)| (name.as_str(), squeezed(value))).collect();
    headers.sort_by_key(|(name, _)| *name);
    let mut lines = String::new();
    let mut last = "";
    for (name, value) in &headers {
        match *name == last {
            true => lines.push_str(&format!(",{value}")),
            false => lines.push_str(&format!("{}{name}:{value}", if last.is_empty() { "" } else { "\n" })),
        }
        last = name;
    }
    let (query, names) = (query(&request.query), names(request));
    format!("{}\n{path}\n{query}\n{lines}\n\n{names}\n{}", request.method, request.body)
}

/// A value without spaces around it, and one where several stood.
fn squeezed(value: &str) -> String {
    value.split(' ').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A query, sorted and encoded.
pub(super) fn query(pairs: &[(String, String)]) -> String {
    let mut pairs: Vec<(String, String)> =
        pairs.iter().map(|(name, value)| (encoded(name, false), encoded(value, false))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Percent-encoded as RFC 3986 has it; `slash` lets slashes stand.
pub(super) fn encoded(text: &str, slash: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if slash => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// `20150830T123600Z` for seconds since 1970.
pub(super) fn time_text(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Year, month and day of a day since 1970.
///
/// # Source
/// Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn someone() -> Credentials {
        Credentials {
            key: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            token: None,
        }
    }

    const SCOPE: Scope<'_> = Scope { service: "service", region: "us-east-1", time: "20150830T123600Z" };

    fn request<'a>(method: &'a str, path: &'a str, query: &[(&str, &str)], headers: &[(&str, &str)]) -> Unsigned<'a> {
        let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let mut headers: Vec<(String, String)> = own(headers);
        headers.push(("host".to_owned(), "example.amazonaws.com".to_owned()));
        headers.push(("x-amz-date".to_owned(), SCOPE.time.to_owned()));
        Unsigned { method, path, query: own(query), headers, body: hex(&Sha256::digest(b"")) }
    }

    #[test]
    fn the_signatures_of_the_published_suite_come_out() {
        // The names of the cases in AWS's Signature Version 4 test suite.
        let suite = [
            (
                "get-vanilla",
                request("GET", "/", &[], &[]),
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "get-vanilla-query-order-key-case",
                request("GET", "/", &[("Param2", "value2"), ("Param1", "value1")], &[]),
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "get-header-value-trim",
                request("GET", "/", &[], &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")]),
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ),
            (
                "post-vanilla",
                request("POST", "/", &[], &[]),
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "post-vanilla-query",
                request("POST", "/", &[("Param1", "value1")], &[]),
                "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
            ),
        ];
        for (name, request, signature) in suite {
            let header = authorization(&request, SCOPE, &someone());
            assert!(header.ends_with(&format!("Signature={signature}")), "{name}: {header}");
            assert!(header.contains("Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "), "{header}");
        }
    }

    #[test]
    fn the_example_of_a_signed_address_in_the_manual_of_s3_comes_out() {
        let credentials = Credentials {
            key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            token: None,
        };
        let request = Unsigned {
            method: "GET",
            path: "/test.txt",
            query: Vec::new(),
            headers: vec![("host".to_owned(), "examplebucket.s3.amazonaws.com".to_owned())],
            body: UNSIGNED.to_owned(),
        };
        let scope = Scope { service: "s3", region: "us-east-1", time: "20130524T000000Z" };
        let query = presigned_query(request, scope, &credentials, 86_400);
        assert!(query.ends_with("aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"), "{query}");
    }

    #[test]
    fn times_are_written_as_aws_wants_them() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_440_938_160, "20150830T123600Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(time_text(seconds), text);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", Credentials { token: Some("lent".to_owned()), ..someone() });
        assert!(shown.contains("AKIDEXAMPLE") && !shown.contains("wJalr") && !shown.contains("lent"), "{shown}");
    }
}
