//! CVSS base scores, computed from the vector: what a source prints beside its vector is not believed.

use std::fmt;

use serde::Serialize;

/// A base score with the vector it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BaseScore {
    /// `2.0`, `3.0`, `3.1` or `4.0`.
    pub version: &'static str,
    /// The base metrics alone.
    pub vector: String,
    /// Tenths of a point: 98 is 9.8.
    pub tenths: u32,
}

/// A vector that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{vector}' is no CVSS vector: {why}")]
pub struct CvssError {
    /// As written.
    pub vector: String,
    /// What is wrong.
    pub why: String,
}

const V2: [&str; 6] = ["AV", "AC", "Au", "C", "I", "A"];
const V3: [&str; 8] = ["AV", "AC", "PR", "UI", "S", "C", "I", "A"];
const V4: [&str; 11] = ["AV", "AC", "AT", "PR", "UI", "VC", "VI", "VA", "SC", "SI", "SA"];

impl BaseScore {
    /// Computes it. Metrics that are not of the base (temporal, threat, environmental, supplemental) are left out.
    ///
    /// # Errors
    /// Where the text is no vector of CVSS 2.0, 3.0, 3.1 or 4.0, or a base metric is missing.
    /// # Source
    /// The specifications of FIRST; the arithmetic is that of the crate `cvss`.
    /// # Example
    /// ```
    /// use patchloom_domain::risk::BaseScore;
    /// let score = BaseScore::of("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H/E:P")?;
    /// assert_eq!((score.to_string().as_str(), score.tenths), ("9.8 (CVSS 3.1)", 98));
    /// assert!(BaseScore::of("CVSS:3.1/AV:N").is_err());
    /// # Ok::<(), patchloom_domain::risk::CvssError>(())
    /// ```
    pub fn of(given: &str) -> Result<Self, CvssError> {
        let refuse = |why: String| CvssError { vector: given.trim().to_owned(), why };
        let text = given.trim().trim_start_matches('(').trim_end_matches(')');
        let (prefix, version, names): (&str, &'static str, &[&str]) = match text.split_once('/') {
            Some(("CVSS:3.0", _)) => ("CVSS:3.0/", "3.0", &V3),
            Some(("CVSS:3.1", _)) => ("CVSS:3.1/", "3.1", &V3),
            Some(("CVSS:4.0", _)) => ("CVSS:4.0/", "4.0", &V4),
            Some((first, _)) if first.starts_with("CVSS:") => {
                return Err(refuse(format!("there is no version {first}")));
            }
            Some((_, _)) => ("", "2.0", &V2),
            None => return Err(refuse("it has no metrics".to_owned())),
        };
        let mut kept = Vec::new();
        for name in names {
            let mut with_name = text[prefix.len()..]
                .split('/')
                .filter(|part| part.split_once(':').is_some_and(|(key, _)| key == *name));
            let part = with_name.next().ok_or_else(|| refuse(format!("the metric {name} is missing")))?;
            if with_name.next().is_some() {
                return Err(refuse(format!("the metric {name} is there twice")));
            }
            kept.push(part);
        }
        let vector = format!("{prefix}{}", kept.join("/"));
        let read: cvss::Cvss = vector.parse().map_err(|error: cvss::Error| refuse(error.to_string()))?;
        // A score is a multiple of a tenth between 0 and 10: printing it is exact.
        let tenths = format!("{:.0}", read.score() * 10.0).parse().map_err(|_| refuse("it has no score".to_owned()))?;
        Ok(Self { version, vector, tenths })
    }

    fn has(&self, metric: &str) -> bool {
        self.vector.split('/').any(|part| part == metric)
    }

    /// Whether it reads like one that an attacker can exploit by a program: over the network, simply, without rights and
    /// without a person's help.
    #[must_use]
    pub fn looks_automatable(&self) -> bool {
        let rights = self.has("PR:N") || self.has("Au:N");
        let person = self.has("UI:N") || self.version == "2.0";
        let needs = self.version != "4.0" || self.has("AT:N");
        self.has("AV:N") && self.has("AC:L") && rights && person && needs
    }

    /// Whether it reads like one that gives an attacker the whole of the component.
    #[must_use]
    pub fn looks_total(&self) -> bool {
        let all = |metrics: [&str; 3]| metrics.into_iter().all(|metric| self.has(metric));
        match self.version {
            "2.0" => all(["C:C", "I:C", "A:C"]),
            "4.0" => all(["VC:H", "VI:H", "VA:H"]),
            _ => all(["C:H", "I:H", "A:H"]),
        }
    }
}

impl fmt::Display for BaseScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} (CVSS {})", self.tenths / 10, self.tenths % 10, self.version)
    }
}
