//! Random definitions out of a seed: for the histories of the machine and for the simulation of the engine.

/// Draws numbers from a seed (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = usize::try_from(self.below(from.len() as u64)).unwrap();
        &from[at]
    }
}

/// A random definition of the whole language; `children` are the workflows that it may start.
pub fn definition(dice: &mut Dice, name: &str, children: &[&str]) -> String {
    let mut text = format!("name: {name}\nsteps:\n{}", steps(dice, name, children, 1));
    if dice.percent(10) {
        text.push_str("timeout: 2h\n");
    }
    if dice.percent(15) {
        text.push_str("finally:\n  last: { uses: some.work, with: { end: '${{ run.end }}' } }\n");
        if dice.percent(50) {
            text.push_str("  told: { needs: last, emit: { type: run.over, data: { end: '${{ run.end }}' } } }\n");
        }
    }
    if dice.percent(15) {
        // A group of its own for each workflow: one that holds a place must not wait for a child that needs it.
        let full = dice.pick(&["queue", "queue", "reject", "replace"]);
        text.push_str(&format!(
            "concurrency: {{ group: runs-of-{name}, limit: {}, on_full: {full} }}\n",
            1 + dice.below(3)
        ));
    }
    text
}

fn event_wait(dice: &mut Dice) -> String {
    let how = dice.pick(&[
        "",
        ", key: h0, since: 5m",
        ", if: event.data.n > 3",
        ", key: '1', by: data.n, timeout: 3h, on_timeout: continue",
    ]);
    format!("wait: {{ event: host.up{how} }}")
}

fn steps(dice: &mut Dice, name: &str, children: &[&str], depth: usize) -> String {
    let count = if depth == 1 { 1 + dice.below(7) } else { 1 + dice.below(3) };
    let indent = "  ".repeat(depth);
    let mut text = String::new();
    for at in 0..count {
        let step = format!("{}{at}", ["s", "t", "u"][depth - 1]);
        let needs: Vec<String> =
            (0..at).filter(|_| dice.percent(40)).map(|need| format!("{}{need}", ["s", "t", "u"][depth - 1])).collect();
        let mut parts = vec![format!("needs: [{}]", needs.join(", "))];
        action(dice, (name, children, depth), &mut parts);
        match dice.below(20) {
            0 => parts.push("if: failed()".into()),
            1 => parts.push("if: always()".into()),
            2 => parts.push("if: 1 > 2".into()),
            _ => {}
        }
        if dice.percent(4) && !parts.iter().any(|part| part.starts_with("fail")) {
            parts.push("pivot: true".into());
        }
        if dice.percent(6) && !parts.iter().any(|part| part.starts_with("set") || part.starts_with("fail:")) {
            parts.push(format!(
                "on_failure: {}",
                if compensated(&parts) { "pause" } else { *dice.pick(&["pause", "continue"]) }
            ));
        }
        text.push_str(&format!("{indent}{step}: {{ {} }}\n", parts.join(", ")));
    }
    text
}

fn compensated(parts: &[String]) -> bool {
    parts.iter().any(|part| part.starts_with("compensate") || part.starts_with("workflow") || part.starts_with("steps"))
}

fn action(dice: &mut Dice, (name, children, depth): (&str, &[&str], usize), parts: &mut Vec<String>) {
    match dice.below(100) {
        0..12 if !children.is_empty() => {
            parts.push(format!("workflow: {}", dice.pick(children)));
            fan_out(dice, parts, true);
            limits(dice, (name, "w"), parts);
        }
        12..20 if depth < 3 => {
            let inner = steps(dice, name, &[], depth + 1);
            let inner: Vec<&str> = inner.lines().map(str::trim).collect();
            parts.push(format!("steps: {{ {} }}", inner.join(", ")));
            fan_out(dice, parts, true);
            limits(dice, (name, &format!("d{depth}")), parts);
        }
        20..24 => parts.push(format!("wait: {{ signal: go{} }}", dice.below(2))),
        24..26 => parts.push("wait: { signal: go0, quorum: 2, timeout: 8h, on_timeout: continue }".into()),
        26..29 => parts.push("wait: { signal: never, timeout: 1h }".into()),
        29..32 => parts.push("wait: { for: 5m }".into()),
        32..34 => parts.push("wait: { window: night, expected: 10m }".into()),
        34..38 => parts.push(event_wait(dice)),
        38..41 => parts.push("set: { v: 1 }".into()),
        41..43 => parts.push("fail: no luck".into()),
        43..46 => parts.push("emit: { type: some.fact, data: { n: 1 } }".into()),
        _ => {
            parts.push("uses: some.work".into());
            let besides = dice.pick(&["", "", "", ", except: [X2]", ", only: [X1]"]);
            parts.push(format!("retry: {{ attempts: {}, backoff: 1s{besides} }}", 1 + dice.below(3)));
            let undone = dice.percent(60);
            fan_out(dice, parts, !undone);
            if undone {
                let attempts = 1 + dice.below(2);
                parts.push(format!(
                    "compensate: {{ uses: some.undo, with: {{ got: \"${{{{ self.output }}}}\", why: \"${{{{ failure.code }}}}\" }}, retry: {{ attempts: {attempts} }} }}"
                ));
            }
            if dice.percent(20) {
                let limit = dice.pick(&["total: 10m", "queue: 20s", "attempt: 10s", "heartbeat: 10s, attempt: 40s"]);
                parts.push(format!("timeout: {{ {limit} }}"));
            }
            limits(dice, (name, "t"), parts);
        }
    }
}

fn fan_out(dice: &mut Dice, parts: &mut Vec<String>, may_bear: bool) {
    if !dice.percent(40) {
        return;
    }
    let count = dice.below(7);
    let items: Vec<String> = (0..count).map(|item| item.to_string()).collect();
    let mut keys = vec![format!("items: [{}]", items.join(", "))];
    if dice.percent(80) {
        keys.push(format!("max_parallel: {}", 1 + dice.below(3)));
    }
    if dice.percent(30) {
        keys.push(format!("per: [{{ key: \"${{{{ item % {} }}}}\", limit: 1 }}]", 2 + dice.below(2)));
    }
    if dice.percent(30) {
        let soak = dice.pick(&["", ", soak: 1m"]);
        let gate = dice.pick(&[
            "",
            "",
            ", gate: { signal: go1 }",
            ", gate: { if: wave.failed == 0, signal: go0, timeout: 9h }",
        ]);
        keys.push(format!("waves: [{{ size: 1{soak} }}, {{ size: 30%{gate} }}, {{ name: broad, size: 100%{soak} }}]"));
    }
    if may_bear && dice.percent(50) {
        let failures = dice.pick(&["1", "30%", "0", "100%"]);
        let exceed = dice.pick(&["drain", "cancel", "pause"]);
        let samples = if failures.ends_with('%') { *dice.pick(&["", ", min_samples: 2"]) } else { "" };
        keys.push(format!("tolerate: {{ failures: {failures}, on_exceed: {exceed}{samples} }}"));
    }
    parts.push(format!("for_each: {{ {} }}", keys.join(", ")));
}

/// Limits that are shared, and a window. Groups are named by the level and the kind: who holds a place never waits for
/// somebody below who needs one of the same group.
fn limits(dice: &mut Dice, (name, kind): (&str, &str), parts: &mut Vec<String>) {
    let fanned = parts.iter().any(|part| part.starts_with("for_each"));
    if dice.percent(15) {
        let group = if fanned && dice.percent(50) {
            format!("\"{name}-{kind}-${{{{ item % 2 }}}}\"")
        } else {
            format!("{name}-{kind}")
        };
        let full = dice.pick(&["queue", "queue", "queue", "reject"]);
        // One limit for all who name the group: where they disagree the last one counts.
        parts.push(format!(
            "concurrency: {{ group: {group}, limit: {}, on_full: {full} }}",
            if kind == "w" { 1 } else { 2 }
        ));
    }
    if dice.percent(10) {
        parts.push(format!("rate: {}/10m", 1 + dice.below(3)));
    }
    if dice.percent(12) {
        let expected = dice.pick(&["10m", "1h", "9h"]);
        let name = if fanned && dice.percent(40) { "\"${{ item % 2 == 0 ? 'night' : 'day' }}\"" } else { "night" };
        parts.push(format!("window: {name}, expected: {expected}"));
    }
    if dice.percent(10) {
        parts.push(format!("priority: {}", dice.below(5)));
    }
}
