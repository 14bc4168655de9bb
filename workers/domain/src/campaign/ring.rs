//! The last so many values of something, and their quantiles. Values are thousandths, so that they are the same on disk.

use serde::{Deserialize, Serialize};

/// The last values; the oldest goes when it is full.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ring {
    values: Vec<i32>,
    next: usize,
}

impl Ring {
    pub fn push(&mut self, value: f64, most: usize) {
        // e^20 is beyond any ratio that makes sense; what is not a number comes in as zero.
        let value = (value.clamp(-20.0, 20.0) * 1000.0).round() as i32;
        if self.values.len() < most {
            self.values.push(value);
        } else {
            self.values[self.next % most] = value;
            self.next = (self.next + 1) % most;
        }
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The value below which that part of them lies, between neighbours on a straight line; 0 where there is none.
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_unstable();
        let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
        let at = part * last as f64;
        let low = (at.floor() as usize).min(last);
        let high = (low + 1).min(last);
        let (low_value, high_value) = (f64::from(sorted[low]), f64::from(sorted[high]));
        (low_value + (high_value - low_value) * (at - low as f64)) / 1000.0
    }
}
