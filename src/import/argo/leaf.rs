//! Templates of Argo: what one does, and what stands around it.

use std::collections::BTreeMap;

use patchloom_core::Span;
use patchloom_core::yaml::{Kind, Node};
use serde_json::Value;

use super::{Argo, Site, span, whole};
use crate::import::findings::{Fields, Findings, items, scalar, text};
use crate::import::refs::Scope;
use crate::import::write::{Out, Pairs};

/// The keys of a container that its worker is given.
const CONTAINER: [&str; 6] = ["image", "command", "args", "env", "workingDir", "source"];
/// How deep steps may stand inside of steps.
const DEPTH_MAX: usize = 3;
/// The most attempts there are.
const ATTEMPTS_MAX: u64 = 1000;

/// What stands for what cannot be carried over: a run never goes past it unnoticed.
pub(super) fn placeholder(what: &str) -> Out {
    Out::map([("fail", Out::text(format!("{what} was not translated")))])
}

fn failing(what: &str) -> Pairs {
    vec![("fail".to_owned(), Out::text(format!("{what} was not translated")))]
}

/// A value with all references in its texts translated.
pub(super) fn value(node: &Node, scope: &Scope, findings: &mut Findings) -> Out {
    match &node.kind {
        Kind::Text(text) => Out::text(scope.text(text, node.span, findings)),
        Kind::Other(value) => Out::Value(value.clone()),
        Kind::List(items) => Out::List(items.iter().map(|item| value(item, scope, findings)).collect()),
        Kind::Map(entries) => {
            Out::Map(entries.iter().map(|(key, node)| (key.text.clone(), value(node, scope, findings))).collect())
        }
    }
}

impl<'a> Argo<'a, '_> {
    /// The keys of a step that does what the template does, given `arguments`.
    pub(super) fn template(
        &mut self,
        name: &'a str,
        node: &'a Node,
        arguments: &BTreeMap<String, String>,
        site: &Site,
    ) -> Pairs {
        self.used.insert(name);
        if site.path.iter().any(|one| one == name) {
            let reason = "steps form a graph here, without circles";
            let what = format!("the template `{name}` uses itself");
            self.findings.shape(node.span, what, reason, "start a child run with `workflow` instead");
            return failing(&format!("the template {name}"));
        }
        let what = format!("the template `{name}`");
        let fields = Fields::open(node, &what, self.findings);
        fields.pass_over(&["name", "metadata"]);
        let mut inner = site.clone();
        inner.path.push(name.to_owned());
        inner.parallelism = fields.get("parallelism").and_then(whole).or(site.parallelism);
        self.parameters(&fields, arguments, &mut inner.scope);
        let mut body = self.action(name, node.span, &fields, &inner);
        self.limits(&fields, &mut body, &inner.scope);
        fields.finish(self.findings);
        body
    }

    /// What the template knows as `inputs.parameters`: what it is given, else its defaults.
    fn parameters(&mut self, fields: &Fields<'a>, arguments: &BTreeMap<String, String>, scope: &mut Scope) {
        let around = std::mem::take(&mut scope.params);
        let Some(node) = fields.get("inputs") else { return };
        let inputs = Fields::open(node, "`inputs`", self.findings);
        for node in inputs.get("parameters").map(items).unwrap_or_default() {
            let one = Fields::open(node, "a parameter", self.findings);
            one.pass_over(&["description", "enum"]);
            let said = one.get("value").or_else(|| one.get("default")).and_then(scalar);
            one.pass_over(&["default"]);
            if let Some(raw) = one.text("name") {
                // An entry template is given nothing but what the workflow knows.
                let given = arguments.get(raw).cloned();
                let entry = around.get(raw).cloned().filter(|_| scope.tasks.is_empty() && arguments.is_empty());
                match given.or(entry).or(said) {
                    Some(given) => drop(scope.params.insert(raw.to_owned(), given)),
                    None => self.findings.missing(node.span, &format!("what is given for `{raw}`"), "give a value"),
                }
            }
            one.finish(self.findings);
        }
        inputs.finish(self.findings);
    }

    fn action(&mut self, name: &str, place: Span, fields: &Fields<'a>, site: &Site) -> Pairs {
        if let Some(node) = fields.get("container").or_else(|| fields.get("script")) {
            return self.container(node, fields, site);
        }
        if let Some(node) = fields.get("http") {
            let reason = "no worker that ships serves it";
            self.findings.note(
                node.span,
                "a worker for `http.request` is needed".into(),
                reason,
                "write one, or use yours",
            );
            let with = value(node, &site.scope, self.findings);
            return vec![("uses".to_owned(), Out::text("http.request")), ("with".to_owned(), with)];
        }
        if let Some(node) = fields.get("suspend") {
            return self.suspend(name, node);
        }
        if site.depth >= DEPTH_MAX && (fields.get("dag").is_some() || fields.get("steps").is_some()) {
            let reason = "steps stand inside steps at most 3 deep";
            let what = format!("the template `{name}` is too deep inside others");
            self.findings.shape(place, what, reason, "make it a workflow of its own, started with `workflow`");
            return failing(&format!("the template {name}"));
        }
        if let Some(node) = fields.get("dag") {
            return vec![("steps".to_owned(), Out::Map(self.dag(node, site)))];
        }
        if let Some(node) = fields.get("steps") {
            return vec![("steps".to_owned(), Out::Map(self.groups(node, site)))];
        }
        let reason = "container, script, http, suspend, dag and steps are";
        self.findings.unread(place, &format!("what the template `{name}` does"), reason, "write this step by hand");
        failing(&format!("the template {name}"))
    }

    fn container(&mut self, node: &'a Node, template: &Fields<'a>, site: &Site) -> Pairs {
        let fields = Fields::open(node, "a container", self.findings);
        // The name of a container inside its pod.
        fields.pass_over(&["name"]);
        let mut with = Pairs::new();
        for key in CONTAINER {
            if let Some(node) = fields.get(key) {
                with.push((key.to_lowercase(), value(node, &site.scope, self.findings)));
            }
        }
        fields.finish(self.findings);
        if let Some(node) = template.get("outputs") {
            let outputs = self.outputs(node);
            with.extend((!outputs.is_empty()).then_some(("outputs".to_owned(), Out::Map(outputs))));
        }
        let reason = "no worker that ships runs containers; it gives {result, parameters}: see docs/import.md";
        let what = "a worker for `container.run` is needed".to_owned();
        self.findings.note(node.span, what, reason, "write one that is given `with`, or name a task type of yours");
        vec![("uses".to_owned(), Out::text("container.run")), ("with".to_owned(), Out::Map(with))]
    }

    /// Which files hold the parameters that a container gives back.
    fn outputs(&mut self, node: &'a Node) -> Pairs {
        let fields = Fields::open(node, "`outputs`", self.findings);
        let mut found = Pairs::new();
        for node in fields.get("parameters").map(items).unwrap_or_default() {
            let one = Fields::open(node, "a parameter of `outputs`", self.findings);
            let from = one.get("valueFrom").map(|node| Fields::open(node, "`valueFrom`", self.findings));
            let path = from.as_ref().and_then(|from| from.text("path"));
            if let Some((name, path)) = one.text("name").zip(path) {
                found.push((name.to_owned(), Out::text(path)));
            }
            if let Some(from) = from {
                from.finish(self.findings);
            }
            one.finish(self.findings);
        }
        fields.finish(self.findings);
        found
    }

    /// A wait: for a span of time, or until somebody resumes it.
    fn suspend(&mut self, name: &str, node: &'a Node) -> Pairs {
        let fields = Fields::open(node, "`suspend`", self.findings);
        let lasts = fields.get("duration").and_then(|node| span(node, "a duration", self.findings));
        fields.finish(self.findings);
        let wait = lasts.map_or_else(
            || {
                let signal = crate::import::write::name(name, '_');
                let what = format!("`suspend` waits for the signal `{signal}` now");
                let reason = "a run here is not resumed by its name alone";
                self.findings.note(node.span, what, reason, &format!("patchloom run signal RUN {signal}"));
                ("signal", Out::text(signal))
            },
            |lasts| ("for", lasts),
        );
        vec![("wait".to_owned(), Out::map([wait]))]
    }

    /// `retryStrategy`, limits of time, `synchronization`.
    fn limits(&mut self, fields: &Fields<'a>, body: &mut Pairs, scope: &Scope) {
        let is_task = body.iter().any(|(key, _)| key == "uses");
        let mut total = None;
        if let Some(node) = fields.get("retryStrategy") {
            if is_task {
                let retry = self.retry(node, &mut total);
                body.push(("retry".to_owned(), Out::Map(retry)));
            } else {
                let reason = "only tasks are tried again";
                self.findings.left_out(
                    node.span,
                    "`retryStrategy` of what is no task",
                    reason,
                    "give it to the tasks inside",
                );
            }
        }
        let mut timeout = Pairs::new();
        for (key, ours) in [("activeDeadlineSeconds", "attempt"), ("timeout", "total")] {
            let Some(node) = fields.get(key) else { continue };
            if is_task {
                timeout.extend(span(node, key, self.findings).map(|span| (ours.to_owned(), span)));
            } else {
                let reason = "only tasks and workflows have one";
                self.findings.left_out(
                    node.span,
                    &format!("`{key}` of what is no task"),
                    reason,
                    "give it to the tasks inside",
                );
            }
        }
        if !timeout.iter().any(|(key, _)| key == "total") {
            timeout.extend(total.map(|total| ("total".to_owned(), total)));
        }
        if !timeout.is_empty() {
            body.push(("timeout".to_owned(), Out::Map(timeout)));
        }
        if let Some(node) = fields.get("synchronization") {
            let limit = self.synchronization(node, scope);
            body.extend(limit.map(|limit| ("concurrency".to_owned(), limit)));
        }
    }

    fn retry(&mut self, node: &'a Node, total: &mut Option<Out>) -> Pairs {
        let fields = Fields::open(node, "`retryStrategy`", self.findings);
        let limit = fields.get("limit");
        let wanted = limit.and_then(whole).map(|limit| limit.saturating_add(1));
        let attempts = wanted.unwrap_or(ATTEMPTS_MAX).min(ATTEMPTS_MAX);
        if wanted != Some(attempts) {
            let place = limit.map_or(node.span, |node| node.span);
            let reason = "there are 1000 attempts at most, and the number is written out";
            self.findings.differs(place, "the limit of `retryStrategy`", reason, "choose a number of attempts");
        }
        let mut retry: Pairs = vec![("attempts".to_owned(), Out::Value(attempts.into()))];
        let policy = fields.get("retryPolicy");
        if let Some(node) = policy.filter(|node| !matches!(text(node), Some("Always" | "OnFailure"))) {
            let reason = "what is tried again depends on the class of the failure here";
            self.findings.differs(node.span, "`retryPolicy`", reason, "see `only` and `except` of `retry`");
        }
        if let Some(node) = fields.get("backoff") {
            let backoff = Fields::open(node, "`backoff`", self.findings);
            for (key, ours) in [("duration", "backoff"), ("cap", "max_backoff")] {
                let found = backoff.get(key).and_then(|node| span(node, key, self.findings));
                retry.extend(found.map(|found| (ours.to_owned(), found)));
            }
            *total = backoff.get("maxDuration").and_then(|node| span(node, "`maxDuration`", self.findings));
            let factor = backoff.get("factor");
            if factor.and_then(scalar).as_deref() != Some("2") {
                let place = factor.map_or(node.span, |factor| factor.span);
                let reason = "waits double from attempt to attempt";
                let fix = "choose `backoff` and `max_backoff` for it";
                self.findings.differs(place, "`factor` of `backoff`", reason, fix);
            }
            backoff.finish(self.findings);
        }
        retry.push(("jitter".to_owned(), Out::Value(Value::Bool(false))));
        fields.finish(self.findings);
        retry
    }
}
