//! Credentials files: tokens that an operator's and an account's key sign, as `nsc` makes them.

use nkeys::KeyPair;
use patchloom_bed::nats::{Options, Server, left_out};
use serde_json::{Value, json};

use crate::system::System;

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        text.extend((0..=chunk.len()).map(|at| char::from(LETTERS[(word >> (18 - 6 * at) & 63) as usize])));
    }
    text
}

/// A token that says `nats` of `subject`, signed by `issuer`.
fn token(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: Value) -> String {
    let head = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let claims = json!({
        "jti": subject.public_key(), "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(),
        "name": name, "nats": nats,
    });
    let text = format!("{}.{}", base64url(head.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
    let signature = issuer.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", base64url(&signature))
}

fn account(operator: &KeyPair, account: &KeyPair, name: &str, storage: i64) -> String {
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": storage, "disk_storage": storage, "streams": -1, "consumer": -1,
    });
    token(operator, account, name, json!({"type": "account", "version": 2, "limits": limits}))
}

#[test]
fn an_engine_gets_in_with_a_credentials_file_and_without_it_not() {
    if left_out() {
        return;
    }
    let (operator, system, patchloom, user) =
        (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account(), KeyPair::new_user());
    let config = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n  {}: {}\n  {}: {}\n}}\n",
        token(&operator, &operator, "operator", json!({"type": "operator", "version": 2})),
        system.public_key(),
        system.public_key(),
        account(&operator, &system, "SYS", 0),
        patchloom.public_key(),
        account(&operator, &patchloom, "PATCHLOOM", -1),
    );
    let server = Server::start(Options { config, ..Options::default() });
    let place = System::new(server.url());
    let of_user = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}});
    let creds = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        token(&patchloom, &user, "engine", of_user),
        user.seed().unwrap()
    );
    let file = place.dir.path().join("engine.creds");
    std::fs::write(&file, creds).unwrap();
    let refused = place.call(&["run", "list"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(3) && error.contains("E0641"), "{error}");
    let file = file.to_str().unwrap();
    let mut engine = place.stays("a", &["serve", "--nats", &place.url, "--nats-creds", file, "--name", "a"]);
    engine.says("Leads main.", 1);
    place.ask(&["run", "list", "--nats-creds", file]);
    engine.stop();
}
