//! The workflows of what came to the language later: limits across runs, waves, tolerance, last steps, people's say.

pub const STOP_AND_GO: &str = "
name: stop-and-go
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  b: { needs: a, uses: t.b, retry: { attempts: 2, backoff: 1s, jitter: false } }
  sweep: { needs: b, if: always(), uses: t.c }
";

/// Limits count only while it is not paused.
pub const BY_THE_CLOCK: &str = "
name: by-the-clock
timeout: 10m
steps:
  a: { uses: t.a, timeout: { total: 5s }, retry: { attempts: 2, backoff: 1s, jitter: false } }
  b: { needs: a, wait: { for: 5m } }
";

pub const DECIDE: &str = "
name: decide
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  b: { needs: a, uses: t.b, on_failure: pause, compensate: { uses: u.b, retry: { attempts: 1 } } }
  c: { uses: t.c }
  d: { needs: b, uses: t.d }
";

pub const DECIDE_ITEMS: &str = "
name: decide-items
steps:
  all: { uses: t.b, on_failure: pause, for_each: { items: [x, y] }, compensate: { uses: u.b, retry: { attempts: 1 } } }
  d: { needs: all, uses: t.d }
";

pub const DRAIN: &str = "
name: drain
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  all:
    needs: a
    uses: t.b
    for_each: { items: [x, y, z], max_parallel: 2, tolerate: { failures: 1, on_exceed: drain } }
  z: { needs: all, uses: t.z }
";

pub const CALL_BACK: &str = "
name: call-back
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  all:
    needs: a
    uses: t.b
    for_each: { items: [x, y, z], max_parallel: 2, tolerate: { failures: 1, on_exceed: cancel } }
  z: { needs: all, uses: t.z }
";

pub const HOLD_BACK: &str = "
name: hold-back
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  all:
    needs: a
    uses: t.b
    retry: { attempts: 2, backoff: 1s, jitter: false }
    for_each: { items: [x, y, z], max_parallel: 2, tolerate: { failures: 0, on_exceed: pause } }
  z: { needs: all, uses: t.z }
";

pub const WAVES: &str = "
name: waves
steps:
  all:
    uses: t.b
    for_each:
      items: [x, y, z]
      max_parallel: 2
      waves: [{ name: one, size: 1, soak: 1m, gate: { signal: go, timeout: 1h } }, { name: two }]
    compensate: { uses: u.b, retry: { attempts: 1 } }
  z: { needs: all, uses: t.z }
";

/// Waves that bear a failure, with a gate that asks.
pub const GATES: &str = "
name: gates
steps:
  all:
    uses: t.b
    for_each:
      items: [x, y, z]
      waves: [{ name: one, size: 2, gate: { if: wave.failed == 0, signal: go } }, { name: two, soak: 1m }]
      tolerate: { failures: 1, on_exceed: pause }
";

pub const FINALLY: &str = "
name: finally
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  b: { needs: a, uses: t.b }
finally:
  y: { uses: t.y }
  z: { needs: y, uses: t.z }
";

pub const CONTINUE: &str = "
name: continue
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  b: { needs: a, uses: t.b, on_failure: continue, for_each: { items: [x, y], max_parallel: 1 } }
  c: { needs: b, uses: t.c }
";

/// A place that the steps of two runs share.
pub const SHARED: &str = "
name: shared
steps:
  a: { uses: t.a, concurrency: { group: g, limit: 1 }, compensate: { uses: u.a, retry: { attempts: 1 } } }
  b: { needs: a, uses: t.b, concurrency: { group: g, limit: 1 }, for_each: { items: [x, y] } }
";

/// With attempts: what backs off gives its place to others.
pub const SHARED_AGAIN: &str = "
name: shared-again
steps:
  a:
    uses: t.a
    concurrency: { group: g, limit: 1 }
    retry: { attempts: 2, backoff: 1s, jitter: false }
";

/// One after the other by the clock, in two runs.
pub const PACED: &str = "
name: paced
steps:
  a: { uses: t.a, for_each: { items: [x, y] }, rate: 1/1m, compensate: { uses: u.a, retry: { attempts: 1 } } }
";

pub const QUEUE: &str = "
name: queue
timeout: 10m
concurrency: { group: g, limit: 1, on_full: queue }
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  b: { needs: a, wait: { for: 1m } }
";

pub const REJECT: &str = "
name: reject
concurrency: { group: g, limit: 1, on_full: reject }
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  b: { needs: a, uses: t.b }
finally:
  z: { uses: t.z }
";

pub const REPLACE: &str = "
name: replace
concurrency: { group: g, limit: 1, on_full: replace }
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  b: { needs: a, uses: t.b }
";

pub const ITEMS: &str = "
name: items
steps:
  all: { uses: t.b, for_each: { items: [x, y], max_parallel: 2, tolerate: 1 } }
  z: { needs: all, uses: t.z, compensate: { uses: u.z, retry: { attempts: 1 } } }
";

pub const EMIT: &str = "
name: emit
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  tell: { needs: a, emit: { type: a.done, data: 1 } }
  b: { uses: t.b }
finally:
  over: { emit: { type: all.done } }
";

pub const NESTED: &str = "
name: nested
steps:
  b:
    for_each: { items: [x, y], max_parallel: 2 }
    steps:
      p: { uses: t.p, compensate: { uses: u.p, retry: { attempts: 1 } } }
      q: { needs: p, set: 1 }
  c: { needs: b, uses: t.c }
";

pub const QUORUM: &str = "
name: quorum
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  ask: { needs: a, wait: { signal: go, quorum: 2, timeout: 1h } }
  b: { needs: ask, uses: t.b }
";

/// An event from outside, which may come before anybody waits for it.
pub const EVENT: &str = "
name: event
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  up: { needs: a, wait: { event: host.up, key: h1, since: 5m, timeout: 1h } }
  b: { needs: up, uses: t.b }
";

/// Work that goes out at night only, and backs off beyond its end.
pub const NIGHT: &str = "
name: night
steps:
  a:
    uses: t.a
    window: night
    expected: 10m
    retry: { attempts: 2, backoff: 55m, max_backoff: 55m, jitter: false }
    compensate: { uses: u.a, retry: { attempts: 1 } }
  b: { needs: a, wait: { window: night, expected: 10m } }
  c: { needs: b, uses: t.c }
";

/// Two versions of one workflow: the first is what runs move to.
pub const MOVED_TO: &str = "
name: moved
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  more: { needs: a, uses: t.m, compensate: { uses: u.m, retry: { attempts: 1 } } }
  b: { needs: more, uses: t.b }
";

pub const MOVED: &str = "
name: moved
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  b: { needs: a, uses: t.b }
";
