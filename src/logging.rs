//! Logs on stderr, for whoever asks for them.

use tracing_subscriber::EnvFilter;

/// Starts logging: warnings always, more with each `-v`; `PATCHLOOM_LOG` (such as `patchloom_engine=trace`) overrides.
///
/// Only the first call of a process counts.
pub fn start(verbose: u8, color: bool) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    // Other crates' debug lines help nobody who debugs Patchloom.
    let ours =
        format!("warn,patchloom={level},patchloom_core={level},patchloom_engine={level},patchloom_workers={level}");
    let filter = std::env::var("PATCHLOOM_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(ours));
    // A subscriber that is there already belongs to a test.
    drop(tracing_subscriber::fmt().with_env_filter(filter).with_ansi(color).with_writer(std::io::stderr).try_init());
}
