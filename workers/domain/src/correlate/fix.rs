//! Which of several fixed versions counts for an installed one.

use super::Version;

/// How an installed version stands to the fixed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixed {
    /// It has the fix: that of this place in the list.
    Already(usize),
    /// It lacks it: this one is the next.
    By(usize),
    /// There is none.
    Nowhere,
}

/// Chooses.
///
/// Of fixes on several branches those of the installed version's own branch count: there the least one that is not older
/// than the installed version. Where no fix is on its branch, the least that is newer counts, and a version that is newer
/// than all of them has it.
#[must_use]
pub fn choose_fix(installed: &Version, fixes: &[Version]) -> Fixed {
    let all: Vec<usize> = (0..fixes.len()).collect();
    if fixes.len() < 2 {
        return among(installed, fixes, &all);
    }
    let own = installed.branch();
    let near = |at: &usize| own.same(&fixes[*at].branch()).then(|| own.shared(&fixes[*at].branch()));
    let nearest = all.iter().filter_map(near).max();
    let here: Vec<usize> = all.iter().copied().filter(|at| near(at).is_some() && near(at) == nearest).collect();
    among(installed, fixes, if here.is_empty() { &all } else { &here })
}

/// The least of some that is not older than the installed one.
fn among(installed: &Version, fixes: &[Version], which: &[usize]) -> Fixed {
    let order =
        |left: &&usize, right: &&usize| fixes[**left].against(&fixes[**right]).unwrap_or(std::cmp::Ordering::Equal);
    let next = which.iter().filter(|at| fixes[**at].reaches(installed)).min_by(order);
    match next {
        Some(&at) if installed.reaches(&fixes[at]) => Fixed::Already(at),
        Some(&at) => Fixed::By(at),
        None => which.iter().max_by(order).map_or(Fixed::Nowhere, |&at| Fixed::Already(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VersionScheme;

    #[track_caller]
    fn check(scheme: VersionScheme, installed: &str, fixes: &[&str], expected: Fixed) {
        let read = |text: &str| Version::read(scheme, text).unwrap();
        let fixes: Vec<Version> = fixes.iter().map(|text| read(text)).collect();
        assert_eq!(choose_fix(&read(installed), &fixes), expected, "{installed}");
    }

    #[test]
    fn the_fix_of_the_own_branch_counts() {
        use Fixed::{Already, By, Nowhere};
        let tomcat = &["11.0.14", "10.1.49", "9.0.112"];
        for (installed, expected) in [
            ("10.1.30", By(1)),
            ("10.1.49", Already(1)),
            ("10.1.50", Already(1)),
            ("9.0.100", By(2)),
            ("11.0.2", By(0)),
            ("11.1.0", Already(0)),
            ("8.5.100", By(2)),
            ("12.0.0", Already(0)),
        ] {
            check(VersionScheme::Deb, installed, tomcat, expected);
        }
        // On no branch of the list, between two of them: the next one up, not the one below.
        check(VersionScheme::Deb, "9.5.1", tomcat, By(1));
        check(VersionScheme::Deb, "1", &[], Nowhere);
    }

    #[test]
    fn marks_of_releases_are_branches() {
        let fixes = &["1.2.3-4+deb11u2", "1.2.3-4+deb12u5"];
        check(VersionScheme::Deb, "1.2.3-4+deb12u3", fixes, Fixed::By(1));
        check(VersionScheme::Deb, "1.2.3-4+deb11u2", fixes, Fixed::Already(0));
        let rhel = &["1.1.1k-7.el8_6", "1.1.1k-9.el8"];
        check(VersionScheme::Rpm, "1.1.1k-6.el8_6", rhel, Fixed::By(0));
        check(VersionScheme::Rpm, "1.1.1k-8.el8", rhel, Fixed::By(1));
    }

    #[test]
    fn epochs_part_branches_and_tildes_sort_first() {
        check(VersionScheme::Deb, "2:1.0-1", &["1:9.0-1"], Fixed::Already(0));
        check(VersionScheme::Deb, "1.0~rc1-1", &["1.0-1"], Fixed::By(0));
        check(VersionScheme::Rpm, "1.0^git1-1", &["1.0-1"], Fixed::Already(0));
        check(VersionScheme::Apk, "1.1.20-r4", &["1.1.20-r5"], Fixed::By(0));
    }
}
