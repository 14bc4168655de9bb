//! The register as tasks use it: in the name of the service, with failures for errors.

use patchloom_core::Failure;
use patchloom_domain::{Actor, ChangeRequest, ChangeState, Command, HostOutcome, Instant, Order};
use serde_json::json;

use crate::failure::{chain, permanent, transient};
use crate::register::{Error, Register};
use crate::runtime::TaskContext;

/// Who asks for every change that a run opens.
pub const REQUESTER: &str = "patchloom";

/// The register, and the time and name to use it with.
pub(crate) struct Desk {
    register: Register,
    now: Instant,
}

impl Desk {
    pub(crate) fn open(context: &TaskContext) -> Result<Self, Failure> {
        let register = Register::open(&context.data().changes()).map_err(|error| failure(&error))?;
        Ok(Self { register, now: Instant(context.now().0) })
    }

    pub(crate) fn register(&self) -> &Register {
        &self.register
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn get(&self, number: &str) -> Result<ChangeRequest, Failure> {
        self.register.get(number).map_err(|error| failure(&error))
    }

    pub(crate) fn order(&self, number: &str, command: Command) -> Result<ChangeRequest, Failure> {
        self.order_by(number, Actor::Service(REQUESTER.to_owned()), command)
    }

    pub(crate) fn order_by(&self, number: &str, by: Actor, command: Command) -> Result<ChangeRequest, Failure> {
        let order = Order { by, at: self.now, command };
        Ok(self.register.apply(number, &order).map_err(|error| failure(&error))?.change)
    }

    /// Writes what became of a host, where the change is at work; before that and after it is closed nothing is lost
    /// by passing it over, because `change.fail` tells the rest.
    pub(crate) fn try_finish(&self, number: &str, host: &str, outcome: HostOutcome) -> Result<(), Failure> {
        let change = self.get(number)?;
        if change.tasks.get(host).is_some_and(|task| task.outcome.as_ref() == Some(&outcome)) {
            return Ok(());
        }
        match change.state {
            ChangeState::Implement | ChangeState::Review => {
                self.order(number, Command::Finish { host: host.to_owned(), outcome }).map(|_| ())
            }
            ChangeState::New
            | ChangeState::Assess
            | ChangeState::Authorize
            | ChangeState::Scheduled
            | ChangeState::Canceled => Ok(()),
            ChangeState::Closed => {
                let text = format!("after closing: {host} {outcome}");
                let key = format!("after-closing/{host}");
                self.order(number, Command::Note { text, key }).map(|_| ())
            }
        }
    }
}

pub(crate) fn failure(error: &Error) -> Failure {
    if error.is_transient() {
        return transient(error.code(), chain(error));
    }
    let details = match error {
        Error::Refused(refused) => json!({ "refused": refused }),
        Error::NotFound { .. } | Error::Damaged { .. } | Error::Busy { .. } | Error::Io { .. } => {
            serde_json::Value::Null
        }
    };
    Failure { details, ..permanent(error.code(), chain(error)) }
}
