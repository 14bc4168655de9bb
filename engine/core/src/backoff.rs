//! How long to wait before the next attempt.

use crate::Millis;
use crate::definition::Retry;

/// The wait after attempt `failed` (counted from 1) of a task.
///
/// Doubles from `backoff` to `max_backoff`; with jitter, any span between half of that and all of it, so that it
/// is never near zero and a thousand hosts still spread out. `seed` decides which: the same seed, the same wait.
///
/// # Source
/// "Exponential backoff and jitter", variant *equal jitter*.
#[must_use]
pub(crate) fn backoff(retry: &Retry, failed: u32, seed: u64) -> Millis {
    let doubled = retry.backoff.0.checked_shl(failed.saturating_sub(1).min(63)).unwrap_or(u64::MAX);
    let overflowed = doubled >> failed.saturating_sub(1).min(63) != retry.backoff.0;
    let wait = if overflowed { retry.max_backoff.0 } else { doubled.min(retry.max_backoff.0) };
    if !retry.jitter {
        return Millis(wait);
    }
    let half = wait / 2;
    Millis(wait - mix(seed) % (half + 1))
}

/// Spreads a seed over all bits.
///
/// # Source
/// SplitMix64, Steele, Lea and Flood 2014.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(jitter: bool) -> Retry {
        Retry { attempts: 9, backoff: Millis(1_000), max_backoff: Millis(60_000), jitter, ..Retry::FORWARD }
    }

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let waits: Vec<u64> = (1..=8).map(|failed| backoff(&retry(false), failed, 0).0).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(backoff(&retry(false), u32::MAX, 0), Millis(60_000));
    }

    #[test]
    fn jitter_stays_between_half_and_all_and_follows_its_seed() {
        for seed in 0..1_000 {
            let wait = backoff(&retry(true), 3, seed);
            assert!((2_000..=4_000).contains(&wait.0), "{wait:?}");
            assert_eq!(wait, backoff(&retry(true), 3, seed));
        }
        let distinct: std::collections::BTreeSet<u64> =
            (0..1_000).map(|seed| backoff(&retry(true), 3, seed).0).collect();
        assert!(distinct.len() > 500);
    }
}
