//! The configuration of one server.

use super::Setup;

/// What the server called `server` is started with.
pub(super) fn render(setup: &Setup, server: &str) -> String {
    let (at, store) = (setup.at.display(), setup.store.display());
    let tls = |more: &str| {
        format!(
            "{{ ca_file: \"{at}/tls/ca.pem\", cert_file: \"{at}/tls/{server}.pem\", key_file: \"{at}/tls/{server}.key\"{more} }}"
        )
    };
    let mut text = format!(
        "# Made by `patchloom nats setup`: nats-server -c {server}.conf\n\
         server_name: \"{server}\"\n\
         listen: \"0.0.0.0:4222\"\n\
         # Who watches asks on this machine only.\n\
         http: \"127.0.0.1:8222\"\n\
         # A record of the journal is one message.\n\
         max_payload: 8MB\n\
         # Acknowledged means flushed to disk: nothing less is worth root on a fleet.\n\
         jetstream {{ store_dir: \"{store}\", sync_interval: always }}\n\
         tls {}\n\
         include accounts.conf\n",
        tls("")
    );
    if setup.servers.len() > 1 {
        let routes: Vec<String> = setup.servers.iter().map(|peer| format!("\"nats-route://{peer}:6222\"")).collect();
        text += &format!(
            "# Others are told of by name: certificates are of names, not of addresses.\n\
             client_advertise: \"{server}:4222\"\n\
             cluster {{\n  name: patchloom\n  listen: \"0.0.0.0:6222\"\n  advertise: \"{server}:6222\"\n  routes: [{}]\n  tls {}\n}}\n",
            routes.join(", "),
            tls(", verify: true")
        );
    }
    text
}
