//! How a command that works on hosts reaches those over SSH.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use patchloom_workers::carry::Carrier;
use patchloom_workers::ssh::{HOST_DIR, SshOptions};

use super::AwsArgs;

/// Keys, known hosts and the binary to carry; which host, as whom and over which others, stands in the target.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Hosts over SSH")]
pub struct SshArgs {
    /// The private key for hosts [default: those of ssh's own configuration and agent]
    #[arg(long, value_name = "FILE", env = "PATCHLOOM_SSH_IDENTITY")]
    pub ssh_identity: Option<PathBuf>,
    /// The known host keys, and no others [default: those of ssh's own configuration]
    #[arg(long, value_name = "FILE", env = "PATCHLOOM_KNOWN_HOSTS")]
    pub known_hosts: Option<PathBuf>,
    /// ssh's configuration file [default: ~/.ssh/config and /etc/ssh/ssh_config]
    #[arg(long, value_name = "FILE", env = "PATCHLOOM_SSH_CONFIG", hide_short_help = true)]
    pub ssh_config: Option<PathBuf>,
    /// How many seconds a connection may take to stand
    #[arg(
        long,
        value_name = "SECONDS",
        env = "PATCHLOOM_SSH_TIMEOUT",
        default_value_t = 10,
        hide_short_help = true,
        value_parser = clap::value_parser!(u64).range(1..=600)
    )]
    pub ssh_timeout: u64,
    /// The build of patchloom that is carried to hosts [default: this one]
    #[arg(long, value_name = "FILE", env = "PATCHLOOM_CARRY", hide_short_help = true)]
    pub carry: Option<PathBuf>,
    /// The data directory on hosts
    #[arg(long, value_name = "DIR", env = "PATCHLOOM_HOST_DIR", default_value = HOST_DIR, hide_short_help = true,
        value_parser = host_dir)]
    pub host_dir: String,
    /// How hosts behind AWS Systems Manager are reached.
    #[command(flatten)]
    pub aws: Box<AwsArgs>,
}

fn host_dir(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text.trim_end_matches('/').len() > 1 {
        return Ok(text.to_owned());
    }
    Err("write an absolute path below the root directory".to_owned())
}

impl SshArgs {
    /// Whoever carries tasks to hosts.
    #[must_use]
    pub fn carrier(&self) -> Carrier {
        Carrier::with_aws(self.options(), self.aws.options())
    }

    /// What this machine brings to a connection.
    #[must_use]
    pub fn options(&self) -> SshOptions {
        SshOptions {
            identity: self.ssh_identity.clone(),
            known_hosts: self.known_hosts.clone(),
            config: self.ssh_config.clone(),
            connect_timeout: Duration::from_secs(self.ssh_timeout),
            carry: self.carry.clone(),
            host_dir: self.host_dir.clone(),
            ..SshOptions::default()
        }
    }
}
