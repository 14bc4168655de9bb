//! An authority of the installation's own, and a certificate for each server, signed by it.

use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::{Span, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::{Made, private_dir, write};

/// For how long the authority is good.
const CA_DAYS: i64 = 3650;
/// For how long a server's certificate is: browsers take no longer ones, and a yearly change is a habit.
const SERVER_DAYS: i64 = 397;
/// Clocks that are a little behind take a certificate that is made now.
const BEFORE_DAYS: i64 = 1;

/// Makes what is missing: `ca.pem`, `ca.key`, and `SERVER.pem` and `SERVER.key` for each.
pub(super) fn make(dir: &Path, servers: &[String], made: &mut Made) -> Result<()> {
    private_dir(dir)?;
    let (ca_pem, ca_key) = (dir.join("ca.pem"), dir.join("ca.key"));
    if !ca_pem.exists() {
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = authority()?.self_signed(&key).context("cannot make the authority")?;
        write(&ca_key, &key.serialize_pem(), 0o600, made)?;
        write(&ca_pem, &certificate.pem(), 0o644, made)?;
    } else {
        made.kept.push(ca_pem);
    }
    for server in servers {
        let (pem, key_file) = (dir.join(format!("{server}.pem")), dir.join(format!("{server}.key")));
        if pem.exists() {
            made.kept.push(pem);
            continue;
        }
        let read = std::fs::read_to_string(&ca_key);
        let read = read.with_context(|| format!("{} is needed to sign, and cannot be read", ca_key.display()))?;
        let signer = KeyPair::from_pem(&read).with_context(|| format!("{} is no key", ca_key.display()))?;
        let issuer = Issuer::new(authority()?, signer);
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = of_server(server)?.signed_by(&key, &issuer).context("cannot make a certificate")?;
        write(&key_file, &key.serialize_pem(), 0o600, made)?;
        write(&pem, &certificate.pem(), 0o644, made)?;
    }
    Ok(())
}

/// Signed again it is the same authority: names and key decide, not the dates.
fn authority() -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Patchloom NATS");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, CA_DAYS)?;
    Ok(params)
}

fn of_server(server: &str) -> Result<CertificateParams> {
    let names = [server, "localhost", "127.0.0.1"].map(str::to_owned).to_vec();
    let mut params = CertificateParams::new(names).with_context(|| format!("{server} is no name of a server"))?;
    params.distinguished_name.push(DnType::CommonName, server);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Servers of a cluster are each other's clients.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    valid(&mut params, SERVER_DAYS)?;
    Ok(params)
}

fn valid(params: &mut CertificateParams, days: i64) -> Result<()> {
    let day = |from_now: i64| -> Result<_> {
        let then = Timestamp::now().checked_add(Span::new().hours(24 * from_now)).context("the clock is far off")?;
        let date = then.to_zoned(jiff::tz::TimeZone::UTC).date();
        Ok(rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs()))
    };
    params.not_before = day(-BEFORE_DAYS)?;
    params.not_after = day(days)?;
    Ok(())
}
