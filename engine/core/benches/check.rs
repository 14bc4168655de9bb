//! How fast a definition is checked: a thousand steps, each with expressions over its inputs and the step before.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use patchloom_core::{Contract, Contracts, Definition, World};
use serde_json::json;

const STEPS: usize = 1_000;

fn text() -> String {
    let mut text = "name: bench\ninputs: { host: { type: string }, n: { type: integer } }\nsteps:\n".to_owned();
    text.push_str("  s0: { uses: t.work, with: { host: \"${{ inputs.host }}\", n: 1 } }\n");
    for at in 1..STEPS {
        let before = at - 1;
        let step = format!(
            "  s{at}: {{ needs: s{before}, if: steps.s{before}.output.n > inputs.n, uses: t.work, \
             with: {{ host: \"on ${{{{ inputs.host }}}}\", n: \"${{{{ steps.s{before}.output.n + 1 }}}}\" }} }}"
        );
        writeln!(text, "{step}").expect("text takes text");
    }
    text
}

fn contracts() -> Contracts {
    let schema = json!({
        "type": "object", "required": ["host", "n"], "additionalProperties": false,
        "properties": { "host": { "type": "string" }, "n": { "type": "integer" } },
    });
    let work = Contract { summary: "Works.".into(), input: schema.clone(), output: schema, failures: Vec::new() };
    [("t.work", work)].into_iter().collect()
}

fn check(criterion: &mut Criterion) {
    let (text, known, contracts) = (text(), BTreeMap::new(), contracts());
    let world = World { known: &known, contracts: &contracts };
    let mut group = criterion.benchmark_group("check");
    group.sample_size(10);
    group.bench_function("1000 steps", |bench| {
        bench.iter(|| Definition::check("bench", black_box(&text), world).expect("the definition holds"));
    });
    group.bench_function("1000 steps, read only", |bench| {
        bench.iter(|| Definition::parse("bench", black_box(&text)).expect("the definition holds"));
    });
    group.finish();
}

criterion_group!(benches, check);
criterion_main!(benches);
