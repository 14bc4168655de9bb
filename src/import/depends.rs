//! `depends` of Argo: after which tasks, and with which ends of them, a task runs.

use std::collections::BTreeSet;

/// How a task must have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing is said: it succeeded or was skipped.
    Plain,
    Succeeded,
    Failed,
    Skipped,
}

/// An expression over the ends of tasks.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Task(String, End),
    Not(Box<Tree>),
    All(Box<Tree>, Box<Tree>),
    Any(Box<Tree>, Box<Tree>),
}

/// What a `depends` asks for.
pub(super) struct Depends {
    tree: Tree,
}

impl Depends {
    /// Reads it; `None` where it asks for something that has no counterpart.
    pub fn read(source: &str) -> Option<Self> {
        let words = words(source)?;
        let mut at = 0;
        let tree = any(&words, &mut at)?;
        (at == words.len()).then_some(Self { tree })
    }

    /// All tasks it names.
    pub fn tasks(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.tree.visit(&mut |task, _| {
            found.insert(task.to_owned());
        });
        found
    }

    /// Whether it only asks that all tasks it names went well.
    pub fn is_plain(&self) -> bool {
        self.tree.is_plain()
    }

    /// The condition over `steps`; `step` tells what a task is called, and whether it is left out where its own
    /// `depends` does not hold, which does not count as skipped.
    pub fn condition(&self, step: &dyn Fn(&str) -> Option<(String, bool)>) -> Option<String> {
        Some(format!("(failed() || succeeded()) && ({})", self.tree.condition(step)?))
    }
}

impl Tree {
    fn visit(&self, see: &mut dyn FnMut(&str, End)) {
        match self {
            Self::Task(task, end) => see(task, *end),
            Self::Not(inner) => inner.visit(see),
            Self::All(left, right) | Self::Any(left, right) => {
                left.visit(see);
                right.visit(see);
            }
        }
    }

    fn is_plain(&self) -> bool {
        match self {
            Self::Task(_, end) => *end == End::Plain,
            Self::All(left, right) => left.is_plain() && right.is_plain(),
            Self::Any(..) | Self::Not(_) => false,
        }
    }

    fn condition(&self, step: &dyn Fn(&str) -> Option<(String, bool)>) -> Option<String> {
        Some(match self {
            Self::Task(task, end) => {
                let (step, can_be_left_out) = step(task)?;
                let status = format!("steps.{step}.status");
                match end {
                    End::Plain if !can_be_left_out => format!("{status} in ['done', 'skipped']"),
                    End::Plain | End::Succeeded => format!("{status} == 'done'"),
                    End::Failed => format!("{status} == 'failed'"),
                    End::Skipped => format!("{status} == 'skipped'"),
                }
            }
            Self::Not(inner) => format!("!({})", inner.condition(step)?),
            Self::All(left, right) => format!("{} && {}", left.nested(step)?, right.nested(step)?),
            Self::Any(left, right) => format!("{} || {}", left.condition(step)?, right.condition(step)?),
        })
    }

    fn nested(&self, step: &dyn Fn(&str) -> Option<(String, bool)>) -> Option<String> {
        let inner = self.condition(step)?;
        Some(if matches!(self, Self::Any(..)) { format!("({inner})") } else { inner })
    }
}

fn words(source: &str) -> Option<Vec<String>> {
    let spaced = source.replace("&&", " && ").replace("||", " || ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<String> = spaced.replace('!', " ! ").split_whitespace().map(str::to_owned).collect();
    (!words.is_empty() && words.len() < 1000).then_some(words)
}

fn any(words: &[String], at: &mut usize) -> Option<Tree> {
    let mut tree = all(words, at)?;
    while words.get(*at).is_some_and(|word| word == "||") {
        *at += 1;
        tree = Tree::Any(Box::new(tree), Box::new(all(words, at)?));
    }
    Some(tree)
}

fn all(words: &[String], at: &mut usize) -> Option<Tree> {
    let mut tree = one(words, at)?;
    while words.get(*at).is_some_and(|word| word == "&&") {
        *at += 1;
        tree = Tree::All(Box::new(tree), Box::new(one(words, at)?));
    }
    Some(tree)
}

fn one(words: &[String], at: &mut usize) -> Option<Tree> {
    let word = words.get(*at)?;
    *at += 1;
    match word.as_str() {
        "!" => Some(Tree::Not(Box::new(one(words, at)?))),
        "(" => {
            let inner = any(words, at)?;
            let closed = words.get(*at)? == ")";
            *at += 1;
            closed.then_some(inner)
        }
        ")" | "&&" | "||" => None,
        task => {
            let (task, end) = match task.split_once('.') {
                None => (task, End::Plain),
                Some((task, "Succeeded")) => (task, End::Succeeded),
                // There is one kind of failure here: a step that could not be run has failed too.
                Some((task, "Failed" | "Errored")) => (task, End::Failed),
                Some((task, "Skipped")) => (task, End::Skipped),
                Some(_) => return None,
            };
            Some(Tree::Task(task.to_owned(), end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_over_ends_become_conditions_over_status() {
        let shown = |source: &str| {
            let read = Depends::read(source)?;
            read.condition(&|task| Some((task.to_lowercase(), task == "X")))
        };
        let after = |rest: &str| Some(format!("(failed() || succeeded()) && ({rest})"));
        assert_eq!(
            shown("B.Failed && C"),
            after("steps.b.status == 'failed' && steps.c.status in ['done', 'skipped']")
        );
        assert_eq!(shown("X || !C.Skipped"), after("steps.x.status == 'done' || !(steps.c.status == 'skipped')"));
        assert_eq!(
            shown("X&&(B.Failed||B.Succeeded)"),
            after("steps.x.status == 'done' && (steps.b.status == 'failed' || steps.b.status == 'done')")
        );
        for wrong in ["", "A &&", "(A", "A B", "A.AnySucceeded", ") A"] {
            assert_eq!(shown(wrong), None, "{wrong}");
        }
    }
}
