//! Systems Manager: its instances, their inventory, patch states and compliance, and commands with how they end.

use std::time::Duration;

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::Error;
use super::client::{Aws, Call};

const LIMIT: Duration = Duration::from_secs(60);

/// A list has at most so many pages; AWS says where it ends well before.
const PAGES_MAX: usize = 2_000;

/// So many instances may be named in one question after their patch states.
const STATES_AT_ONCE: usize = 50;

/// What a command came to, as far as it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits or runs.
    Open,
    /// It ran to its end, whatever its exit code.
    Ran,
    /// It never began.
    Undelivered,
    /// It may have begun, and nobody knows how far it came.
    Unknown,
}

/// A command on one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Where it stands.
    pub standing: Standing,
    /// `Status` and `StatusDetails`, for people.
    pub words: String,
    /// Its exit code; -1 where it has none.
    pub code: i32,
    /// What it wrote: at most 24,000 characters of it.
    pub stdout: String,
    /// The same of its complaints: at most 8,000.
    pub stderr: String,
}

impl Standing {
    /// Where a command stands by what Systems Manager calls it.
    ///
    /// # Source
    /// "Understanding command statuses" in the manual of Systems Manager: some details stand under `Failed` although the
    /// command never reached the instance, and a command that ran into its time was begun.
    #[must_use]
    pub fn of(status: &str, details: &str) -> Self {
        let details: String = details.chars().filter(|c| !c.is_whitespace()).collect();
        match (status, details.as_str()) {
            ("Pending" | "InProgress" | "Delayed" | "Cancelling", _) => Self::Open,
            ("Success", _) => Self::Ran,
            (
                _,
                "Undeliverable" | "DeliveryTimedOut" | "InvalidPlatform" | "AccessDenied" | "LimitExceeded"
                | "RateExceeded",
            ) => Self::Undelivered,
            (_, "Terminated" | "ExecutionTimedOut" | "Incomplete") | ("Cancelled" | "TimedOut", _) => Self::Unknown,
            ("Failed", _) => Self::Ran,
            (_, _) => Self::Unknown,
        }
    }
}

impl Aws {
    /// What `describe-instance-information` of the aws command line prints: all instances that Systems Manager manages.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn instance_information(&self) -> Result<Value, Error> {
        let key = "InstanceInformationList";
        let list = self.pages_of("ssm:DescribeInstanceInformation", json!({ "MaxResults": 50 }), key).await?;
        Ok(json!({ key: list }))
    }

    /// What `get-inventory` prints for a type of the inventory, `AWS:Network` and the like.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn inventory_of_all(&self, type_name: &str) -> Result<Value, Error> {
        let wanted = json!({ "ResultAttributes": [{ "TypeName": type_name }], "MaxResults": 50 });
        Ok(json!({ "Entities": self.pages_of("ssm:GetInventory", wanted, "Entities").await? }))
    }

    /// How Patch Manager sees instances: counts of installed, missing and failed patches.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn patch_states(&self, instances: &[String]) -> Result<Vec<Value>, Error> {
        let mut found = Vec::new();
        for some in instances.chunks(STATES_AT_ONCE) {
            let wanted = json!({ "InstanceIds": some });
            found.extend(self.pages_of("ssm:DescribeInstancePatchStates", wanted, "InstancePatchStates").await?);
        }
        Ok(found)
    }

    /// Tells Systems Manager how an instance complies with a custom type of ours, replacing what was told before.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn put_compliance(&self, instance: &str, kind: &str, at: u64, items: &[Value]) -> Result<(), Error> {
        let told = json!({
            "ResourceId": instance, "ResourceType": "ManagedInstance", "ComplianceType": format!("Custom:{kind}"),
            "ExecutionSummary": { "ExecutionTime": at, "ExecutionType": "Command" }, "Items": items,
        });
        self.ask_ssm("ssm:PutComplianceItems", &told, true).await.map(drop)
    }

    /// Has a script run on one instance; returns the id of the command.
    ///
    /// Sent once where nobody knows whether it was read: the caller asks again when it knows that this does no harm.
    pub(super) async fn send_command(&self, order: &Order<'_>) -> Result<String, Error> {
        let Order { instance, script, delivery, execution, comment } = order;
        let lines: Vec<&str> = script.lines().collect();
        let body = json!({
            "DocumentName": "AWS-RunShellScript", "InstanceIds": [instance], "Comment": comment,
            // Less than 30 seconds is refused.
            "TimeoutSeconds": delivery.as_secs().clamp(30, 172_800),
            "Parameters": { "commands": lines, "executionTimeout": [execution.as_secs().clamp(1, 172_800).to_string()] },
        });
        let answer = self.ask_ssm("ssm:SendCommand", &body, false).await.map_err(|error| match error {
            // Not registered, gone, or its agent does not answer: AWS has one word for all.
            Error::Refused { code, text, .. } if code == "InvalidInstanceId" => {
                let text =
                    if text.is_empty() { "it is not registered there, or its agent is down".to_owned() } else { text };
                Error::Unmanaged { instance: (*instance).to_owned(), text }
            }
            other => other,
        })?;
        let id = answer["Command"]["CommandId"].as_str().map(str::to_owned);
        id.ok_or_else(|| strange("ssm:SendCommand", "it has no CommandId"))
    }

    /// A command on an instance; `None` while Systems Manager does not know of it yet.
    pub(super) async fn invocation(&self, command: &str, instance: &str) -> Result<Option<Invocation>, Error> {
        let wanted = json!({ "CommandId": command, "InstanceId": instance });
        let answer = match self.ask_ssm("ssm:GetCommandInvocation", &wanted, true).await {
            Err(Error::Refused { code, .. }) if code == "InvocationDoesNotExist" => return Ok(None),
            other => other?,
        };
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        let (status, details) = (text("Status"), text("StatusDetails"));
        if status.is_empty() {
            return Err(strange("ssm:GetCommandInvocation", "it has no Status"));
        }
        Ok(Some(Invocation {
            standing: Standing::of(&status, &details),
            words: if details.is_empty() || details == status { status } else { format!("{status} ({details})") },
            code: answer["ResponseCode"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(-1),
            stdout: text("StandardOutputContent"),
            stderr: text("StandardErrorContent"),
        }))
    }

    /// Takes a command back, where it is not over.
    pub(super) async fn cancel_command(&self, command: &str, instance: &str) -> Result<(), Error> {
        let wanted = json!({ "CommandId": command, "InstanceIds": [instance] });
        self.ask_ssm("ssm:CancelCommand", &wanted, true).await.map(drop)
    }

    async fn pages_of(&self, operation: &'static str, mut wanted: Value, list: &str) -> Result<Vec<Value>, Error> {
        let mut found = Vec::new();
        for _ in 0..PAGES_MAX {
            let mut answer = self.ask_ssm(operation, &wanted, true).await?;
            match answer[list].take() {
                Value::Array(rows) => found.extend(rows),
                Value::Null => {}
                _ => return Err(strange(operation, &format!("{list} is no list"))),
            }
            match answer["NextToken"].take() {
                Value::String(token) if !token.is_empty() => wanted["NextToken"] = Value::String(token),
                _ => return Ok(found),
            }
        }
        Err(strange(operation, "it has no last page"))
    }

    async fn ask_ssm(&self, operation: &'static str, body: &Value, repeatable: bool) -> Result<Value, Error> {
        let name = operation.split_once(':').map_or(operation, |(_, name)| name);
        let call = Call {
            service: "ssm",
            operation,
            method: "POST",
            endpoint: self.settings().endpoint("ssm"),
            path: "/".to_owned(),
            query: Vec::new(),
            headers: vec![
                ("content-type".to_owned(), "application/x-amz-json-1.1".to_owned()),
                ("x-amz-target".to_owned(), format!("AmazonSSM.{name}")),
            ],
            body: Bytes::from(body.to_string()),
            repeatable,
            limit: LIMIT,
        };
        let answer = self.call(&call).await?;
        serde_json::from_slice(&answer).map_err(|error| strange(operation, &error.to_string()))
    }
}

/// A script for an instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    pub(super) instance: &'a str,
    pub(super) script: &'a str,
    /// How long it may take to reach the instance.
    pub(super) delivery: Duration,
    /// How long it may run there.
    pub(super) execution: Duration,
    pub(super) comment: &'a str,
}

fn strange(operation: &str, text: &str) -> Error {
    Error::Answer { place: operation.to_owned(), text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_never_reached_its_instance_is_told_from_one_that_may_have_begun() {
        use Standing::{Open, Ran, Undelivered, Unknown};
        for (status, details, standing) in [
            ("Pending", "Pending", Open),
            ("InProgress", "InProgress", Open),
            ("Delayed", "Delayed", Open),
            ("Cancelling", "Cancelling", Open),
            ("Success", "Success", Ran),
            ("Failed", "Failed", Ran),
            ("Failed", "NonZeroExitCode", Ran),
            ("Failed", "Undeliverable", Undelivered),
            ("Failed", "Terminated", Unknown),
            ("Failed", "InvalidPlatform", Undelivered),
            ("Failed", "AccessDenied", Undelivered),
            ("TimedOut", "DeliveryTimedOut", Undelivered),
            ("TimedOut", "Delivery Timed Out", Undelivered),
            ("TimedOut", "ExecutionTimedOut", Unknown),
            ("Cancelled", "Cancelled", Unknown),
            ("Exploded", "Exploded", Unknown),
        ] {
            assert_eq!(Standing::of(status, details), standing, "{status} {details}");
        }
    }
}
