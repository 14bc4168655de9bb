//! The report as a person reads it at the end of a run, on the terminal.

use std::path::Path;

use super::model::{End, Figures, Mode, NOT_LOOKED_FOR, Report, Urgency};
use crate::output::{Column, Screen, Style, Table, text, time};

/// How many patches are shown one by one; the report has them all.
const PATCHES_MAX: usize = 10;
/// How many CVE ids are shown for one patch.
const CVES_MAX: usize = 3;

/// What is missing, how urgent, what would change or was changed, whether it can be undone, where the report is and
/// what to do next. `report_dir` is where `report.html` was written, if it was.
#[must_use]
pub fn summary(report: &Report, report_dir: Option<&Path>, screen: Screen) -> String {
    let style = screen.style;
    let figures = report.figures();
    let mut out = String::from("\n");
    let (mark, paint) = mark(report, screen.unicode);
    out.push_str(&format!("{} {}\n", paint(style, mark), style.bold(&report.headline())));
    let took = report.took().map(|took| format!(" in {}", time::duration(took))).unwrap_or_default();
    let os = report.os.as_ref().map(|os| format!(", {os}")).unwrap_or_default();
    let about = format!("{}{os}: {} packages looked at{took}", report.target_name, report.inventory.installed);
    out.push_str(&format!("  {}\n", style.dim(&text::plain(&about))));
    if let Some(failure) = &report.failure {
        failed(&mut out, failure, screen);
    }
    if figures.missing > 0 {
        patches(&mut out, report, &figures, screen);
    }
    facts(&mut out, report, &figures, report_dir, screen);
    out
}

fn mark(report: &Report, unicode: bool) -> (&'static str, fn(Style, &str) -> String) {
    match report.end {
        End::Succeeded => (if unicode { "✔" } else { "+" }, Style::green),
        End::Open => (if unicode { "▸" } else { ">" }, Style::cyan),
        End::Compensated | End::Cancelled => (if unicode { "↩" } else { "<" }, Style::yellow),
        End::Failed | End::CompensationFailed => (if unicode { "✘" } else { "x" }, Style::red),
    }
}

fn failed(out: &mut String, failure: &super::Failure, screen: Screen) {
    let style = screen.style;
    let said = format!("{} failed: {} [{}]", failure.step, failure.message, failure.code);
    paragraph(out, "cause", &said, screen);
    for back in &failure.way_back {
        let text = if back.text.is_empty() { String::new() } else { format!(": {}", back.text) };
        paragraph(out, "way back", &format!("{} {}{text}", back.step, back.state.replace('_', " ")), screen);
    }
    let now = match failure.as_before {
        Some(true) => style.green("exactly as before"),
        Some(false) => style.red("NOT as before"),
        None => style.yellow("not compared"),
    };
    out.push_str(&format!("  {:<10}{now}\n", "packages"));
}

fn patches(out: &mut String, report: &Report, figures: &Figures, screen: Screen) {
    let applied = report.mode == Mode::Apply;
    let mut columns =
        vec![Column::flexible("PACKAGE", 12), Column::flexible("INSTALLED", 10), Column::flexible("PATCH", 10)];
    columns.extend([Column::new("URGENCY"), Column::flexible("CVES", 14), Column::new("UNDO")]);
    if applied {
        columns.push(Column::new("OUTCOME"));
    }
    let mut table = Table::new(columns).indented(2);
    let pressing = report.by_pressure();
    for patch in pressing.iter().take(PATCHES_MAX) {
        // The count first: it survives where a narrow terminal cuts the ids off.
        let ids = patch.cves.iter().take(CVES_MAX).cloned().collect::<Vec<_>>().join(" ");
        let more = if patch.cves.len() > CVES_MAX { " …" } else { "" };
        let cves = if patch.cves.is_empty() { String::new() } else { format!("{}: {ids}{more}", patch.cves.len()) };
        let undo = if patch.undo.proven { "proven" } else { "NOT PROVEN" };
        let outcome = patch.outcome.as_deref().unwrap_or_default().replace('_', " ");
        let installed = patch.installed.as_deref().unwrap_or("(new)");
        let cells = [&patch.name, installed, &patch.candidate, patch.urgency.word(), &cves, undo, &outcome];
        table.row(cells.iter().take(if applied { 7 } else { 6 }));
        table.paint(
            3,
            match patch.urgency {
                Urgency::Critical | Urgency::Emergency | Urgency::High => Style::red,
                Urgency::Medium => Style::yellow,
                Urgency::Low | Urgency::Unknown => Style::dim,
            },
        );
        table.paint(5, if patch.undo.proven { Style::green } else { Style::yellow });
    }
    out.push('\n');
    out.push_str(&ascii(table.render(screen), screen));
    if figures.missing > PATCHES_MAX {
        out.push_str(&format!(
            "  {}\n",
            screen.style.dim(&format!("and {} more in the report", figures.missing - PATCHES_MAX))
        ));
    }
    out.push('\n');
}

fn facts(out: &mut String, report: &Report, figures: &Figures, report_dir: Option<&Path>, screen: Screen) {
    if figures.missing > 0 {
        let urgencies: Vec<String> =
            figures.by_urgency.iter().map(|row| format!("{} {}", row.count, row.name)).collect();
        let said = format!(
            "{}, {} of them security; {}; urgency: {}",
            text::count(figures.missing, "patch", "patches"),
            figures.security,
            text::count(figures.cves, "CVE", "CVEs"),
            urgencies.join(", ")
        );
        paragraph(out, "missing", &said, screen);
        paragraph(out, "change", &what_changes(report), screen);
        let undo = if figures.undoable == figures.missing {
            format!("yes: the way back of all {} is proven", figures.missing)
        } else if report.missing.iter().all(|patch| patch.undo.how == NOT_LOOKED_FOR) {
            "not looked for: the run ended before that".to_owned()
        } else {
            format!("only in part: the way back of {} of {} is proven", figures.undoable, figures.missing)
        };
        paragraph(out, "undo", &undo, screen);
    }
    if !report.kept_back.is_empty() {
        let names: Vec<&str> = report.kept_back.iter().take(6).map(|kept| kept.name.as_str()).collect();
        let more = report.kept_back.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        paragraph(out, "kept back", &format!("{}{more}", names.join(", ")), screen);
    }
    if let Some(change) = &report.change {
        let code = change.close_code.as_ref().map(|code| format!(", {}", code.replace('_', " "))).unwrap_or_default();
        paragraph(out, "record", &format!("{} {}{code}", change.number, change.state), screen);
    }
    for note in &report.notes {
        paragraph(out, "note", note, screen);
    }
    if let Some(dir) = report_dir {
        // A path is copied, so it is never broken into lines.
        let path = text::plain(&dir.join("report.html").display().to_string());
        out.push_str(&format!("  {}{path}\n", screen.style.dim(&format!("{:<10}", "report"))));
    }
    if let Some(next) = next(report) {
        out.push_str(&format!("  {}{}\n", screen.style.dim(&format!("{:<10}", "next")), screen.style.cyan(&next)));
    }
}

fn what_changes(report: &Report) -> String {
    let packages =
        report.plan.as_ref().map_or(report.missing.len(), |plan| usize::try_from(plan.packages).unwrap_or(usize::MAX));
    let bytes = report.plan.as_ref().map_or(0, |plan| plan.download_bytes);
    let packages = text::count(packages, "package", "packages");
    match (report.mode, report.end) {
        (Mode::Observe, _) => format!("none made; it would install {packages} ({} to download)", text::bytes(bytes)),
        (Mode::Apply, End::Succeeded) => format!("{packages} installed, read back and compared"),
        (Mode::Apply, End::Compensated | End::Cancelled) if !report.was_attempted() => "none made".to_owned(),
        (Mode::Apply, End::Compensated | End::Cancelled) => "none left: everything was put back".to_owned(),
        (Mode::Apply, End::Failed) => "none made".to_owned(),
        (Mode::Apply, End::CompensationFailed) => "some left: see the way back above".to_owned(),
        (Mode::Apply, End::Open) => format!("under way: {packages}"),
    }
}

/// The command a person most likely wants now.
fn next(report: &Report) -> Option<String> {
    let target = match &report.target {
        patchloom_domain::Target::Local
        | patchloom_domain::Target::Ssh(_)
        | patchloom_domain::Target::Ssm(_)
        | patchloom_domain::Target::Windows(_) => String::new(),
        patchloom_domain::Target::Root { path } => format!(" --root {}", quoted(path)),
    };
    match (report.end, report.mode) {
        (End::Succeeded, Mode::Observe) if !report.missing.is_empty() => {
            Some(format!("sudo patchloom patch{target} --apply"))
        }
        (End::Succeeded, _) => None,
        (End::CompensationFailed, _) => Some(format!("patchloom run why {}", text::plain(&report.run))),
        (End::Failed | End::Compensated | End::Cancelled, _) => {
            Some(format!("patchloom run history {}", text::plain(&report.run)))
        }
        (End::Open, _) => Some(format!("patchloom run watch {}", text::plain(&report.run))),
    }
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    let shown = text::plain(path);
    if shown.chars().all(harmless) { shown } else { format!("'{}'", shown.replace('\'', r"'\''")) }
}

/// `label     text`, wrapped under itself.
fn paragraph(out: &mut String, label: &str, said: &str, screen: Screen) {
    let room = screen.width.map_or(usize::MAX, |width| width.saturating_sub(12).max(24));
    let mut label = screen.style.dim(&format!("{label:<10}"));
    for line in text::wrap(&text::plain(said), room) {
        out.push_str(&format!("  {label}{line}\n"));
        label = " ".repeat(10);
    }
}

fn ascii(text: String, screen: Screen) -> String {
    if screen.unicode { text } else { text.replace('…', "~") }
}
