//! The workflows that are gone through whole: each small, each with one thing of the language in it.

pub const ROW: &str = "
name: row
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  b: { needs: a, uses: t.b, compensate: { uses: u.b, retry: { attempts: 1 } } }
  c: { needs: b, uses: t.c }
";

pub const DIAMOND: &str = "
name: diamond
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  b: { needs: a, uses: t.b, compensate: { uses: u.b, retry: { attempts: 1 } } }
  c: { needs: a, uses: t.c, compensate: { uses: u.c, retry: { attempts: 1 } } }
  d: { needs: [b, c], uses: t.d }
";

pub const PIVOT: &str = "
name: pivot
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  b: { uses: t.b, compensate: { uses: u.b, retry: { attempts: 1 } } }
  p: { needs: a, uses: t.p, pivot: true, compensate: { uses: u.p, retry: { attempts: 1 } } }
  z: { needs: p, uses: t.z, compensate: { uses: u.z, retry: { attempts: 1 } } }
";

pub const TWO_AT_ONCE: &str = "
name: two-at-once
steps:
  all: { uses: t.a, for_each: { items: [x, y, z], max_parallel: 2 }, compensate: { uses: u.a, retry: { attempts: 1 } } }
  z: { needs: all, uses: t.z }
";

pub const ONE_BY_ONE: &str = "
name: one-by-one
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  all:
    needs: a
    uses: t.b
    for_each: { items: [x, y, z], max_parallel: 1 }
    compensate: { uses: u.b, retry: { attempts: 1 } }
";

pub const AGAIN: &str = "
name: again
steps:
  a:
    uses: t.a
    retry: { attempts: 2, backoff: 1s, jitter: false }
    compensate: { uses: u.a, retry: { attempts: 2, backoff: 1s, jitter: false } }
  b: { uses: t.b, retry: { attempts: 2, backoff: 1s, jitter: false } }
  c: { needs: [a, b], uses: t.c }
";

pub const CATCH: &str = "
name: catch
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  rescue: { needs: a, if: failed(), uses: t.b, compensate: { uses: u.b, retry: { attempts: 1 } } }
  z: { needs: rescue, uses: t.z }
";

pub const ALWAYS: &str = "
name: always
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  b: { needs: a, uses: t.b }
  sweep: { needs: b, if: always(), uses: t.c, compensate: { uses: u.c, retry: { attempts: 1 } } }
";

pub const SIGNAL: &str = "
name: signal
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  approve: { needs: a, wait: { signal: go, timeout: 1h } }
  b: { needs: approve, uses: t.b }
  pause: { wait: { for: 5m } }
";

pub const LIMITS: &str = "
name: limits
timeout: 10m
steps:
  a:
    uses: t.a
    timeout: { total: 5s }
    retry: { attempts: 2, backoff: 1s, jitter: false }
    compensate: { uses: u.a, retry: { attempts: 1 } }
  b: { needs: a, uses: t.b, timeout: { total: 1h }, for_each: { items: [x, y], max_parallel: 1 } }
";

/// Expressions that have no value: in a compensation, in what the run gives back.
pub const NO_VALUE: &str = "
name: no-value
steps:
  a: { uses: t.a, compensate: { uses: u.a, with: { id: '${{ self.output.id }}' } } }
  skipped: { if: 1 > 2, uses: t.b, compensate: { uses: u.b } }
  none: { needs: skipped, uses: t.c, for_each: { items: [] }, compensate: { uses: u.c } }
  sum: { needs: a, set: { v: 1 } }
output: { v: '${{ steps.sum.output.w }}' }
";

pub const CHILD: &str = "
name: child
steps:
  x: { uses: t.x, compensate: { uses: u.x, retry: { attempts: 1 } } }
  y: { needs: x, uses: t.y }
";

pub const PARENT: &str = "
name: parent
steps:
  a: { uses: t.a, compensate: { uses: u.a, retry: { attempts: 1 } } }
  b: { needs: a, workflow: child }
  c: { needs: b, uses: t.c }
";

pub const FAMILY: &str = "
name: family
steps:
  b: { workflow: child, for_each: { items: [x, y], max_parallel: 2 } }
  c: { needs: b, uses: t.c }
";

pub const LINE: &str = "
name: line
steps:
  b: { workflow: child, for_each: { items: [x, y], max_parallel: 1 } }
  c: { needs: b, if: failed(), uses: t.c }
";

pub const GRANDPARENT: &str = "
name: grandparent
timeout: 1h
steps:
  p: { workflow: parent }
  z: { needs: p, uses: t.z }
";

/// A child with a point of no return in it, which waits for a signal before that.
pub const BEYOND: &str = "
name: beyond
steps:
  x: { uses: t.x, compensate: { uses: u.x, retry: { attempts: 1 } } }
  ask: { needs: x, wait: { signal: go } }
  p: { needs: ask, uses: t.p, pivot: true }
  y: { needs: p, uses: t.y, compensate: { uses: u.y, retry: { attempts: 1 } } }
";

pub const ABOVE: &str = "
name: above
steps:
  b: { workflow: beyond }
  c: { needs: b, uses: t.c }
";

/// One of each kind of thing that a planted fault needs.
pub const FAULTY: &str = "
name: faulty
steps:
  a:
    uses: t.a
    retry: { attempts: 2, backoff: 1s, jitter: false }
    compensate: { uses: u.a, retry: { attempts: 1 } }
  all:
    needs: a
    uses: t.b
    for_each: { items: [x, y], max_parallel: 1 }
    compensate: { uses: u.b, retry: { attempts: 1 } }
  child: { needs: all, workflow: child }
  p: { needs: child, uses: t.p, pivot: true }
  z: { needs: p, uses: t.z }
";

/// The same for what came to the language later.
pub const FAULTY_TOO: &str = "
name: faulty-too
timeout: 10m
steps:
  a: { uses: t.a, for_each: { items: [x, y] }, concurrency: { group: g, limit: 1 } }
  b: { needs: a, uses: t.b, on_failure: pause }
  c: { wait: { for: 1m } }
finally:
  z: { uses: t.z }
";
