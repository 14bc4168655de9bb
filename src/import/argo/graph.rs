//! DAGs and lists of steps of Argo: in what order, under what condition, how often.

use std::collections::{BTreeMap, BTreeSet};

use patchloom_core::yaml::{Kind, Node};
use serde_json::Value;

use super::leaf::{placeholder, value};
use super::{Argo, Site};
use crate::import::depends::Depends;
use crate::import::findings::{Fields, items, scalar, text};
use crate::import::write::{Out, Pairs, step_name};

/// The order of a step: what it needs, and under what condition it runs.
#[derive(Debug, Default)]
struct Order {
    needs: Vec<String>,
    condition: Option<String>,
}

impl<'a> Argo<'a, '_> {
    /// The steps of a `dag`.
    pub(super) fn dag(&mut self, node: &'a Node, site: &Site) -> Pairs {
        let fields = Fields::open(node, "`dag`", self.findings);
        let mut site = site.clone();
        let tasks = fields.get("tasks").map(items).unwrap_or_default();
        self.name_all(tasks.iter(), &mut site);
        // Tasks that Argo leaves out, which is not the same as skipping, where what they need did not end so.
        let mut can_be_left_out: BTreeSet<String> = BTreeSet::new();
        for task in tasks {
            let quiet = Fields::open(task, "a task", self.findings);
            let asked = quiet.text("depends").and_then(Depends::read);
            if let (Some(name), Some(false)) = (quiet.text("name"), asked.map(|asked| asked.is_plain())) {
                can_be_left_out.insert(name.to_owned());
            }
        }
        let mut steps = Pairs::new();
        for task in tasks {
            let fields = Fields::open(task, "a task", self.findings);
            let order = self.order(&fields, &site, &can_be_left_out);
            steps.extend(self.step(task, fields, order, &site));
        }
        if let Some(node) = fields.get("failFast").filter(|node| scalar(node).as_deref() == Some("false")) {
            let reason = "once a step failed nothing new starts here";
            self.findings.left_out(node.span, "`failFast: false`", reason, "give steps `on_failure: continue`");
        }
        fields.finish(self.findings);
        steps
    }

    /// The steps of `steps`: groups, one after the other.
    pub(super) fn groups(&mut self, node: &'a Node, site: &Site) -> Pairs {
        let mut site = site.clone();
        let groups: Vec<&'a [Node]> = items(node).iter().map(items).collect();
        self.name_all(groups.iter().copied().flatten(), &mut site);
        let mut steps = Pairs::new();
        let mut before: Vec<String> = Vec::new();
        for group in groups.into_iter().filter(|group| !group.is_empty()) {
            let mut names = Vec::new();
            for task in group {
                let fields = Fields::open(task, "a step", self.findings);
                let order = Order { needs: before.clone(), condition: None };
                let step = self.step(task, fields, order, &site);
                names.extend(step.iter().map(|(name, _)| name.clone()));
                steps.extend(step);
            }
            before = names;
        }
        steps
    }

    /// Gives each task the name of its step before any is translated: they speak of each other.
    fn name_all(&mut self, tasks: impl Iterator<Item = &'a Node>, site: &mut Site) {
        // Inner names stand for themselves: what is around is read through parameters.
        site.scope.tasks.clear();
        for task in tasks {
            if let Some(raw) = Fields::open(task, "a task", self.findings).text("name") {
                let made = step_name(raw, &mut site.taken);
                site.scope.tasks.insert(raw.to_owned(), made);
            }
        }
    }

    fn order(&mut self, fields: &Fields<'a>, site: &Site, can_be_left_out: &BTreeSet<String>) -> Order {
        let step = |task: &str| site.scope.tasks.get(task).cloned();
        let listed: Vec<String> = fields
            .get("dependencies")
            .map(items)
            .unwrap_or_default()
            .iter()
            .filter_map(text)
            .filter_map(step)
            .collect();
        let Some((node, source)) = fields.get("depends").and_then(|node| Some((node, text(node)?))) else {
            return Order { needs: listed, condition: None };
        };
        let Some(asked) = Depends::read(source) else {
            let reason = "Succeeded, Failed, Errored and Skipped with &&, || and ! are";
            self.findings.unread(
                node.span,
                &format!("`depends: {source}`"),
                reason,
                "write `needs` and `if`; it never runs",
            );
            return Order { needs: Vec::new(), condition: Some("false".to_owned()) };
        };
        let needs: Vec<String> = asked.tasks().iter().filter_map(|task| step(task)).collect();
        let is_simple = asked.is_plain() && asked.tasks().is_disjoint(can_be_left_out);
        let condition =
            if is_simple { None } else { asked.condition(&|task| Some((step(task)?, can_be_left_out.contains(task)))) };
        if needs.len() != asked.tasks().len() {
            self.findings.missing(node.span, "a task that `depends` names", "correct the name; it never runs");
            return Order { needs, condition: Some("false".to_owned()) };
        }
        Order { needs, condition }
    }

    /// One task or step.
    fn step(&mut self, node: &'a Node, fields: Fields<'a>, order: Order, site: &Site) -> Option<(String, Out)> {
        let Some(raw) = fields.text("name") else {
            self.findings.unread(node.span, "a step without a name", "each step has one", "give it a name");
            return None;
        };
        let name = site.scope.tasks.get(raw)?.clone();
        let mut pairs = Pairs::new();
        let needs: BTreeSet<String> = order.needs.into_iter().collect();
        if !needs.is_empty() {
            pairs.push(("needs".to_owned(), Out::List(needs.into_iter().map(Out::text).collect())));
        }
        let mut inner = site.clone();
        inner.depth += 1;
        let fan_out = self.fan_out(&fields, site);
        inner.scope.has_item |= fan_out.is_some();
        let when = fields.get("when").map(|node| self.when(node, &inner, fan_out.is_some()));
        let condition = match (order.condition, when) {
            (Some(order), Some(when)) => Some(format!("({order}) && ({when})")),
            (one, other) => one.or(other),
        };
        pairs.extend(condition.map(|condition| ("if".to_owned(), Out::text(condition))));
        pairs.extend(fan_out.map(|fan_out| ("for_each".to_owned(), fan_out)));
        let given = fields.get("arguments").map(|node| self.given(node, &inner)).unwrap_or_default();
        pairs.extend(self.does(node, raw, &fields, &given, &inner));
        if let Some(node) = fields.get("continueOn") {
            let on = Fields::open(node, "`continueOn`", self.findings);
            let is_on = |key: &str| on.get(key).and_then(scalar).as_deref() == Some("true");
            if is_on("failed") | is_on("error") {
                pairs.push(("on_failure".to_owned(), Out::text("continue")));
            }
            on.finish(self.findings);
        }
        fields.finish(self.findings);
        Some((name, Out::Map(pairs)))
    }

    /// What a step does: the template that it names, or carries inside.
    fn does(
        &mut self,
        node: &'a Node,
        raw: &'a str,
        fields: &Fields<'a>,
        given: &BTreeMap<String, String>,
        site: &Site,
    ) -> Pairs {
        if let Some(inline) = fields.get("inline") {
            return self.template(raw, inline, given, site);
        }
        let wanted = fields.text("template");
        if let Some((&name, &template)) = wanted.and_then(|wanted| self.templates.get_key_value(wanted)) {
            return self.template(name, template, given, site);
        }
        let what = format!("the template of the step `{raw}`");
        self.findings.missing(node.span, &what, "put it into this file, or start its workflow with `workflow`");
        match placeholder(&what) {
            Out::Map(pairs) => pairs,
            Out::List(_) | Out::Value(_) => Pairs::new(),
        }
    }

    /// What `arguments` gives to a template, as texts.
    fn given(&mut self, node: &'a Node, site: &Site) -> BTreeMap<String, String> {
        let fields = Fields::open(node, "`arguments`", self.findings);
        let mut given = BTreeMap::new();
        for node in fields.get("parameters").map(items).unwrap_or_default() {
            let one = Fields::open(node, "an argument", self.findings);
            let value = one.get("value").and_then(|node| Some((scalar(node)?, node.span)));
            if let Some((name, (value, place))) = one.text("name").zip(value) {
                given.insert(name.to_owned(), site.scope.text(&value, place, self.findings));
            }
            one.finish(self.findings);
        }
        fields.finish(self.findings);
        given
    }

    fn when(&mut self, node: &'a Node, site: &Site, is_fan_out: bool) -> String {
        let source = scalar(node).unwrap_or_default();
        let whole = site.scope.condition(&source).filter(|_| !(is_fan_out && source.contains("{{item")));
        whole.unwrap_or_else(|| {
            let reason = "simple comparisons of parameters are, with && and || between";
            let what = format!("`when: {source}`");
            self.findings.unread(node.span, &what, reason, "write it as `if`; until then the step never runs");
            "false".to_owned()
        })
    }

    fn fan_out(&mut self, fields: &Fields<'a>, site: &Site) -> Option<Out> {
        let listed = fields.get("withItems");
        let node = listed.or_else(|| fields.get("withParam"))?;
        if site.scope.has_item {
            let reason = "`item` is the inner one from here on";
            self.findings.differs(node.span, "a loop inside of a loop", reason, "check what reads `item` in it");
        }
        let items = match &node.kind {
            Kind::Text(source) if listed.is_none() && !source.contains("{{") => {
                serde_json::from_str::<Value>(source).map_or_else(|_| Out::text(source.as_str()), list)
            }
            Kind::Text(_) | Kind::Other(_) | Kind::List(_) | Kind::Map(_) => value(node, &site.scope, self.findings),
        };
        let mut pairs: Pairs = vec![("items".to_owned(), items)];
        let limit = site.parallelism.or(self.parallelism).filter(|limit| *limit > 0);
        pairs.extend(limit.map(|limit| ("max_parallel".to_owned(), Out::Value(limit.into()))));
        Some(Out::Map(pairs))
    }
}

/// A list of JSON, written item by item.
fn list(value: Value) -> Out {
    match value {
        Value::Array(items) => Out::List(items.into_iter().map(Out::Value).collect()),
        other => Out::Value(other),
    }
}
