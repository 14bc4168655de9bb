//! The rules of a change: which order is taken in which state, and which conditions it meets.
//!
//! Every order may come twice: the second time changes nothing and says so.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Actor, Approval, ChangeRequest, ChangeState, ChangeType, CloseCode, Closure, Decision, HostTask, Note, Step,
};
use crate::{HostOutcome, Instant, PlanDigest};
use ChangeState::{Assess, Authorize, Canceled, Closed, Implement, New, Review, Scheduled};

/// The longest work note, in bytes.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;

/// An order to a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Who gives it.
    pub by: Actor,
    /// When.
    pub at: Instant,
    /// What.
    pub command: Command,
}

/// What can be ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Go on to this state.
    Advance(ChangeState),
    /// Back to New from Assess or Authorize; voids every approval.
    Revert {
        /// Why.
        why: String,
    },
    /// Authorize this plan.
    Approve {
        /// The plan that was looked at.
        digest: PlanDigest,
        /// Optional words.
        comment: Option<String>,
    },
    /// Refuse it.
    Reject {
        /// Why.
        comment: String,
    },
    /// The plan is another now; approvals of the former are void.
    Replan {
        /// The new plan.
        digest: PlanDigest,
        /// The hosts it covers.
        hosts: Vec<String>,
        /// Where it lies.
        plan: Option<String>,
        /// What is to be done now.
        implementation_plan: String,
    },
    /// Write a work note.
    Note {
        /// The text.
        text: String,
        /// The same key is written once.
        key: String,
    },
    /// The first change on this host is about to happen.
    Touch {
        /// The host.
        host: String,
    },
    /// This became of a host; a later word replaces an earlier one.
    Finish {
        /// The host.
        host: String,
        /// What became of it.
        outcome: HostOutcome,
    },
    /// Close it, from Review.
    Close {
        /// How it came out.
        code: CloseCode,
        /// What a person should know.
        notes: String,
    },
    /// Give it up before any host was touched.
    Cancel {
        /// Why.
        why: String,
    },
    /// What a closed change says has turned out too good: correct it downwards. Never upwards.
    Amend {
        /// The worse code.
        code: CloseCode,
        /// Why.
        notes: String,
    },
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// It moved.
    Moved {
        /// From here.
        from: ChangeState,
        /// To there.
        to: ChangeState,
    },
    /// Somebody approved.
    Approved,
    /// Somebody rejected.
    Rejected,
    /// The plan changed, and this many approvals became void.
    Replanned {
        /// Approvals that no longer hold.
        voided: usize,
    },
    /// A note was written.
    Noted,
    /// A host is being changed.
    Touched,
    /// A host is done.
    Finished,
    /// A closed change was corrected downwards.
    Amended,
}

/// What an order did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The change after it.
    pub change: ChangeRequest,
    /// What happened; empty when the order had been carried out before.
    pub events: Vec<Event>,
}

/// One condition of a transition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What must hold.
    pub name: String,
    /// Whether it does.
    pub passed: bool,
}

/// A state that may follow, and what it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextState {
    /// The state.
    pub to: ChangeState,
    /// All its conditions.
    pub conditions: Vec<Condition>,
}

impl NextState {
    /// Whether it may be entered now.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.conditions.iter().all(|condition| condition.passed)
    }
}

/// An order that was not taken; the change is as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Refused {
    /// A stable code: `E0601` a transition, `E0602` an approver who may not, `E0603` another plan, `E0608` the content.
    pub code: String,
    /// The change.
    pub number: String,
    /// Where it stands.
    pub from: ChangeState,
    /// Where it should have gone, for a transition.
    pub to: Option<ChangeState>,
    /// What does not hold.
    pub conditions: Vec<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is in {}", self.number, self.from)?;
        if let Some(to) = self.to {
            write!(f, " and cannot go to {to}")?;
        }
        write!(f, ": {}", self.conditions.join("; "))
    }
}

impl ChangeRequest {
    /// Carries out an order, or says why not.
    ///
    /// # Errors
    /// [`Refused`] with the conditions that do not hold.
    pub fn apply(&self, order: &Order) -> Result<Applied, Refused> {
        let mut next = self.clone();
        let events = match &order.command {
            Command::Advance(to) => next.advance(*to, order)?,
            Command::Revert { why } => next.revert(why, order)?,
            Command::Approve { digest, comment } => next.approve(digest, comment.as_ref(), order)?,
            Command::Reject { comment } => next.reject(comment, order)?,
            Command::Replan { digest, hosts, plan, implementation_plan } => {
                next.replan((digest, plan.as_ref()), hosts, implementation_plan, order)?
            }
            Command::Note { text, key } => next.write_note(text, key, order)?,
            Command::Touch { host } => next.touch(host, order)?,
            Command::Finish { host, outcome } => next.finish(host, outcome)?,
            Command::Close { code, notes } => next.close(*code, notes, order)?,
            Command::Cancel { why } => next.cancel(why, order)?,
            Command::Amend { code, notes } => next.amend(*code, notes, order)?,
        };
        if !events.is_empty() {
            next.revision = self.revision.saturating_add(1);
        }
        Ok(Applied { change: next, events })
    }

    /// What may follow, and what each takes: the counterpart of ServiceNow's `nextstates`.
    #[must_use]
    pub fn next_states(&self, now: Instant) -> Vec<NextState> {
        let onward = self.onward(self.state).map(|to| NextState { to, conditions: self.conditions(to, now) });
        let cancel = !self.state.is_final() && self.state != Review;
        let untouched = || Condition { name: "no host was touched".to_owned(), passed: !self.is_touched() };
        let canceled = cancel.then(|| NextState { to: Canceled, conditions: vec![untouched()] });
        onward.into_iter().chain(canceled).collect()
    }

    fn onward(&self, from: ChangeState) -> Option<ChangeState> {
        match (from, self.draft.kind) {
            (New, ChangeType::Normal) => Some(Assess),
            (New, ChangeType::Emergency) | (Assess, _) => Some(Authorize),
            (New, ChangeType::Standard) | (Authorize, _) => Some(Scheduled),
            (Scheduled, _) => Some(Implement),
            (Implement, _) => Some(Review),
            (Review, _) => Some(Closed),
            (Closed | Canceled, _) => None,
        }
    }

    fn conditions(&self, to: ChangeState, now: Instant) -> Vec<Condition> {
        let condition = |name: &str, passed| Condition { name: name.to_owned(), passed };
        match to {
            New | Canceled => Vec::new(),
            Assess | Authorize => vec![condition("it covers at least one host", !self.tasks.is_empty())],
            Scheduled => {
                vec![condition(
                    "its present plan is approved by someone who may",
                    self.is_authorized(&self.draft.digest),
                )]
            }
            Implement => vec![
                condition("its present plan is approved by someone who may", self.is_authorized(&self.draft.digest)),
                condition("its planned window is open", self.window_is_open(now)),
            ],
            Review => {
                let done = self.tasks.values().all(|task| task.outcome.is_some());
                vec![condition("no open task: every host has an outcome", done)]
            }
            Closed => vec![condition("a close code and close notes are given", self.closure.is_some())],
        }
    }

    fn refuse<T>(&self, code: &str, to: Option<ChangeState>, conditions: Vec<String>) -> Result<T, Refused> {
        Err(Refused { code: code.to_owned(), number: self.number.clone(), from: self.state, to, conditions })
    }

    fn advance(&mut self, to: ChangeState, order: &Order) -> Result<Vec<Event>, Refused> {
        // A state that lies behind was reached before: a repeated order, not an illegal one.
        if to == self.state || (to < self.state && self.state != Canceled) {
            return Ok(Vec::new());
        }
        if to == Closed || to == Canceled {
            return self.refuse("E0601", Some(to), vec!["it takes the order to close or to cancel".to_owned()]);
        }
        if self.onward(self.state) != Some(to) {
            return self.refuse("E0601", Some(to), vec![format!("{to} does not follow {}", self.state)]);
        }
        let failed: Vec<_> = self.conditions(to, order.at).into_iter().filter(|c| !c.passed).map(|c| c.name).collect();
        if !failed.is_empty() {
            return self.refuse("E0601", Some(to), failed);
        }
        match to {
            Implement => self.work_start = Some(order.at),
            Review => self.work_end = Some(order.at),
            New | Assess | Authorize | Scheduled | Closed | Canceled => {}
        }
        Ok(vec![self.move_to(to, order)])
    }

    fn move_to(&mut self, to: ChangeState, order: &Order) -> Event {
        let from = self.state;
        self.history.push(Step { from: Some(from), to, at: order.at, by: order.by.clone() });
        self.state = to;
        Event::Moved { from, to }
    }

    fn revert(&mut self, why: &str, order: &Order) -> Result<Vec<Event>, Refused> {
        match self.state {
            New => Ok(Vec::new()),
            Assess | Authorize => {
                self.void_approvals(&format!("back to New: {why}"));
                Ok(vec![self.move_to(New, order)])
            }
            Scheduled | Implement | Review | Closed | Canceled => {
                self.refuse("E0601", Some(New), vec!["only Assess and Authorize go back to New".to_owned()])
            }
        }
    }

    fn void_approvals(&mut self, why: &str) -> usize {
        let mut count = 0;
        for approval in self.approvals.iter_mut().filter(|approval| approval.void.is_none()) {
            approval.void = Some(why.to_owned());
            count += 1;
        }
        count
    }

    fn decides(&self) -> Result<(), Refused> {
        match (self.state, self.draft.kind) {
            (Assess | Authorize | Scheduled, _) | (New, ChangeType::Standard) => Ok(()),
            (New, ChangeType::Normal | ChangeType::Emergency) | (Implement | Review | Closed | Canceled, _) => {
                self.refuse("E0601", None, vec!["a decision is taken between Assess and Scheduled only".to_owned()])
            }
        }
    }

    fn approve(&mut self, digest: &PlanDigest, comment: Option<&String>, order: &Order) -> Result<Vec<Event>, Refused> {
        let same = |a: &&Approval| a.decision == Decision::Approved && a.by == order.by && &a.digest == digest;
        if self.decision().filter(same).is_some() {
            return Ok(Vec::new());
        }
        self.decides()?;
        if digest != &self.draft.digest {
            let text = format!("the approval is of plan {digest}, the change now holds {}", self.draft.digest);
            return self.refuse("E0603", None, vec![text]);
        }
        if !self.may_approve(&order.by) {
            let asks = &self.draft.requester;
            let text = format!("{} may not approve what {asks} asks for in {} mode", order.by, self.draft.mode);
            return self.refuse("E0602", None, vec![text]);
        }
        self.approvals.push(Approval {
            by: order.by.clone(),
            at: order.at,
            digest: digest.clone(),
            decision: Decision::Approved,
            comment: comment.cloned(),
            void: None,
        });
        Ok(vec![Event::Approved])
    }

    fn reject(&mut self, comment: &str, order: &Order) -> Result<Vec<Event>, Refused> {
        let same = |a: &&Approval| a.decision == Decision::Rejected && a.by == order.by;
        if self.decision().filter(same).is_some() {
            return Ok(Vec::new());
        }
        self.decides()?;
        if comment.trim().is_empty() {
            return self.refuse("E0608", None, vec!["a rejection needs a comment that says why".to_owned()]);
        }
        self.approvals.push(Approval {
            by: order.by.clone(),
            at: order.at,
            digest: self.draft.digest.clone(),
            decision: Decision::Rejected,
            comment: Some(comment.to_owned()),
            void: None,
        });
        Ok(vec![Event::Rejected])
    }

    fn replan(
        &mut self,
        (digest, plan): (&PlanDigest, Option<&String>),
        hosts: &[String],
        implementation_plan: &str,
        order: &Order,
    ) -> Result<Vec<Event>, Refused> {
        if digest == &self.draft.digest {
            return Ok(Vec::new());
        }
        match self.state {
            New | Assess | Authorize | Scheduled => {}
            Implement | Review | Closed | Canceled => {
                return self.refuse("E0603", None, vec!["the plan of a change at work cannot change".to_owned()]);
            }
        }
        let voided = self.void_approvals(&format!("the plan changed to {digest}"));
        self.draft.digest = digest.clone();
        self.draft.hosts = hosts.to_vec();
        self.draft.plan = plan.cloned();
        self.draft.implementation_plan = implementation_plan.to_owned();
        self.tasks = hosts.iter().map(|host| (host.clone(), HostTask::default())).collect();
        let mut events = vec![Event::Replanned { voided }];
        if self.state == Scheduled {
            // It was scheduled on the strength of an approval that is void now.
            let back = if self.draft.kind == ChangeType::Standard { New } else { Authorize };
            events.push(self.move_to(back, order));
        }
        Ok(events)
    }

    fn write_note(&mut self, text: &str, key: &str, order: &Order) -> Result<Vec<Event>, Refused> {
        if self.notes.iter().any(|note| note.key == key) {
            return Ok(Vec::new());
        }
        if text.len() > NOTE_BYTES_MAX {
            let text = format!("a work note of {} bytes is over the limit of {NOTE_BYTES_MAX}", text.len());
            return self.refuse("E0608", None, vec![text]);
        }
        self.notes.push(Note { by: order.by.clone(), at: order.at, text: text.to_owned(), key: key.to_owned() });
        Ok(vec![Event::Noted])
    }

    fn task(&mut self, host: &str) -> Result<&mut HostTask, Refused> {
        if !self.tasks.contains_key(host) {
            return self.refuse("E0608", None, vec![format!("it does not cover host '{host}'")]);
        }
        Ok(self.tasks.get_mut(host).expect("looked up in the line above"))
    }

    fn touch(&mut self, host: &str, order: &Order) -> Result<Vec<Event>, Refused> {
        if self.task(host)?.touched.is_some() {
            return Ok(Vec::new());
        }
        if self.state != Implement {
            return self.refuse("E0601", None, vec!["hosts are touched in Implement only".to_owned()]);
        }
        self.task(host)?.touched = Some(order.at);
        Ok(vec![Event::Touched])
    }

    fn finish(&mut self, host: &str, outcome: &HostOutcome) -> Result<Vec<Event>, Refused> {
        if self.task(host)?.outcome.as_ref() == Some(outcome) {
            return Ok(Vec::new());
        }
        match self.state {
            Implement | Review => {}
            New | Assess | Authorize | Scheduled | Closed | Canceled => {
                let text = "the outcome of a host is written in Implement and Review only";
                return self.refuse("E0601", None, vec![text.to_owned()]);
            }
        }
        self.task(host)?.outcome = Some(outcome.clone());
        Ok(vec![Event::Finished])
    }

    fn close(&mut self, code: CloseCode, notes: &str, order: &Order) -> Result<Vec<Event>, Refused> {
        if self.closure.as_ref().is_some_and(|closure| closure.code == code) && self.state == Closed {
            return Ok(Vec::new());
        }
        let mut failed = Vec::new();
        if self.state != Review {
            failed.push("only Review goes to Closed".to_owned());
        }
        if notes.trim().is_empty() {
            failed.push("close notes are required".to_owned());
        }
        let outcomes = || self.tasks.values().filter_map(|task| task.outcome.as_ref());
        if code == CloseCode::Successful && !self.all_succeeded() {
            failed.push("successful takes a successful outcome of every host".to_owned());
        }
        if code == CloseCode::SuccessfulIssues && !outcomes().any(HostOutcome::is_success) {
            failed.push("successful_issues takes a successful outcome of at least one host".to_owned());
        }
        if !failed.is_empty() {
            return self.refuse("E0601", Some(Closed), failed);
        }
        self.closure = Some(Closure { code, notes: notes.to_owned(), at: order.at, by: order.by.clone() });
        Ok(vec![self.move_to(Closed, order)])
    }

    fn all_succeeded(&self) -> bool {
        self.tasks.values().all(|task| task.outcome.as_ref().is_some_and(HostOutcome::is_success))
    }

    fn cancel(&mut self, why: &str, order: &Order) -> Result<Vec<Event>, Refused> {
        match self.state {
            Canceled => return Ok(Vec::new()),
            New | Assess | Authorize | Scheduled => {}
            Implement if !self.is_touched() => {}
            Implement | Review | Closed => {
                let text =
                    "a change is canceled only before Review and while no host was touched: close it unsuccessful";
                return self.refuse("E0601", Some(Canceled), vec![text.to_owned()]);
            }
        }
        self.canceled_why = Some(why.to_owned());
        Ok(vec![self.move_to(Canceled, order)])
    }

    fn amend(&mut self, code: CloseCode, notes: &str, order: &Order) -> Result<Vec<Event>, Refused> {
        let Some(closure) = self.closure.as_mut().filter(|_| self.state == Closed) else {
            return self.refuse("E0601", None, vec!["only a closed change is amended".to_owned()]);
        };
        if closure.code == code {
            return Ok(Vec::new());
        }
        if code < closure.code {
            let text = format!("a close code is corrected downwards only, and {code} is better than {}", closure.code);
            return self.refuse("E0608", None, vec![text]);
        }
        let notes = format!("{}\nCorrected from {}: {notes}", closure.notes, closure.code);
        *closure = Closure { code, notes, at: order.at, by: order.by.clone() };
        Ok(vec![Event::Amended])
    }
}
