//! What starts runs without anybody asking, drawn by chance: events with keys, bursts, schedules with all they may say.

use super::Dice;

/// What starts runs of it, besides people and parents: at most one trigger for a type of event, at most one schedule.
pub fn triggers(dice: &mut Dice) -> String {
    let mut on = Vec::new();
    for kind in ["world.a", "world.b"] {
        if dice.percent(30) {
            let condition = dice.pick(&["", "", ", if: event.data.n > 3"]);
            let key = dice.pick(&["", ", key: \"${{ event.data.n }}\"", ", key: \"${{ event.subject }}\""]);
            let debounce = dice.pick(&["", "", ", debounce: 10s"]);
            on.push(format!("  - event: {{ type: {kind}{condition}{key}{debounce} }}\n"));
        }
    }
    if dice.percent(40) {
        let rule = dice.pick(&["every: 20s", "every: 45s", "every: 2m", "cron: \"* * * * *\", timezone: UTC"]);
        let overlap = dice.pick(&["skip", "queue", "replace", "allow"]);
        let missed = dice.pick(&["none", "last", "all"]);
        let jitter = dice.pick(&["", ", jitter: 10s"]);
        on.push(format!("  - schedule: {{ {rule}, overlap: {overlap}, catch_up: {missed}{jitter} }}\n"));
    }
    if on.is_empty() { String::new() } else { format!("on:\n{}", on.concat()) }
}
