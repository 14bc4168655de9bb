//! Real NATS servers with JetStream, each in a directory and on ports of its own, and a bad line to them.
//!
//! ```no_run
//! use patchloom_bed::nats::{Options, Proxy, Server};
//! let mut server = Server::start(Options::default());
//! let line = Proxy::start(&server.url());
//! // … connect a client to line.url() …
//! line.cut();
//! server.kill9();
//! server.restart();
//! line.heal();
//! ```

mod cluster;
mod proxy;
mod server;

pub use cluster::Cluster;
pub use proxy::Proxy;
pub use server::{Options, Server, Sync, Version, binary_path};

/// Whether this run leaves the tests on real servers out: `tests/run --quick` says so.
///
/// Each such test begins with `if patchloom_bed::nats::left_out() { return; }`.
#[must_use]
pub fn left_out() -> bool {
    let left_out = std::env::var_os("PATCHLOOM_TEST_QUICK").is_some();
    if left_out {
        eprintln!("left out: this test needs a real nats-server, and the run is a quick one");
    }
    left_out
}

/// Where Python finds the library that speaks NATS, for `PYTHONPATH`.
///
/// # Panics
/// With one line saying what to run, where the cache does not have it.
#[must_use]
#[track_caller]
pub fn python_path() -> std::path::PathBuf {
    let path = crate::cache().map(|cache| cache.join("python/lib")).filter(|path| path.is_dir());
    path.unwrap_or_else(|| panic!("nats-py is missing in the cache: run tests/lab/python.sh, it fetches it"))
}
