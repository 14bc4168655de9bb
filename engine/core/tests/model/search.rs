//! Breadth first through all states of a model, then backwards from its ends: a fault comes with its shortest path.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use patchloom_core::Partition;

use super::actions::{Act, actions, outline};
use super::key::{self, Key};
use super::rules::{self, Broken, Edge, Rule, hold};
use super::world::{Machine, Model, World};

/// More than this, and the model is too large to be searched whole in a test.
const STATES_MAX: usize = 100_000;

/// What a search went through.
#[derive(Clone, Debug)]
pub struct Found {
    pub states: usize,
    pub edges: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// How many states are an end, by the root's end.
    pub ends: BTreeMap<&'static str, usize>,
}

/// A broken rule and the shortest path to it.
#[derive(Debug)]
pub struct Violation {
    pub broken: Broken,
    pub path: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} is broken after {} events:", self.broken.rule, self.path.len())?;
        for line in &self.path {
            writeln!(f, "  {line}")?;
        }
        write!(f, "{}", self.broken.what)
    }
}

/// How a state was first reached.
struct Reached {
    from: Option<(usize, Act)>,
    depth: usize,
    over: bool,
}

struct Search {
    machine: Machine,
    /// Before anything happened.
    ground: World,
    reached: Vec<Reached>,
    known: HashMap<Key, usize>,
    open: VecDeque<(usize, World)>,
    /// For each state those from which one event leads to it, without an order that nobody has to give.
    back: Vec<Vec<usize>>,
    found: Found,
}

/// Goes through every state of `model`.
pub fn explore(model: &Model, machine: Machine) -> Result<Found, Violation> {
    let found = Found { states: 0, edges: 0, depth: 0, ends: BTreeMap::new() };
    let (reached, known, open, back) = (Vec::new(), HashMap::new(), VecDeque::new(), Vec::new());
    let ground = World::begin(model, machine);
    let mut search = Search { machine, ground, reached, known, open, back, found };
    search.meet(search.ground.clone(), None).map_err(|broken| Violation { broken, path: Vec::new() })?;
    while let Some((id, world)) = search.open.pop_front() {
        for act in actions(model, &world) {
            search.follow(id, &world, &act).map_err(|broken| {
                let mut path = search.path(id);
                path.push(outline(&world.partition, &act.event));
                Violation { broken, path }
            })?;
        }
    }
    search.ends_are_reachable()?;
    search.found.states = search.reached.len();
    Ok(search.found)
}

impl Search {
    fn follow(&mut self, id: usize, before: &World, act: &Act) -> rules::Verdict {
        let mut after = before.clone();
        after.now = act.at;
        let answer = after.say(self.machine, &act.event);
        if let Some(order) = act.order {
            after.given[order] = true;
        }
        Edge {
            machine: self.machine,
            before,
            event: &act.event,
            due: act.order.is_none(),
            answer: &answer,
            after: &after,
        }
        .check()?;
        self.found.edges += 1;
        let to = match answer {
            // What was refused may still be known to the onlooker as said.
            Err(_) if after.ledger == before.ledger => return Ok(()),
            Ok(_) | Err(_) => self.meet(after, Some((id, act.clone())))?,
        };
        if act.order.is_none() {
            self.back[to].push(id);
        }
        Ok(())
    }

    /// The number of a state; a new one is checked and kept for later.
    fn meet(&mut self, world: World, from: Option<(usize, Act)>) -> Result<usize, Broken> {
        let key = key::of(&world);
        if let Some(id) = self.known.get(&key) {
            return Ok(*id);
        }
        rules::state(self.machine, &world)?;
        let id = self.reached.len();
        assert!(id < STATES_MAX, "more than {STATES_MAX} states: give the model fewer steps or orders");
        let depth = from.as_ref().map_or(0, |(from, _)| self.reached[*from].depth + 1);
        let over = world.is_over();
        self.reached.push(Reached { from, depth, over });
        self.back.push(Vec::new());
        self.known.insert(key, id);
        self.found.depth = self.found.depth.max(depth);
        if over {
            *self.found.ends.entry(world.root().phase.name()).or_default() += 1;
            self.replay(id, &world)?;
        }
        self.open.push_back((id, world));
        Ok(id)
    }

    fn acts(&self, id: usize) -> Vec<Act> {
        let from = |(id, _): &(usize, Act)| self.reached[*id].from.clone();
        let mut acts: Vec<Act> =
            std::iter::successors(self.reached[id].from.clone(), from).map(|(_, act)| act).collect();
        acts.reverse();
        acts
    }

    /// The whole path once more, from the start: the same rows, byte for byte.
    fn replay(&self, id: usize, world: &World) -> rules::Verdict {
        let mut again = self.ground.clone();
        for act in self.acts(id) {
            again.now = act.at;
            let _ = again.say(self.machine, &act.event);
        }
        let rows = |partition: &Partition| partition.rows().collect::<Vec<_>>();
        let same = rows(&again.partition) == rows(&world.partition);
        hold(Rule::ReplayGivesTheSame, same, || "the path once more leads elsewhere".into())
    }

    /// Backwards from all ends: who is not met can never come to one.
    fn ends_are_reachable(&self) -> Result<(), Violation> {
        let mut met: Vec<bool> = self.reached.iter().map(|reached| reached.over).collect();
        let mut open: Vec<usize> = (0..met.len()).filter(|id| met[*id]).collect();
        while let Some(id) = open.pop() {
            for from in &self.back[id] {
                if !std::mem::replace(&mut met[*from], true) {
                    open.push(*from);
                }
            }
        }
        let Some(lost) = met.iter().position(|met| !met) else { return Ok(()) };
        let what = format!("{} of {} states lead to no end", met.iter().filter(|met| !**met).count(), met.len());
        Err(Violation { broken: Broken { rule: Rule::EndIsReachable, what }, path: self.path(lost) })
    }

    /// The events that lead to a state, a line each.
    fn path(&self, id: usize) -> Vec<String> {
        let mut world = self.ground.clone();
        let line = |act: Act| {
            world.now = act.at;
            let _ = world.say(self.machine, &act.event);
            outline(&world.partition, &act.event)
        };
        self.acts(id).into_iter().map(line).collect()
    }
}
