//! The table of BOD 26-04: four answers make a timeline.

use serde::Serialize;

/// The four answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TableInputs {
    /// It is in the catalogue of known exploited vulnerabilities.
    pub kev: bool,
    /// The host can be reached from public networks without signing in.
    pub exposed: bool,
    /// An attacker can exploit it by a program, again and again.
    pub automatable: bool,
    /// It gives an attacker the whole of the component.
    pub total: bool,
}

/// How soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Timeline {
    /// Within three days, and evidence is gathered before anything is changed.
    ThreeDaysAndForensics,
    /// Within three days.
    ThreeDays,
    /// Within fourteen days.
    FourteenDays,
    /// Within sixty days.
    SixtyDays,
    /// With the next upgrade of the system.
    OnUpgrade,
}

impl Timeline {
    /// The days; none where there is no deadline.
    #[must_use]
    pub fn days(self) -> Option<u32> {
        match self {
            Self::ThreeDaysAndForensics | Self::ThreeDays => Some(3),
            Self::FourteenDays => Some(14),
            Self::SixtyDays => Some(60),
            Self::OnUpgrade => None,
        }
    }

    /// Whether evidence is gathered first.
    #[must_use]
    pub fn forensic(self) -> bool {
        self == Self::ThreeDaysAndForensics
    }

    /// In words.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::ThreeDaysAndForensics => "3 days and forensic triage before patching",
            Self::ThreeDays => "3 days",
            Self::FourteenDays => "14 days",
            Self::SixtyDays => "60 days",
            Self::OnUpgrade => "with the next upgrade",
        }
    }
}

/// Looks it up.
///
/// # Source
/// CISA's Binding Operational Directive 26-04 of 2026-06-10, in the form of CERT/CC's SSVC table `cisa_bod_26_04` 1.0.0.
#[must_use]
pub fn timeline(inputs: TableInputs) -> Timeline {
    let TableInputs { kev, exposed, automatable, total } = inputs;
    match (kev, exposed, automatable, total) {
        (true, true, _, true) | (true, false, true, true) => Timeline::ThreeDaysAndForensics,
        (true, true, true, false) | (false, true, true, true) => Timeline::ThreeDays,
        (true, false, _, false) | (true, true, false, false) | (true, false, false, true) => Timeline::FourteenDays,
        (false, true, true, false) | (false, true, false, true) => Timeline::FourteenDays,
        (false, true, false, false) | (false, false, true, _) => Timeline::SixtyDays,
        (false, false, false, _) => Timeline::OnUpgrade,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sixteen_rows_are_those_of_the_directive() {
        use Timeline as T;
        // In KEV, exposed, automatable, total: as the directive prints them.
        for (row, expected) in [
            ("nnnn", T::OnUpgrade),
            ("ynnn", T::FourteenDays),
            ("nynn", T::SixtyDays),
            ("nnyn", T::SixtyDays),
            ("nnny", T::OnUpgrade),
            ("yynn", T::FourteenDays),
            ("ynyn", T::FourteenDays),
            ("nyyn", T::FourteenDays),
            ("ynny", T::FourteenDays),
            ("nyny", T::FourteenDays),
            ("nnyy", T::SixtyDays),
            ("yyyn", T::ThreeDays),
            ("yyny", T::ThreeDaysAndForensics),
            ("ynyy", T::ThreeDaysAndForensics),
            ("nyyy", T::ThreeDays),
            ("yyyy", T::ThreeDaysAndForensics),
        ] {
            let yes: Vec<bool> = row.chars().map(|c| c == 'y').collect();
            let inputs = TableInputs { kev: yes[0], exposed: yes[1], automatable: yes[2], total: yes[3] };
            assert_eq!(timeline(inputs), expected, "{row}");
        }
    }
}
