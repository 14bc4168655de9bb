//! Exact tests on two-by-two tables, in log space: Fisher's, the same within strata, and what many tests at once take.
//! Knows nothing of hosts.

/// Logarithms of factorials, from 0 on.
pub(super) struct LnFactorials(Vec<f64>);

impl LnFactorials {
    /// Up to `most`.
    pub(super) fn up_to(most: u32) -> Self {
        let mut sum = 0.0;
        let steps = (1..=most).map(|n| {
            sum += f64::from(n).ln();
            sum
        });
        Self(std::iter::once(0.0).chain(steps).collect())
    }

    fn choose(&self, n: u32, k: u32) -> f64 {
        self.at(n) - self.at(k) - self.at(n - k)
    }

    fn at(&self, n: u32) -> f64 {
        usize::try_from(n).ok().and_then(|n| self.0.get(n)).copied().unwrap_or(f64::NAN)
    }
}

/// Failures and hosts on the two sides of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// Failures inside.
    pub failed_in: u32,
    /// Hosts inside.
    pub hosts_in: u32,
    /// Failures outside.
    pub failed_out: u32,
    /// Hosts outside.
    pub hosts_out: u32,
}

impl Table {
    fn failed(self) -> u32 {
        self.failed_in + self.failed_out
    }

    /// The fewest and the most failures that could be inside, all sums being what they are.
    fn range(self) -> (u32, u32) {
        (self.failed().saturating_sub(self.hosts_out), self.failed().min(self.hosts_in))
    }

    /// Logarithm of the chance that exactly `inside` of the failures are inside, where they fall at random.
    fn ln_chance(self, ln: &LnFactorials, inside: u32) -> f64 {
        ln.choose(self.hosts_in, inside) + ln.choose(self.hosts_out, self.failed() - inside)
            - ln.choose(self.hosts_in + self.hosts_out, self.failed())
    }

    /// Fisher's exact test, one-sided: the chance of so many failures inside, or more, where they fall at random.
    pub(super) fn p(self, ln: &LnFactorials) -> f64 {
        let most = self.range().1;
        ln_sum((self.failed_in..=most).map(|inside| self.ln_chance(ln, inside))).exp().min(1.0)
    }

    /// The smallest p that these sums allow.
    pub(super) fn p_least(self, ln: &LnFactorials) -> f64 {
        self.ln_chance(ln, self.range().1).exp().min(1.0)
    }

    /// Failures per host inside and outside.
    pub(super) fn rates(self) -> (f64, f64) {
        let rate = |failed: u32, hosts: u32| if hosts == 0 { 0.0 } else { f64::from(failed) / f64::from(hosts) };
        (rate(self.failed_in, self.hosts_in), rate(self.failed_out, self.hosts_out))
    }

    /// The ratio of the odds, each count raised by a half so that none is zero.
    ///
    /// # Source
    /// Haldane 1956, Anscombe 1956.
    pub(super) fn odds_ratio(self) -> f64 {
        let odds = |failed: u32, hosts: u32| (f64::from(failed) + 0.5) / (f64::from(hosts - failed) + 0.5);
        odds(self.failed_in, self.hosts_in) / odds(self.failed_out, self.hosts_out)
    }

    /// How much more likely the outcomes are with a rate for each side than with one for both, as a logarithm.
    pub(super) fn ln_gain(self) -> f64 {
        let likelihood = |failed: u32, hosts: u32| {
            let term = |count: u32| {
                if count == 0 { 0.0 } else { f64::from(count) * (f64::from(count) / f64::from(hosts)).ln() }
            };
            term(failed) + term(hosts - failed)
        };
        likelihood(self.failed_in, self.hosts_in) + likelihood(self.failed_out, self.hosts_out)
            - likelihood(self.failed(), self.hosts_in + self.hosts_out)
    }
}

/// The same test within strata: the chance of so many failures inside over all strata together, or more, where in each
/// stratum they fall at random.
///
/// # Source
/// The exact test of a common odds ratio of one: Mehta, Patel and Gray 1985.
pub(super) fn p_within(ln: &LnFactorials, strata: &[Table]) -> f64 {
    let observed: u32 = strata.iter().map(|table| table.failed_in).sum();
    // The distribution of the sum, from the sum of the least values on.
    let mut chances = vec![1.0_f64];
    let mut least = 0_u32;
    for table in strata {
        let (low, high) = table.range();
        let steps: Vec<f64> = (low..=high).map(|inside| table.ln_chance(ln, inside).exp()).collect();
        let mut next = vec![0.0; chances.len() + steps.len() - 1];
        for (at, chance) in chances.iter().enumerate().filter(|(_, chance)| **chance > 0.0) {
            for (more, step) in steps.iter().enumerate() {
                next[at + more] += chance * step;
            }
        }
        chances = next;
        least += low;
    }
    let from = usize::try_from(observed - least).unwrap_or(usize::MAX);
    chances.iter().skip(from).sum::<f64>().min(1.0)
}

/// Corrected p values of many tests at once.
///
/// Tests whose smallest possible p is above `alpha` divided by the number of those that could decide are left out first:
/// that depends on the sums alone, not on how the failures fell. They keep 1.
///
/// # Source
/// Holm 1979; Tarone 1990 for what is left out.
pub(super) fn corrected(tests: &[(f64, f64)], alpha: f64) -> Vec<f64> {
    let mut least: Vec<f64> = tests.iter().map(|(_, least)| *least).collect();
    least.sort_by(f64::total_cmp);
    let able = |share: f64| least.partition_point(|p| *p <= alpha / share);
    let mut share = 1_u32;
    while able(f64::from(share)) > usize::try_from(share).unwrap_or(usize::MAX) {
        share += 1;
    }
    let decides = |least: f64| least <= alpha / f64::from(share);
    let mut order: Vec<usize> = (0..tests.len()).filter(|at| decides(tests[*at].1)).collect();
    order.sort_by(|a, b| tests[*a].0.total_cmp(&tests[*b].0));
    let mut result = vec![1.0; tests.len()];
    let mut left = u32::try_from(order.len()).unwrap_or(u32::MAX);
    let mut last = 0.0_f64;
    for at in order {
        last = last.max((tests[at].0 * f64::from(left)).min(1.0));
        result[at] = last;
        left -= 1;
    }
    result
}

/// Logarithm of a sum of exponentials.
pub(super) fn ln_sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    most + terms.map(|term| (term - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(failed_in: u32, hosts_in: u32, failed_out: u32, hosts_out: u32) -> Table {
        Table { failed_in, hosts_in, failed_out, hosts_out }
    }

    #[track_caller]
    fn near(given: f64, expected: f64) {
        assert!((given - expected).abs() <= 1e-9 * expected.abs().max(1e-3), "{given} is not {expected}");
    }

    #[test]
    fn fishers_test_gives_what_counting_by_hand_gives() {
        let ln = LnFactorials::up_to(200);
        // The lady who tasted tea: all four right, and three of four.
        near(table(4, 4, 0, 4).p(&ln), 1.0 / 70.0);
        near(table(3, 4, 1, 4).p(&ln), 17.0 / 70.0);
        near(table(0, 4, 4, 4).p(&ln), 1.0);
        // 5 of 5 inside, 0 of 20 outside: one way of 53130.
        near(table(5, 5, 0, 20).p(&ln), 1.0 / 53_130.0);
        near(table(0, 0, 3, 9).p(&ln), 1.0);
        near(table(2, 2, 0, 0).p(&ln), 1.0);
    }

    #[test]
    fn thousands_of_hosts_do_not_overflow() {
        let ln = LnFactorials::up_to(100_000);
        let p = table(400, 500, 100, 99_500).p(&ln);
        assert!((0.0..1e-300).contains(&p), "{p}");
        let even = table(250, 50_000, 250, 50_000).p(&ln);
        assert!((0.5..0.55).contains(&even), "{even}");
    }

    #[test]
    fn within_one_stratum_it_is_fishers_test_and_within_two_both_count() {
        let ln = LnFactorials::up_to(100);
        for one in [table(3, 4, 1, 4), table(5, 9, 4, 30), table(0, 3, 3, 3)] {
            near(p_within(&ln, &[one]), one.p(&ln));
        }
        // 2 of 2 against 0 of 2 twice: each has 1 in 6.
        near(p_within(&ln, &[table(2, 2, 0, 2), table(2, 2, 0, 2)]), 1.0 / 36.0);
        // A stratum in which all fail tells nothing.
        near(p_within(&ln, &[table(3, 3, 5, 5), table(2, 2, 0, 2)]), 1.0 / 6.0);
    }

    #[test]
    fn holms_correction_counts_only_tests_that_could_decide() {
        let corrected_of = |tests: &[(f64, f64)]| corrected(tests, 0.01);
        assert_eq!(corrected_of(&[(0.001, 0.0001), (0.004, 0.0001), (0.5, 0.0001)]), [0.003, 0.008, 0.5]);
        // The others can never be significant: they cost nothing.
        assert_eq!(corrected_of(&[(0.004, 0.004), (0.5, 0.5), (0.2, 0.2)]), [0.004, 1.0, 1.0]);
        assert!(corrected_of(&[]).is_empty());
    }

    #[test]
    fn a_line_that_separates_gains_and_one_that_does_not_gains_nothing() {
        near(table(5, 10, 5, 10).ln_gain(), 0.0);
        near(table(5, 5, 0, 5).ln_gain(), 10.0 * 2.0_f64.ln());
        assert!(table(5, 5, 0, 5).odds_ratio() > 100.0);
    }
}
