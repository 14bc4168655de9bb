//! `scan.packages` and `scan.findings`: what is installed, and what is known to be wrong with it.

use std::fs;

use patchloom_core::{Failure, UtcMs};
use patchloom_domain::windows::WindowsFacts;
use patchloom_domain::{InstalledPackage, Target};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{boxed, decode, encode, open};
use crate::artifact::ArtifactId;
use crate::host::HostExec;
use crate::manager::manager_of;
use crate::runtime::{BoxFuture, Handler, TaskContext};
use crate::tell::{self, Fact, host_name};
use crate::windows;

/// Names shown in a small output; all of them are in the artifact.
const NAMED_MAX: usize = 20;

/// The package database of a target at one moment: the artifact of `scan.packages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageScan {
    /// The target.
    pub target: Target,
    /// When it was read.
    pub at: UtcMs,
    /// The operating system as it calls itself.
    pub os: Os,
    /// Its architecture.
    pub architecture: String,
    /// All packages that the package manager knows a version of.
    pub packages: Vec<InstalledPackage>,
}

/// What os-release says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Os {
    /// `debian`, `ubuntu`.
    pub id: String,
    /// `12`.
    pub version: String,
    /// For a person.
    pub name: String,
}

impl PackageScan {
    /// Reads the database of a target.
    pub(super) async fn read(exec: &HostExec, context: &TaskContext) -> Result<Self, Failure> {
        let manager = manager_of(exec);
        let packages = manager.packages(exec, context.cancel()).await?;
        let architecture = manager.architecture(exec, context.cancel()).await?;
        let os = match exec.target() {
            Target::Windows(_) => windows_os(&windows::facts(exec, context.cancel()).await?),
            Target::Local | Target::Root { .. } | Target::Ssh(_) | Target::Ssm(_) => os_of(exec),
        };
        Ok(Self { target: exec.target().clone(), at: context.now(), os, architecture, packages })
    }

    /// The scan on record, else a new one.
    pub(super) async fn recall(
        exec: &HostExec,
        context: &TaskContext,
        id: Option<&ArtifactId>,
    ) -> Result<Self, Failure> {
        match id {
            Some(id) => context.get_json(id).await,
            None => Self::read(exec, context).await,
        }
    }

    /// Those that are installed, or in some state between.
    pub(super) fn present(&self) -> impl Iterator<Item = &InstalledPackage> {
        self.packages.iter().filter(|package| !matches!(state_of(package), 'c' | 'n'))
    }
}

/// The second letter of dpkg's abbreviation: what the package is, whatever is wanted of it.
pub(super) fn state_of(package: &InstalledPackage) -> char {
    package.status.chars().nth(1).unwrap_or('n')
}

/// Whether dpkg stopped halfway with it, or flags it with an error.
pub(super) fn is_broken(package: &InstalledPackage) -> bool {
    !matches!(state_of(package), 'i' | 'c' | 'n' | 'W' | 't') || package.status.len() > 2
}

fn windows_os(facts: &WindowsFacts) -> Os {
    Os { id: "windows".to_owned(), version: facts.version.clone(), name: facts.caption.clone() }
}

fn os_of(exec: &HostExec) -> Os {
    let read = |path: &str| fs::read_to_string(exec.path(path)).ok();
    let text = read("/etc/os-release").or_else(|| read("/usr/lib/os-release")).unwrap_or_default();
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.map(|value| value.trim_matches('"').to_owned()).unwrap_or_default()
    };
    Os { id: field("ID"), version: field("VERSION_ID"), name: field("PRETTY_NAME") }
}

/// `scan.packages {target}` → `{artifact, count, held, broken, os, architecture, at}`; the artifact is a [`PackageScan`].
pub struct ScanPackages;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackagesInput {
    target: Target,
}

impl Handler for ScanPackages {
    fn uses(&self) -> &'static str {
        "scan.packages"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, input: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        boxed(async move {
            let input: PackagesInput = decode(self.uses(), input)?;
            let exec = open(context, &input.target)?;
            context.progress(0.1, "reading the package database");
            let scan = PackageScan::read(&exec, context).await?;
            let artifact = context.put_json(&scan).await?;
            let names = |wanted: &dyn Fn(&InstalledPackage) -> bool| -> Vec<String> {
                scan.present().filter(|package| wanted(package)).map(|package| package.id.name.clone()).collect()
            };
            let broken = names(&is_broken);
            let held = names(&|package| package.held).len();
            let facts = json!({
                "packages": scan.present().count(), "held": held, "broken": broken.len(), "os": scan.os.name,
                "architecture": scan.architecture, "artifact": artifact,
            });
            tell::host(context, Fact::HostScanned, &host_name(&input.target), facts);
            Ok(json!({
                "artifact": artifact,
                "count": scan.present().count(),
                "held": held,
                "broken": broken.iter().take(NAMED_MAX).collect::<Vec<_>>(),
                "os": scan.os.name,
                "architecture": scan.architecture,
                "at": scan.at,
            }))
        })
    }
}

/// `scan.findings {target, packages}` → `{artifact, count, kinds, note}`.
///
/// The artifact lists what the package database itself shows to be wrong. Vulnerabilities need knowledge from outside:
/// where no scanner report or feed is configured, `correlate.cves` derives them from changelogs, and the note says so.
pub struct ScanFindings;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FindingsInput {
    #[serde(rename = "target")]
    _target: Target,
    packages: ArtifactId,
}

/// Something wrong with a package, by the database alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Condition {
    kind: ConditionKind,
    package: String,
    arch: String,
    version: String,
    status: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ConditionKind {
    /// dpkg stopped halfway: nothing can be patched before it is repaired.
    HalfInstalled,
    /// On hold: it gets no patch.
    Held,
    /// Waits for a trigger.
    TriggersPending,
}

impl Handler for ScanFindings {
    fn uses(&self) -> &'static str {
        "scan.findings"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, input: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        boxed(async move {
            let input: FindingsInput = decode(self.uses(), input)?;
            let scan: PackageScan = context.get_json(&input.packages).await?;
            let kind_of = |package: &InstalledPackage| match state_of(package) {
                _ if is_broken(package) => Some(ConditionKind::HalfInstalled),
                'W' | 't' => Some(ConditionKind::TriggersPending),
                _ if package.held => Some(ConditionKind::Held),
                _ => None,
            };
            let condition = |package: &InstalledPackage| {
                Some(Condition {
                    kind: kind_of(package)?,
                    package: package.id.name.clone(),
                    arch: package.id.arch.clone(),
                    version: package.version.clone(),
                    status: package.status.clone(),
                })
            };
            let conditions: Vec<Condition> = scan.present().filter_map(condition).collect();
            let count = |kind: ConditionKind| conditions.iter().filter(|one| one.kind == kind).count();
            encode(&json!({
                "artifact": context.put_json(&conditions).await?,
                "count": conditions.len(),
                "kinds": {
                    "half_installed": count(ConditionKind::HalfInstalled),
                    "held": count(ConditionKind::Held),
                    "triggers_pending": count(ConditionKind::TriggersPending),
                },
                "note": "no vulnerability feed or scanner report is configured: vulnerabilities are derived from the \
                         changelogs of the patches on offer",
            }))
        })
    }
}
