//! AWS without its SDK: signed requests for the few operations that patching needs, and a shell behind Systems Manager.
//!
//! Each request that is sent here stands in docs/aws.md, in the policy that allows it and nothing else.

mod error;
mod settings;
mod sign;

mod http;
mod lent;
mod xml;

mod client;

mod ec2;
mod hosts;
mod s3;
mod ssm;
mod tags;
mod volumes;

mod shell;

pub use client::Aws;
pub use ec2::{Purpose, VolumeSnapshot};
pub use error::Error;
pub use settings::{AwsOptions, Environment, Place};
pub(crate) use shell::Shell;
pub use ssm::{Invocation, Standing};
pub use tags::InstanceTag;
pub(crate) use volumes::order_key;
pub use volumes::{AttachedVolume, Replacement};
