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

/// A random definition; `children` are the workflows that it may start.
pub fn definition(dice: &mut Dice, name: &str, children: &[&str]) -> String {
    let count = 1 + dice.below(7);
    let mut text = format!("name: {name}\nsteps:\n");
    for at in 0..count {
        let needs: Vec<String> = (0..at).filter(|_| dice.percent(40)).map(|need| format!("s{need}")).collect();
        let mut parts = vec![format!("needs: [{}]", needs.join(", "))];
        match dice.below(100) {
            0..14 if !children.is_empty() => {
                parts.push(format!("workflow: {}", dice.pick(children)));
                fan_out(dice, &mut parts);
            }
            14..20 => parts.push(format!("wait: {{ signal: go{} }}", dice.below(2))),
            20..24 => parts.push("wait: { signal: never, timeout: 1h }".into()),
            24..30 => parts.push("wait: { for: 5m }".into()),
            30..38 => parts.push("set: { v: 1 }".into()),
            38..41 => parts.push("fail: no luck".into()),
            _ => {
                parts.push("uses: some.work".into());
                parts.push(format!("retry: {{ attempts: {}, backoff: 1s }}", 1 + dice.below(3)));
                fan_out(dice, &mut parts);
                if dice.percent(60) {
                    let attempts = 1 + dice.below(2);
                    parts.push(format!(
                        "compensate: {{ uses: some.undo, with: {{ got: \"${{{{ self.output }}}}\", why: \"${{{{ failure.code }}}}\" }}, retry: {{ attempts: {attempts} }} }}"
                    ));
                }
                if dice.percent(10) {
                    parts.push("timeout: { total: 10m }".into());
                }
            }
        }
        match dice.below(20) {
            0 => parts.push("if: failed()".into()),
            1 => parts.push("if: always()".into()),
            2 => parts.push("if: 1 > 2".into()),
            _ => {}
        }
        if dice.percent(4) && !parts.iter().any(|part| part.starts_with("fail")) {
            parts.push("pivot: true".into());
        }
        text.push_str(&format!("  s{at}: {{ {} }}\n", parts.join(", ")));
    }
    if dice.percent(10) {
        text.push_str("timeout: 2h\n");
    }
    text
}

fn fan_out(dice: &mut Dice, parts: &mut Vec<String>) {
    if dice.percent(30) {
        let items: Vec<String> = (0..dice.below(5)).map(|item| item.to_string()).collect();
        parts.push(format!("for_each: {{ items: [{}], max_parallel: {} }}", items.join(", "), 1 + dice.below(3)));
    }
}
