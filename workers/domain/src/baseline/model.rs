//! The parts of a baseline and of a patch, in the JSON of the SSM API, with its limits.

use serde::{Deserialize, Serialize};

use super::time::{Moment, days};

/// At most so many names in a list of approved or rejected patches.
const NAMES_MAX: usize = 50;
/// At most so many rules.
const RULES_MAX: usize = 10;
/// At most so many filters in a group.
const FILTERS_MAX: usize = 4;
/// At most so many values of a filter.
const VALUES_MAX: usize = 20;
/// The longest delay.
const DAYS_MAX: u32 = 360;

/// A baseline.
///
/// # Source
/// `CreatePatchBaseline` and `GetPatchBaseline` of the SSM API, version 2014-11-06.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Baseline {
    /// Its name.
    pub name: String,
    /// What it is for; Windows where none is given, as in SSM.
    #[serde(default)]
    pub operating_system: OperatingSystem,
    /// What a patch has to be for any rule to see it.
    #[serde(default)]
    pub global_filters: PatchFilters,
    /// The rules.
    #[serde(default)]
    pub approval_rules: ApprovalRules,
    /// Names of patches that are approved at once.
    #[serde(default)]
    pub approved_patches: Vec<String>,
    /// How bad it is where one of them is missing.
    #[serde(default)]
    pub approved_patches_compliance_level: ComplianceLevel,
    /// Whether they may be no security updates, on Linux.
    #[serde(default)]
    pub approved_patches_enable_non_security: bool,
    /// Names of patches that are rejected.
    #[serde(default)]
    pub rejected_patches: Vec<String>,
    /// What becomes of them.
    #[serde(default)]
    pub rejected_patches_action: RejectedAction,
    /// Whatever else SSM keeps with it: id, groups, dates, sources. It goes out as it came in.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// The rules of a baseline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ApprovalRules {
    /// Each by itself may approve a patch.
    #[serde(default)]
    pub patch_rules: Vec<PatchRule>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct PatchRule {
    /// What a patch has to be.
    pub patch_filter_group: PatchFilters,
    /// How bad it is where one is missing.
    #[serde(default)]
    pub compliance_level: ComplianceLevel,
    /// Approved so many days after its release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve_after_days: Option<u32>,
    /// Approved where it was released on this day at the latest: `YYYY-MM-DD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve_until_date: Option<String>,
    /// Whether it sees what is no security update, on Linux.
    #[serde(default)]
    pub enable_non_security: bool,
}

/// Filters that all have to fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct PatchFilters {
    /// Them.
    #[serde(default)]
    pub patch_filters: Vec<PatchFilter>,
}

/// A property and the values of which it has to have one; `*` is any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct PatchFilter {
    /// The property.
    pub key: FilterKey,
    /// The values.
    pub values: Vec<String>,
}

/// A property that filters ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "the names are those of SSM and say it")]
pub enum FilterKey {
    Arch,
    AdvisoryId,
    BugzillaId,
    PatchSet,
    Product,
    ProductFamily,
    Classification,
    CveId,
    Epoch,
    MsrcSeverity,
    Name,
    PatchId,
    Section,
    Priority,
    Repository,
    Release,
    Severity,
    Security,
    Version,
}

/// What a baseline is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of SSM and say it")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OperatingSystem {
    #[default]
    Windows,
    AmazonLinux,
    #[serde(rename = "AMAZON_LINUX_2")]
    AmazonLinux2,
    #[serde(rename = "AMAZON_LINUX_2022")]
    AmazonLinux2022,
    #[serde(rename = "AMAZON_LINUX_2023")]
    AmazonLinux2023,
    Ubuntu,
    RedhatEnterpriseLinux,
    Suse,
    Centos,
    OracleLinux,
    Debian,
    Macos,
    Raspbian,
    RockyLinux,
    AlmaLinux,
}

impl OperatingSystem {
    /// Whether SSM knows security updates from others there, and leaves the others out unless told not to.
    pub(super) fn is_linux(self) -> bool {
        !matches!(self, Self::Windows | Self::Macos)
    }
}

/// How bad it is where a patch is missing; in the order of the worst first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "the names are those of SSM and say it")]
pub enum ComplianceLevel {
    Critical,
    High,
    Medium,
    Low,
    Informational,
    #[default]
    Unspecified,
}

/// What becomes of a rejected patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RejectedAction {
    /// It is installed where another one needs it.
    #[default]
    AllowAsDependency,
    /// It is never installed, nor what needs it.
    Block,
}

/// A patch that may be approved, as SSM's `Patch` has it, and a few things more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[allow(missing_docs, reason = "the names are those of SSM and say it")]
pub struct PatchCandidate {
    pub id: String,
    pub release_date: Option<Moment>,
    pub title: String,
    pub product_family: String,
    pub product: String,
    pub classification: String,
    pub msrc_severity: String,
    pub kb_number: String,
    pub msrc_number: String,
    pub advisory_ids: Vec<String>,
    pub bugzilla_ids: Vec<String>,
    #[serde(rename = "CVEIds")]
    pub cve_ids: Vec<String>,
    pub name: String,
    pub epoch: u32,
    pub version: String,
    pub release: String,
    pub arch: String,
    pub severity: String,
    pub repository: String,
    /// Of a Debian package.
    pub section: String,
    /// Of a Debian package.
    pub priority: String,
    /// Whether it is a security update; where it is not told, its classification tells.
    pub security: Option<bool>,
    /// When an archive first offered it.
    pub first_seen: Option<Moment>,
    /// When somebody last looked at the package and it was not on offer yet.
    pub not_before: Option<Moment>,
}

/// A baseline that SSM would not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaselineError {
    /// It is not of that shape.
    #[error("this is no patch baseline: {0}")]
    Shape(String),
    /// A part has too few or too many.
    #[error("{place} has {found} entries; SSM takes {least} to {most}")]
    Count {
        /// Where.
        place: String,
        /// How many there are.
        found: usize,
        /// How many there have to be.
        least: usize,
        /// How many there may be.
        most: usize,
    },
    /// A rule has both ways to approve, or none.
    #[error("{place} needs either ApproveAfterDays or ApproveUntilDate, not both")]
    When {
        /// Where.
        place: String,
    },
    /// A delay is too long.
    #[error("{place}.ApproveAfterDays is {found}; SSM takes 0 to {DAYS_MAX}")]
    Days {
        /// Where.
        place: String,
        /// The delay.
        found: u32,
    },
    /// A date is none.
    #[error("{place}.ApproveUntilDate is '{found}'; write a day such as 2026-11-30")]
    Date {
        /// Where.
        place: String,
        /// The text.
        found: String,
    },
}

impl Baseline {
    /// Reads a baseline from the JSON of `get-patch-baseline`, or of the input of `create-patch-baseline`.
    ///
    /// # Errors
    /// What SSM would not take, with its place.
    /// # Example
    /// ```
    /// use patchloom_domain::Baseline;
    /// let text = r#"{"Name":"b","OperatingSystem":"DEBIAN","ApprovalRules":{"PatchRules":[
    ///     {"PatchFilterGroup":{"PatchFilters":[{"Key":"PRIORITY","Values":["Required"]}]},"ApproveAfterDays":7}]}}"#;
    /// assert_eq!(Baseline::read(text)?.approval_rules.patch_rules.len(), 1);
    /// let error = Baseline::read(&text.replace(":7", ":700")).unwrap_err();
    /// assert!(error.to_string().starts_with("ApprovalRules.PatchRules[0].ApproveAfterDays is 700"));
    /// # Ok::<(), patchloom_domain::BaselineError>(())
    /// ```
    pub fn read(text: &str) -> Result<Self, BaselineError> {
        let baseline: Self = serde_json::from_str(text).map_err(|error| BaselineError::Shape(error.to_string()))?;
        baseline.check()?;
        Ok(baseline)
    }

    fn check(&self) -> Result<(), BaselineError> {
        let count = |place: &str, found: usize, least: usize, most: usize| match (least..=most).contains(&found) {
            true => Ok(()),
            false => Err(BaselineError::Count { place: place.to_owned(), found, least, most }),
        };
        let filters = |place: &str, group: &PatchFilters, least: usize| {
            count(&format!("{place}.PatchFilters"), group.patch_filters.len(), least, FILTERS_MAX)?;
            group.patch_filters.iter().enumerate().try_for_each(|(at, filter)| {
                count(&format!("{place}.PatchFilters[{at}].Values"), filter.values.len(), 1, VALUES_MAX)
            })
        };
        filters("GlobalFilters", &self.global_filters, 0)?;
        count("ApprovalRules.PatchRules", self.approval_rules.patch_rules.len(), 0, RULES_MAX)?;
        count("ApprovedPatches", self.approved_patches.len(), 0, NAMES_MAX)?;
        count("RejectedPatches", self.rejected_patches.len(), 0, NAMES_MAX)?;
        for (at, rule) in self.approval_rules.patch_rules.iter().enumerate() {
            let place = format!("ApprovalRules.PatchRules[{at}]");
            filters(&format!("{place}.PatchFilterGroup"), &rule.patch_filter_group, 0)?;
            match (rule.approve_after_days, &rule.approve_until_date) {
                (Some(found), None) if found > DAYS_MAX => return Err(BaselineError::Days { place, found }),
                (None, Some(found)) if days(found).is_none() => {
                    return Err(BaselineError::Date { place, found: found.clone() });
                }
                (Some(_), None) | (None, Some(_)) => {}
                (Some(_), Some(_)) | (None, None) => return Err(BaselineError::When { place }),
            }
        }
        Ok(())
    }
}
