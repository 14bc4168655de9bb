//! The four proofs, for each step of each shipped workflow, with the real handlers on real roots: repeating an action
//! changes nothing, failing there unwinds all, repeating an undo changes nothing, no undo fails.

mod scene;
mod script;
#[path = "../kill/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patchloom::host::Host;
use patchloom::lifecycle::{self, Wish};
use patchloom::output::Screen;
use patchloom::progress::Progress;
use patchloom::report::Mode;
use patchloom::shipped;
use patchloom_bed::{Root, left_out};
use patchloom_core::record::End;
use patchloom_core::run::Run;
use patchloom_core::{Action, Definition, Wait};
use patchloom_domain::{ChangeState, CloseCode, Target};
use scene::Scene;
use script::{Place, Script, When};
use world::World;

/// Runs at a time.
const PARALLEL: usize = 2;
/// More than any of these runs takes, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(150);

/// All steps of all shipped workflows that satisfy a test.
fn steps(wanted: impl Fn(&Definition, usize) -> bool) -> BTreeSet<Place> {
    let mut found = BTreeSet::new();
    for (name, text) in shipped::all() {
        let definition = Definition::parse(name, text).expect("what is shipped holds");
        // What a campaign does to a host is the lifecycle's work; what is its own has tests of its own.
        // So has the inventory: no host is touched.
        if name.starts_with("campaign") || *name == "reconcile" {
            continue;
        }
        for (_, step) in definition.steps.iter().enumerate().filter(|(at, _)| wanted(&definition, *at)) {
            assert!(step.for_each.is_none(), "a step with items needs proofs of its own: {name}/{}", step.name);
            found.insert(((*name).to_owned(), step.name.to_string()));
        }
    }
    found
}

/// Steps that a worker does.
fn actions() -> BTreeSet<Place> {
    steps(|definition, at| matches!(definition.steps[at].action, Action::Task { .. }))
}

/// Steps that have a way back of their own.
fn undoable() -> BTreeSet<Place> {
    steps(|definition, at| definition.steps[at].compensate.is_some())
}

/// Where the lifecycle stands behind its point of no return.
fn is_behind_the_pivot(place: &Place) -> bool {
    let definition = Definition::parse("patch-lifecycle", shipped::text("patch-lifecycle").unwrap()).unwrap();
    let pivots: Vec<usize> = (0..definition.steps.len()).filter(|at| definition.steps[*at].pivot).collect();
    let at = |name: &str| definition.position(name);
    place.0 == "patch-lifecycle"
        && at(&place.1).is_some_and(|at| pivots.iter().any(|pivot| definition.upstream[at].contains(*pivot)))
}

/// How a run ended.
struct Ended {
    run: Run,
    /// Whether the change may be approved was asked.
    asked: bool,
}

/// One run of the lifecycle under a script, to its end.
async fn live(script: &Arc<Script>, mode: Mode, yes: bool) -> Result<Ended, String> {
    let scene = &script.scene;
    let host = Host::open_with(&scene.data, script.handlers()).await.map_err(|fault| format!("{fault:?}"))?;
    assert!(script.engine.set(host.handle().clone()).is_ok(), "a script is played once");
    let target = Target::Root { path: scene.root.path().display().to_string() };
    let (checks, undo) = (Vec::new(), "packages_then_snapshot");
    let wish = Wish {
        target,
        mode,
        offline: true,
        checks,
        undo,
        lock_timeout_seconds: 300,
        // A root directory boots nothing; the step is done all the same.
        reboot: "always",
        reboot_deadline_seconds: 1,
        agents: Vec::new(),
        probes: Vec::new(),
        outside: None,
    };
    let taken = lifecycle::take(&host, &wish).await.map_err(|fault| format!("{fault:?}"))?;
    let progress = Progress::new(std::io::sink(), Screen::PLAIN);
    let mut asked = false;
    let mut decide = |_: &patchloom_domain::ChangeRequest| {
        asked = true;
        Ok(Some(yes))
    };
    let followed = tokio::time::timeout(LIMIT, lifecycle::follow(&host, taken.run(), progress, &mut decide)).await;
    let result = match followed {
        Err(_) => Err(format!("it did not end within {} s", LIMIT.as_secs())),
        Ok(Err(fault)) => Err(format!("{fault:?}")),
        Ok(Ok(_)) => match host.find(taken.run()).await {
            Ok(Some((run, _))) => Ok(Ended { run: run.as_ref().clone(), asked }),
            Ok(None) => Err("the run is gone".to_owned()),
            Err(fault) => Err(format!("{fault:?}")),
        },
    };
    host.close().await;
    result
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

fn scene(root: &Arc<Root>, name: &str) -> Scene {
    Scene { root: Arc::clone(root), data: root.beside(name) }
}

/// What is wrong with how it ended; `root` as it was before.
fn judge(script: &Script, ended: &Result<Ended, String>, wanted: Wanted, before: &World) -> Vec<String> {
    let mut wrong = std::mem::take(&mut *script.complaints.lock().unwrap());
    let run = match ended {
        Ok(ended) => &ended.run,
        Err(why) => {
            wrong.push(why.clone());
            return wrong;
        }
    };
    let root = &script.scene.root;
    let mut packages = before.clone();
    if wanted == Wanted::Patched {
        root.pairs().into_iter().for_each(|pair| drop(packages.packages.insert(pair.name, format!("{} ii", pair.new))));
    }
    wrong.extend(packages.differences(&World::of(root), wanted != Wanted::Patched));
    let audit = root.audit();
    wrong.extend((!audit.is_empty()).then_some(audit));
    let change = world::change(&script.scene.data);
    let fits = match (wanted, run.end(), &change) {
        (Wanted::Undone, Some(End::Compensated | End::Failed), Ok(change)) => matches!(
            change,
            None | Some((ChangeState::Canceled, None) | (ChangeState::Closed, Some(CloseCode::Unsuccessful)))
        ),
        // Behind the point of no return a failure is told, and nothing is undone.
        (Wanted::Patched | Wanted::Observed, Some(end), Ok(change)) => {
            (end == End::Succeeded) == script.fail.is_none()
                && *change == Some((ChangeState::Closed, Some(CloseCode::Successful)))
        }
        _ => false,
    };
    if !fits {
        wrong.push(format!("wanted {wanted:?}, but it is {:?} with the change {change:?}: {:?}", run.phase, run.cause));
    }
    let snapshots = script.scene.data.join("backups/snapshots");
    let left = std::fs::read_dir(snapshots).into_iter().flatten().flatten().count();
    if left > 0 && !(script.fail.is_some() && wanted == Wanted::Patched) {
        wrong.push(format!("{left} snapshots are left"));
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let inside = format!("{}/", root.beside("").display());
    wrong.extend(mounts.lines().filter(|line| line.contains(&inside)).map(|line| format!("still mounted: {line}")));
    wrong
}

/// What a run must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// The planned versions are installed.
    Patched,
    /// Nothing changed, as intended.
    Observed,
    /// All is as it was, and the change says that nothing came of it.
    Undone,
}

#[test]
fn repeating_any_action_changes_nothing() {
    if left_out() {
        return;
    }
    for (mode, wanted) in [(Mode::Observe, Wanted::Observed), (Mode::Apply, Wanted::Patched)] {
        let root = Arc::new(Root::mini());
        let before = World::of(&root);
        let script = Script::new(scene(&root, "data"), true, None);
        let ended = block_on(live(&script, mode, true));
        let wrong = judge(&script, &ended, wanted, &before);
        assert!(wrong.is_empty(), "{mode:?}:\n{}", wrong.join("\n"));
        assert_eq!(*script.done.lock().unwrap(), actions(), "{mode:?}: these were repeated");
    }
}

/// One failure at one step.
#[derive(Clone, Debug)]
struct Case {
    place: Place,
    when: When,
    mode: Mode,
}

#[test]
fn failing_at_any_step_unwinds_all_and_no_undo_fails_nor_does_anything_when_repeated() {
    if left_out() {
        return;
    }
    let mut cases = Vec::new();
    for place in actions() {
        for when in [When::Before, When::After] {
            cases.extend([Mode::Observe, Mode::Apply].map(|mode| Case { place: place.clone(), when, mode }));
        }
    }
    let began = Instant::now();
    let (next, wrong, undone) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                // A root serves until something was left changed on it, for good reasons or bad ones.
                let mut spare: Option<(Arc<Root>, World)> = None;
                while let Some((at, case)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, cases.get(at)?)))
                {
                    let (root, before) = spare.take().unwrap_or_else(|| {
                        let root = Arc::new(Root::mini());
                        let before = World::of(&root);
                        (root, before)
                    });
                    let script = fail(case, scene(&root, &format!("data-{at}")), &before, &wrong);
                    undone.lock().unwrap().extend(
                        script.undone.lock().unwrap().iter().cloned().map(|place| (case.mode == Mode::Apply, place)),
                    );
                    if World::of(&root) == before {
                        spare = Some((root, before));
                    }
                }
            });
        }
    });
    println!("{} failures in {} s", cases.len(), began.elapsed().as_secs());
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} cases are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let wanted: BTreeSet<(bool, Place)> =
        undoable().into_iter().flat_map(|place| [(false, place.clone()), (true, place)]).collect();
    assert_eq!(undone.into_inner().unwrap(), wanted, "these were undone");
}

fn fail(case: &Case, scene: Scene, before: &World, all_wrong: &Mutex<Vec<String>>) -> Arc<Script> {
    let script = Script::new(scene, false, Some((case.place.clone(), case.when)));
    let ended = block_on(live(&script, case.mode, true));
    let wanted = match (is_behind_the_pivot(&case.place), case.mode) {
        (false, _) => Wanted::Undone,
        (true, Mode::Apply) => Wanted::Patched,
        (true, Mode::Observe) => Wanted::Observed,
    };
    let mut wrong = judge(&script, &ended, wanted, before);
    if !script.done.lock().unwrap().contains(&case.place) {
        wrong.push("it was never reached".to_owned());
    }
    if !wrong.is_empty() {
        all_wrong.lock().unwrap().push(format!("{case:?}\n    {}", wrong.join("\n    ")));
    }
    script
}

#[test]
fn a_wait_that_ends_badly_unwinds_all() {
    if left_out() {
        return;
    }
    let waits = steps(|definition, at| matches!(definition.steps[at].action, Action::Wait(Wait::Signal(_))));
    assert_eq!(waits, [("change".to_owned(), "approved".to_owned())].into(), "each wait needs a proof of its own");
    let root = Arc::new(Root::mini());
    let before = World::of(&root);
    let script = Script::new(scene(&root, "data"), false, None);
    let ended = block_on(live(&script, Mode::Apply, false));
    assert!(ended.as_ref().is_ok_and(|ended| ended.asked), "nobody was asked");
    let wrong = judge(&script, &ended, Wanted::Undone, &before);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn steps_that_no_worker_does_have_nothing_to_prove_but_their_children() {
    // Child runs are proven step by step above; what computes or fails by itself has no deed to repeat.
    let other = steps(|definition, at| match &definition.steps[at].action {
        Action::Task { .. } | Action::Workflow { .. } | Action::Steps(_) | Action::Wait(_) => false,
        Action::Set(_) | Action::Fail(_) | Action::Emit(_) => definition.steps[at].compensate.is_some(),
    });
    assert_eq!(other, BTreeSet::new());
}
