//! The order of the steps: `needs` as a graph without cycles.

use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::diagnostic::{Diagnostic, Span, nearest};

/// A set of steps by position; as wide as the definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set(Vec<u64>);

impl Set {
    /// Adds a step.
    pub fn insert(&mut self, step: usize) {
        if self.0.len() <= step / 64 {
            self.0.resize(step / 64 + 1, 0);
        }
        self.0[step / 64] |= 1 << (step % 64);
    }

    /// Adds all steps of `other`.
    pub fn extend(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    /// Whether the step is in it.
    #[must_use]
    pub fn contains(&self, step: usize) -> bool {
        self.0.get(step / 64).is_some_and(|word| word & (1 << (step % 64)) != 0)
    }

    /// The steps in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len() * 64).filter(|step| self.contains(*step))
    }
}

/// A step as the graph sees it.
pub(super) struct Vertex<'a> {
    pub name: &'a str,
    pub span: Span,
    pub needs: Vec<(String, Span)>,
}

/// The positions of `vertices` (sorted by name) in an order in which each stands behind all it needs.
///
/// # Errors
/// E0108 for each unknown name and each cycle, with the cycle spelled out.
pub(super) fn order(vertices: &[Vertex<'_>]) -> Result<Vec<usize>, Vec<Diagnostic>> {
    let mut mistakes = Vec::new();
    let mut graph: DiGraph<usize, Span> = DiGraph::new();
    let nodes: Vec<NodeIndex> = (0..vertices.len()).map(|at| graph.add_node(at)).collect();
    for (at, vertex) in vertices.iter().enumerate() {
        for (need, span) in &vertex.needs {
            match vertices.binary_search_by(|other| other.name.cmp(need)) {
                Ok(found) => {
                    graph.add_edge(nodes[found], nodes[at], *span);
                }
                Err(_) => mistakes.push(unknown(need, *span, vertices)),
            }
        }
    }
    for group in tarjan_scc(&graph) {
        let alone = group.len() == 1 && !graph.contains_edge(group[0], group[0]);
        if !alone {
            mistakes.push(cycle(&graph, &group, vertices));
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let sorted = toposort(&graph, None).map_err(|_| Vec::new())?;
    Ok(stable(&graph, &sorted))
}

fn unknown(need: &str, span: Span, vertices: &[Vertex<'_>]) -> Diagnostic {
    let near = nearest(need, vertices.iter().map(|vertex| vertex.name));
    Diagnostic {
        code: "E0108",
        message: format!("no step is called `{need}`"),
        span,
        reason: "`needs` names other steps of this workflow".into(),
        fix: near.map(|near| format!("write `{near}`")),
    }
}

fn cycle(graph: &DiGraph<usize, Span>, group: &[NodeIndex], vertices: &[Vertex<'_>]) -> Diagnostic {
    let first = group.iter().min_by_key(|node| graph[**node]).copied().unwrap_or(group[0]);
    let mut path = vec![first];
    loop {
        let here = path[path.len() - 1];
        let before = graph
            .neighbors_directed(here, petgraph::Direction::Incoming)
            .filter(|next| group.contains(next))
            .min_by_key(|next| graph[*next]);
        match before {
            Some(next) if !path.contains(&next) => path.push(next),
            Some(next) => {
                path.push(next);
                break;
            }
            None => break,
        }
    }
    let start = path.iter().position(|node| Some(node) == path.last()).unwrap_or(0);
    let names: Vec<&str> = path[start..].iter().map(|node| vertices[graph[*node]].name).collect();
    Diagnostic {
        code: "E0108",
        message: format!("these steps wait for each other: {}", names.join(" needs ")),
        span: vertices[graph[path[start]]].span,
        reason: "none of them could ever start".into(),
        fix: Some("remove one of these `needs`".into()),
    }
}

/// Kahn's order with the smallest position first: the same for equal definitions, however petgraph walks.
fn stable(graph: &DiGraph<usize, Span>, sorted: &[NodeIndex]) -> Vec<usize> {
    let mut missing: std::collections::BTreeMap<usize, usize> = sorted
        .iter()
        .map(|node| (graph[*node], graph.neighbors_directed(*node, petgraph::Direction::Incoming).count()))
        .collect();
    let mut ready: std::collections::BTreeSet<usize> =
        missing.iter().filter(|(_, count)| **count == 0).map(|(at, _)| *at).collect();
    let mut order = Vec::with_capacity(sorted.len());
    while let Some(at) = ready.pop_first() {
        order.push(at);
        for next in graph.neighbors(NodeIndex::new(at)) {
            let count = missing.entry(graph[next]).or_default();
            *count -= 1;
            if *count == 0 {
                ready.insert(graph[next]);
            }
        }
    }
    order
}
