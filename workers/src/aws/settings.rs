//! Who we are for AWS and where it is: environment, then the shared files of profiles, then what the machine is lent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Error;
use super::sign::Credentials;

/// What a person said; what is absent comes from the environment and the shared files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsOptions {
    /// The profile of the shared files.
    pub profile: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Where what is too large for a command is carried: `BUCKET` or `BUCKET/PREFIX`.
    pub bucket: Option<String>,
}

/// The variables of the environment, as far as they are set and not empty.
pub type Environment = BTreeMap<String, String>;

/// Where AWS is and who we are there.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) region: String,
    /// `None`: whoever lends keys to this machine is asked.
    pub(super) credentials: Option<Credentials>,
    /// Services, or `""` for all, with an address of their own.
    pub(super) endpoints: BTreeMap<String, String>,
    pub(super) bucket: Option<Place>,
    /// More authorities to trust.
    pub(super) authorities: Option<PathBuf>,
}

/// A bucket and what names in it begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The bucket.
    pub bucket: String,
    /// The key, or the beginning of keys; without a slash at its ends.
    pub key: String,
}

impl Place {
    /// Reads `BUCKET[/KEY]`, with or without `s3://` before it.
    ///
    /// # Errors
    /// [`Error::Word`] where it is none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let rest = text.strip_prefix("s3://").unwrap_or(text);
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(plain) || key.len() > 1024 {
            return Err(Error::Word { what: "place in S3 (s3://BUCKET/KEY)", value: text.to_owned() });
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.trim_matches('/').to_owned() })
    }

    /// A place below it.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let key = if self.key.is_empty() { name.to_owned() } else { format!("{}/{name}", self.key) };
        Self { bucket: self.bucket.clone(), key }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// The environment of this process.
pub(super) fn environment() -> Environment {
    std::env::vars().filter(|(_, value)| !value.is_empty()).collect()
}

/// Puts together what was said, by the rules of the aws command line: options, environment, shared files.
pub(super) fn settle(options: &AwsOptions, env: &Environment) -> Result<Settings, Error> {
    let said = |name: &str| env.get(name).cloned();
    let profile = options.profile.clone().or_else(|| said("AWS_PROFILE"));
    let profiles = Profiles::read(env)?;
    let name = profile.as_deref().unwrap_or("default");
    if profile.is_some() && !profiles.has(name) {
        return Err(Error::Credentials { text: format!("the shared files know no profile '{name}'") });
    }
    let of = |key: &str| profiles.get(name, key);
    let region = options.region.clone().or_else(|| said("AWS_REGION")).or_else(|| said("AWS_DEFAULT_REGION"));
    let region = region.or_else(|| of("region")).ok_or(Error::Region)?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !region.chars().all(plain) {
        return Err(Error::Word { what: "region of AWS", value: region });
    }
    let key = |key: Option<String>, secret: Option<String>, token| match (key, secret) {
        (Some(key), Some(secret)) => Some(Credentials { key, secret, token }),
        (None, _) | (_, None) => None,
    };
    let env_keys = key(said("AWS_ACCESS_KEY_ID"), said("AWS_SECRET_ACCESS_KEY"), said("AWS_SESSION_TOKEN"));
    let file_keys = || key(of("aws_access_key_id"), of("aws_secret_access_key"), of("aws_session_token"));
    // A profile that is asked for by an option is meant more than what happens to stand in the environment.
    let credentials = match options.profile {
        Some(_) => file_keys().or(env_keys),
        None => env_keys.or_else(file_keys),
    };
    let mut endpoints = BTreeMap::new();
    for (service, variable) in [
        ("", "AWS_ENDPOINT_URL"),
        ("ec2", "AWS_ENDPOINT_URL_EC2"),
        ("s3", "AWS_ENDPOINT_URL_S3"),
        ("ssm", "AWS_ENDPOINT_URL_SSM"),
    ] {
        let from_file = || if service.is_empty() { of("endpoint_url") } else { None };
        if let Some(address) = said(variable).or_else(from_file) {
            endpoints.insert(service.to_owned(), address.trim_end_matches('/').to_owned());
        }
    }
    let bucket = options.bucket.clone().or_else(|| said("PATCHLOOM_AWS_BUCKET"));
    let bucket = bucket.map(|text| Place::parse(&text)).transpose()?;
    let authorities = said("AWS_CA_BUNDLE").or_else(|| of("ca_bundle")).map(PathBuf::from);
    Ok(Settings { region, credentials, endpoints, bucket, authorities })
}

impl Settings {
    /// Where a service is: scheme and authority.
    pub(super) fn endpoint(&self, service: &str) -> String {
        let own = self.endpoints.get(service).or_else(|| self.endpoints.get(""));
        own.cloned().unwrap_or_else(|| {
            let end = if self.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            format!("https://{service}.{}.{end}", self.region)
        })
    }

    /// Whether a service is not where AWS has it: names of buckets are then no part of the host's name.
    pub(super) fn is_elsewhere(&self, service: &str) -> bool {
        self.endpoints.contains_key(service) || self.endpoints.contains_key("")
    }
}

/// The shared files: profiles with their settings; keys win over configuration.
#[derive(Debug, Default)]
struct Profiles(BTreeMap<String, BTreeMap<String, String>>);

impl Profiles {
    fn read(env: &Environment) -> Result<Self, Error> {
        let home = env.get("HOME").map(|home| Path::new(home).join(".aws"));
        let mut profiles = Self::default();
        for (variable, file, keys) in
            [("AWS_CONFIG_FILE", "config", false), ("AWS_SHARED_CREDENTIALS_FILE", "credentials", true)]
        {
            let named = env.get(variable).map(PathBuf::from);
            let Some(path) = named.or_else(|| home.as_ref().map(|home| home.join(file))) else { continue };
            match std::fs::read_to_string(&path) {
                Ok(text) => profiles.add(&text, keys),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Config { path, source }),
            }
        }
        Ok(profiles)
    }

    /// Adds a file; in the one without keys, sections are named `profile NAME`.
    fn add(&mut self, text: &str, keys: bool) {
        let mut section: Option<String> = None;
        for line in text.lines() {
            // What is indented belongs to a setting of several lines: none of those is read here.
            if line.starts_with([' ', '\t', '#', ';']) {
                continue;
            }
            let line = line.trim();
            if let Some(head) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                let head = head.trim();
                let name = match head.strip_prefix("profile ") {
                    Some(name) if !keys => Some(name.trim()),
                    _ if keys || head == "default" => Some(head),
                    _ => None,
                };
                section = name.map(str::to_owned);
                if let Some(name) = &section {
                    self.0.entry(name.clone()).or_default();
                }
            } else if let (Some(name), Some((key, value))) = (&section, line.split_once('=')) {
                let value = value.split(" #").next().unwrap_or_default().trim();
                if !value.is_empty() {
                    self.0.entry(name.clone()).or_default().insert(key.trim().to_lowercase(), value.to_owned());
                }
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn get(&self, name: &str, key: &str) -> Option<String> {
        self.0.get(name)?.get(key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(dir: &Path, pairs: &[(&str, &str)]) -> Environment {
        let mut env: Environment = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        env.insert("HOME".to_owned(), dir.display().to_string());
        env
    }

    fn home() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        let config = "[default]\nregion = eu-west-1 # home\n[profile ops]\nregion=us-east-2\nendpoint_url = http://x:1/\n\
                      s3 =\n  region = nowhere\n[sso-session a]\nregion = none\n";
        let keys = "[default]\naws_access_key_id = A\naws_secret_access_key = B\n[ops]\naws_access_key_id=C\n\
                    aws_secret_access_key=D=\naws_session_token = E\n";
        std::fs::write(dir.path().join(".aws/config"), config).unwrap();
        std::fs::write(dir.path().join(".aws/credentials"), keys).unwrap();
        dir
    }

    #[test]
    fn options_win_over_the_environment_and_that_over_the_files() {
        let home = home();
        let plain = settle(&AwsOptions::default(), &env(home.path(), &[])).unwrap();
        let keys = |settings: &Settings| settings.credentials.clone().map(|own| (own.key, own.secret, own.token));
        assert_eq!((plain.region.as_str(), keys(&plain)), ("eu-west-1", Some(("A".into(), "B".into(), None))));
        assert_eq!(plain.endpoint("ssm"), "https://ssm.eu-west-1.amazonaws.com");
        let said = [("AWS_ACCESS_KEY_ID", "X"), ("AWS_SECRET_ACCESS_KEY", "Y"), ("AWS_REGION", "sa-east-1")];
        let told = settle(&AwsOptions::default(), &env(home.path(), &said)).unwrap();
        assert_eq!((told.region.as_str(), keys(&told)), ("sa-east-1", Some(("X".into(), "Y".into(), None))));
        let ops = AwsOptions { profile: Some("ops".to_owned()), ..AwsOptions::default() };
        let ops = settle(&ops, &env(home.path(), &said[..2])).unwrap();
        assert_eq!(ops.region, "us-east-2");
        assert_eq!(keys(&ops), Some(("C".into(), "D=".into(), Some("E".into()))));
        assert_eq!(ops.endpoint("ec2"), "http://x:1");
        let own = [("AWS_ENDPOINT_URL", "http://a"), ("AWS_ENDPOINT_URL_SSM", "http://b/")];
        let own = settle(&AwsOptions::default(), &env(home.path(), &own)).unwrap();
        assert_eq!((own.endpoint("ssm").as_str(), own.endpoint("s3").as_str()), ("http://b", "http://a"));
    }

    #[test]
    fn what_is_missing_is_told_by_its_code() {
        let empty = tempfile::tempdir().unwrap();
        let code = |options: AwsOptions, pairs: &[(&str, &str)]| {
            settle(&options, &env(empty.path(), pairs)).map(|_| "").unwrap_or_else(|error| error.code())
        };
        assert_eq!(code(AwsOptions::default(), &[]), "E0951");
        assert_eq!(code(AwsOptions::default(), &[("AWS_PROFILE", "none"), ("AWS_REGION", "a")]), "E0950");
        assert_eq!(code(AwsOptions::default(), &[("AWS_REGION", "a.evil.example/")]), "E0965");
        assert_eq!(code(AwsOptions::default(), &[("AWS_REGION", "a")]), "", "keys are asked for when they are needed");
        let bucket = AwsOptions { bucket: Some("Not A Bucket".to_owned()), ..AwsOptions::default() };
        assert_eq!(code(bucket, &[("AWS_REGION", "a")]), "E0965");
    }

    #[test]
    fn places_in_s3_are_read_with_and_without_their_scheme() {
        for (text, bucket, key) in
            [("s3://proofs/2026/a.zst", "proofs", "2026/a.zst"), ("proofs", "proofs", ""), ("proofs/x/", "proofs", "x")]
        {
            let place = Place::parse(text).unwrap();
            assert_eq!((place.bucket.as_str(), place.key.as_str()), (bucket, key));
        }
        assert_eq!(Place::parse("proofs/x").unwrap().join("y").to_string(), "s3://proofs/x/y");
        for bad in ["", "s3://", "s3:///key", "http://x/y", "A/b"] {
            assert_eq!(Place::parse(bad).unwrap_err().code(), "E0965", "{bad}");
        }
    }
}
