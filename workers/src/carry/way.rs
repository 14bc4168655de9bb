//! How a machine is reached: over SSH or through Systems Manager. One command with input and output either way.

use std::path::Path;
use std::time::Duration;

use patchloom_core::Failure;
use patchloom_domain::Machine;

use crate::aws::{self, AwsOptions, Shell};
use crate::ssh::{self, Client, SshOptions, Stdin};

/// A way to one machine.
#[derive(Debug)]
pub(super) enum Way {
    Ssh(Box<Client>, Machine),
    Ssm(Box<Shell>, Machine),
}

/// What stood in the way.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Ssh(#[from] ssh::Error),
    #[error(transparent)]
    Ssm(#[from] aws::Error),
}

impl Way {
    /// Prepares a way; goes nowhere. `cache` is a directory of ours.
    pub(super) fn new(
        machine: &Machine,
        (ssh, aws): (&SshOptions, &AwsOptions),
        cache: &Path,
    ) -> Result<Self, Trouble> {
        Ok(match machine {
            Machine::Ssh(target) => Self::Ssh(Box::new(Client::new(target, ssh, cache)?), machine.clone()),
            Machine::Ssm(target) => Self::Ssm(Box::new(Shell::new(target, aws)?), machine.clone()),
        })
    }

    pub(super) fn machine(&self) -> &Machine {
        match self {
            Self::Ssh(_, machine) | Self::Ssm(_, machine) => machine,
        }
    }

    /// Runs a command as root and returns what it wrote.
    pub(super) async fn run(&self, argv: &[&str], stdin: Stdin<'_>, limit: Duration) -> Result<Vec<u8>, Trouble> {
        match self {
            Self::Ssh(client, _) => Ok(client.run(argv, stdin, limit).await?),
            Self::Ssm(shell, _) => Ok(shell.run(argv, stdin, limit).await?),
        }
    }

    /// The longest wait between two looks at a task: each is a command, and Systems Manager keeps a history of them.
    pub(super) fn look_max(&self) -> Duration {
        match self {
            Self::Ssh(..) => Duration::from_secs(2),
            Self::Ssm(..) => Duration::from_secs(15),
        }
    }

    /// It answers in another way than asked.
    pub(super) fn strange(&self, text: String) -> Trouble {
        match self {
            Self::Ssh(client, _) => ssh::Error::Answer { place: client.target().clone(), text }.into(),
            Self::Ssm(shell, _) => aws::Error::Answer { place: shell.target().to_string(), text }.into(),
        }
    }

    /// The binary does not run there.
    pub(super) fn unfit(&self, text: String) -> Trouble {
        match self {
            Self::Ssh(client, _) => ssh::Error::Binary { place: client.target().clone(), text }.into(),
            Self::Ssm(shell, _) => aws::Error::Binary { instance: shell.target().instance.clone(), text }.into(),
        }
    }
}

impl Trouble {
    /// The exit code and the words of a command that ran and failed.
    pub(super) fn remote(&self) -> Option<(i32, &str)> {
        match self {
            Self::Ssh(ssh::Error::Remote { code, text, .. }) | Self::Ssm(aws::Error::Remote { code, text, .. }) => {
                Some((*code, text))
            }
            Self::Ssh(_) | Self::Ssm(_) => None,
        }
    }

    /// Whether nobody knows if the command ran.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Ssh(ssh::Error::Lost { .. }) | Self::Ssm(aws::Error::Lost { .. }))
    }

    /// Whether the machine may answer later to the same question.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Ssh(error) => error.is_passing(),
            Self::Ssm(error) => error.is_passing(),
        }
    }

    /// As a task fails with it.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Ssh(error) => error.failure(),
            Self::Ssm(error) => error.failure(),
        }
    }
}
