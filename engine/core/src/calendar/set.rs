//! Sets of time spans: union, intersection and difference. Knows numbers only.

/// A span in milliseconds since 1970, half open, and how long before its end nothing starts any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Raw {
    pub open: u64,
    pub close: u64,
    pub cutoff: u64,
}

/// Spans in order, none touching another.
pub(super) type Set = Vec<Raw>;

/// The union of spans in any order. Where several make up one, things start as long as any of them lets them.
pub(super) fn union(mut spans: Vec<Raw>) -> Set {
    spans.retain(|span| span.open < span.close);
    spans.sort_unstable();
    let mut merged: Set = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.open <= last.close => {
                let close = last.close.max(span.close);
                let start = (last.close.saturating_sub(last.cutoff)).max(span.close.saturating_sub(span.cutoff));
                *last = Raw { open: last.open, close, cutoff: close - start };
            }
            _ => merged.push(span),
        }
    }
    merged
}

/// What is in both; the longer cutoff counts, from the new end.
pub(super) fn intersection(left: &[Raw], right: &[Raw]) -> Set {
    let mut common = Vec::new();
    let (mut at, mut other) = (0, 0);
    while let (Some(a), Some(b)) = (left.get(at), right.get(other)) {
        let (open, close) = (a.open.max(b.open), a.close.min(b.close));
        if open < close {
            common.push(Raw { open, close, cutoff: a.cutoff.max(b.cutoff) });
        }
        if a.close <= b.close { at += 1 } else { other += 1 }
    }
    common
}

/// What is in `left` and not in `right`; the cutoff counts from the new end.
pub(super) fn difference(left: &[Raw], right: &[Raw]) -> Set {
    let mut rest = Vec::new();
    let mut first = 0;
    for span in left {
        while right.get(first).is_some_and(|cut| cut.close <= span.open) {
            first += 1;
        }
        let mut open = span.open;
        for cut in right[first..].iter().take_while(|cut| cut.open < span.close) {
            if open < cut.open {
                rest.push(Raw { open, close: cut.open, cutoff: span.cutoff });
            }
            open = open.max(cut.close);
        }
        if open < span.close {
            rest.push(Raw { open, ..*span });
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spans() -> impl Strategy<Value = Vec<Raw>> {
        let span = (0_u64..60, 0_u64..12, 0_u64..4);
        let raw = span.prop_map(|(open, len, cutoff)| Raw { open, close: open + len, cutoff: cutoff.min(len) });
        proptest::collection::vec(raw, 0..8)
    }

    fn has(set: &[Raw], at: u64) -> bool {
        set.iter().any(|span| span.open <= at && at < span.close)
    }

    fn is_tidy(set: &[Raw]) -> bool {
        set.iter().all(|span| span.open < span.close) && set.windows(2).all(|pair| pair[0].close < pair[1].open)
    }

    proptest! {
        #[test]
        fn the_operations_agree_with_membership_point_by_point(left in spans(), right in spans()) {
            let (a, b) = (union(left.clone()), union(right.clone()));
            let both = intersection(&a, &b);
            let rest = difference(&a, &b);
            let all = union(left.iter().chain(&right).copied().collect());
            for set in [&a, &b, &both, &rest, &all] {
                prop_assert!(is_tidy(set), "{set:?}");
            }
            for at in 0..80 {
                prop_assert_eq!(has(&a, at), has(&left, at));
                prop_assert_eq!(has(&all, at), has(&a, at) || has(&b, at));
                prop_assert_eq!(has(&both, at), has(&a, at) && has(&b, at));
                prop_assert_eq!(has(&rest, at), has(&a, at) && !has(&b, at));
            }
        }
    }

    #[test]
    fn a_cutoff_counts_from_the_new_end() {
        let window = [Raw { open: 10, close: 20, cutoff: 2 }];
        let freeze = [Raw { open: 15, close: 30, cutoff: 0 }];
        assert_eq!(difference(&window, &freeze), [Raw { open: 10, close: 15, cutoff: 2 }]);
        assert_eq!(intersection(&window, &freeze), [Raw { open: 15, close: 20, cutoff: 2 }]);
        let next = Raw { open: 20, close: 25, cutoff: 1 };
        assert_eq!(union(vec![window[0], next]), [Raw { open: 10, close: 25, cutoff: 1 }]);
    }
}
