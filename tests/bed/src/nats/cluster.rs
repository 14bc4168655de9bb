//! Several servers that are one: routes on loopback, each member with a process and a directory of its own.

use std::time::{Duration, Instant};

use super::server::free_ports;
use super::{Options, Server};

const AGREED_WITHIN: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// A cluster of one's own; it is gone when dropped.
///
/// Members do not tell clients of each other: a client knows the addresses it was given, and a
/// [`Proxy`](super::Proxy) cannot be gone around.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Server>,
}

impl Cluster {
    /// Starts a cluster of so many members and returns when all are ready and agree on a leader.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    #[track_caller]
    pub fn start(members: usize) -> Self {
        Self::start_with(members, &Options::default())
    }

    /// As [`start`](Self::start), with members of another kind.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    #[track_caller]
    pub fn start_with(members: usize, options: &Options) -> Self {
        let ports = free_ports(members * 3);
        let routes: Vec<String> = ports.chunks(3).map(|own| format!("\"nats-route://127.0.0.1:{}\"", own[2])).collect();
        let member = |(at, own): (usize, &[u16])| {
            let cluster = format!(
                "\ncluster {{\n  name: bed\n  listen: \"127.0.0.1:{}\"\n  no_advertise: true\n  routes: [{}]\n}}\n",
                own[2],
                routes.join(", ")
            );
            let options = Options { config: format!("{}{cluster}", options.config), ..options.clone() };
            let mut server = Server::prepare(&format!("member-{at}"), options, &own[..2]);
            server.restart_unready();
            server
        };
        let mut cluster = Self { members: ports.chunks(3).enumerate().map(member).collect() };
        cluster.await_ready();
        cluster
    }

    /// The addresses of all members, joined by commas, as a client takes them.
    #[must_use]
    pub fn url(&self) -> String {
        self.urls().join(",")
    }

    /// The address of each member.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(Server::url).collect()
    }

    /// One member.
    ///
    /// # Panics
    /// Where there are not so many.
    #[must_use]
    #[track_caller]
    pub fn member(&mut self, at: usize) -> &mut Server {
        &mut self.members[at]
    }

    /// The member that leads the cluster's own affairs now: creating and placing streams.
    ///
    /// # Panics
    /// Where the members do not agree on one within a minute.
    #[must_use]
    #[track_caller]
    pub fn leader(&self) -> usize {
        let end = Instant::now() + AGREED_WITHIN;
        loop {
            let named: Vec<Option<String>> =
                self.members.iter().filter(|member| member.is_running()).map(leader_as_seen_by).collect();
            let at = named.first().cloned().flatten().and_then(|name| name.strip_prefix("member-")?.parse().ok());
            if let Some(at) = at
                && named.iter().all(|name| name == &named[0])
                && self.members.get(at).is_some_and(Server::is_running)
            {
                return at;
            }
            assert!(Instant::now() < end, "the members of the cluster do not agree on a leader: {named:?}");
            std::thread::sleep(ASK_EVERY);
        }
    }

    /// Returns when every member that runs says it is ready and all agree on a leader.
    ///
    /// # Panics
    /// Where that takes too long.
    #[track_caller]
    pub fn await_ready(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.is_running()) {
            member.await_ready();
        }
        let _ = self.leader();
    }
}

fn leader_as_seen_by(member: &Server) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_str(&member.ask("/jsz")?).ok()?;
    Some(answer.pointer("/meta_cluster/leader")?.as_str()?.to_owned())
}
