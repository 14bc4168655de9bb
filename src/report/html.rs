//! The report as a page: no script, no other file. Text from outside passes through [`safe`], without exception.

use std::fmt::{Display, Write as _};

use patchloom_core::{Millis, UtcMs};

use super::model::{Change, Check, CheckState, End, Failure, KeptBack, Missing, Mode, Report, Step, Urgency};
use crate::output::{text, time};

const CSS: &str = include_str!("report.css");

/// Text made harmless inside HTML, in an element or a quoted attribute.
///
/// Whatever could steer a terminal or turn the reading direction is written out too: pages are copied from.
fn safe(text: impl Display) -> String {
    let mut out = String::new();
    for c in text::plain(&text.to_string()).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Appends to the page. Writing to a string cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{ let _ = writeln!($out, $($arg)*); }};
}

pub(super) fn page(report: &Report) -> String {
    let mut out = String::with_capacity(32 * 1024);
    put!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{} · {} · Patchloom</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">To the findings</a>",
        safe(report.headline()),
        safe(&report.target_name)
    );
    head(&mut out, report);
    out.push_str("<main id=\"main\">\n");
    figures(&mut out, report);
    if let Some(failure) = &report.failure {
        failed(&mut out, failure);
    }
    notes(&mut out, report);
    missing(&mut out, report);
    kept_back(&mut out, &report.kept_back);
    steps(&mut out, report);
    if let Some(change) = &report.change {
        change_request(&mut out, report, change);
    }
    checks(&mut out, &report.checks);
    out.push_str("</main>\n");
    put!(
        out,
        "<footer>Run <code>{}</code> · written by Patchloom {} · times are UTC · the same facts for machines: \
         <a href=\"report.json\">report.json</a></footer>\n</body>\n</html>",
        safe(&report.run),
        safe(&report.patchloom)
    );
    out
}

fn tone(end: End, mode: Mode, missing: usize) -> &'static str {
    match end {
        // An observed target that lacks patches is no good news, however well the run went.
        End::Succeeded if mode == Mode::Observe && missing > 0 => "warn",
        End::Succeeded => "good",
        End::Open => "",
        End::Compensated | End::Cancelled => "warn",
        End::Failed | End::CompensationFailed => "bad",
    }
}

fn head(out: &mut String, report: &Report) {
    let mode = match report.mode {
        Mode::Observe => "observed only: nothing on the target was changed",
        Mode::Apply => "applied",
    };
    let took = report.took().map(|took| format!(", in {}", time::duration(took))).unwrap_or_default();
    put!(
        out,
        "<div class=\"brand\"><span><b>Patchloom</b> patch report</span><span>{}</span></div>\n\
         <header class=\"verdict {}\">\n<h1>{}</h1>\n<p><strong>{}</strong>{} — {}{}{}</p>",
        safe(time::utc(report.started)),
        tone(report.end, report.mode, report.missing.len()),
        safe(report.headline()),
        safe(&report.target_name),
        report.os.as_ref().map(|os| format!(" · {}", safe(os))).unwrap_or_default(),
        mode,
        safe(took),
        if report.offline { ", offline" } else { "" },
    );
    out.push_str("<nav aria-label=\"Sections\">");
    for (there, id, title) in [
        (report.failure.is_some(), "failure", "What went wrong"),
        (!report.missing.is_empty(), "missing", "Missing patches"),
        (!report.kept_back.is_empty(), "kept", "Kept back"),
        (!report.steps.is_empty(), "steps", "Steps"),
        (report.change.is_some(), "change", "Change request"),
        (!report.checks.is_empty(), "checks", "Checks"),
    ] {
        if there {
            let _ = write!(out, "<a href=\"#{id}\">{title}</a>");
        }
    }
    out.push_str("</nav>\n</header>\n");
}

fn figures(out: &mut String, report: &Report) {
    let figures = report.figures();
    out.push_str("<ul class=\"figures\">\n");
    let mut figure =
        |value: String, label: String| put!(out, "<li><b>{}</b><span>{}</span></li>", safe(value), safe(label));
    figure(figures.missing.to_string(), format!("of {} packages lack a patch", report.inventory.installed));
    figure(figures.security.to_string(), "from a security archive".into());
    figure(figures.cves.to_string(), "distinct CVEs fixed".into());
    let urgency = if figures.missing == 0 { "none" } else { figures.most_urgent.word() };
    figure(urgency.into(), "highest urgency".into());
    figure(format!("{} / {}", figures.undoable, figures.missing), "can provably be undone".into());
    out.push_str("</ul>\n");
}

fn failed(out: &mut String, failure: &Failure) {
    put!(
        out,
        "<section id=\"failure\" class=\"bad\">\n<h2>What went wrong</h2>\n<dl>\n<dt>Step</dt><dd>{}</dd>\n\
         <dt>Cause</dt><dd>{}</dd>\n<dt>Code</dt><dd><code>{}</code></dd>\n<dt>Packages now</dt><dd>{}</dd>\n</dl>",
        safe(&failure.step),
        safe(&failure.message),
        safe(&failure.code),
        match failure.as_before {
            Some(true) => "<span class=\"badge good\">exactly as before</span>",
            Some(false) => "<span class=\"badge bad\">not as before</span>",
            None => "<span class=\"badge warn\">not compared</span>",
        }
    );
    if !failure.way_back.is_empty() {
        out.push_str("<h3>The way back</h3>\n<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Step</th><th scope=\"col\">State</th><th scope=\"col\">Facts</th></tr></thead>\n<tbody>\n");
        for back in &failure.way_back {
            put!(
                out,
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>",
                safe(&back.step),
                badge(&back.state, state_tone(&back.state)),
                safe(&back.text)
            );
        }
        out.push_str("</tbody></table></div>\n");
    }
    out.push_str("</section>\n");
}

fn notes(out: &mut String, report: &Report) {
    if report.notes.is_empty() {
        return;
    }
    out.push_str("<section id=\"notes\">\n<h2>To read this right</h2>\n<ul class=\"plain\">\n");
    for note in &report.notes {
        put!(out, "<li>{}</li>", safe(note));
    }
    out.push_str("</ul>\n</section>\n");
}

fn missing(out: &mut String, report: &Report) {
    if report.missing.is_empty() {
        return;
    }
    let plan = report.plan.as_ref().map(|plan| {
        format!(
            "Plan <code>{}</code>: {}, {} to download. ",
            safe(&plan.digest),
            safe(text::count(usize::try_from(plan.packages).unwrap_or(usize::MAX), "package", "packages")),
            safe(text::bytes(plan.download_bytes))
        )
    });
    put!(
        out,
        "<section id=\"missing\">\n<h2>Missing patches</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Missing patches, may scroll sideways\"><table class=\"patches\">\n\
         <caption>{}The most pressing first.</caption>\n<colgroup><col class=\"c-name\"><col class=\"c-version\">\
         <col class=\"c-urgency\"><col><col class=\"c-undo\"><col class=\"c-outcome\"></colgroup>\n<thead><tr><th scope=\"col\">Package</th>\
         <th scope=\"col\">Version</th><th scope=\"col\">Urgency</th><th scope=\"col\">CVEs it fixes</th>\
         <th scope=\"col\">Way back</th><th scope=\"col\">Outcome</th></tr></thead>\n<tbody>",
        plan.unwrap_or_default()
    );
    for patch in report.by_pressure() {
        missing_row(out, patch);
    }
    out.push_str("</tbody></table></div>\n</section>\n");
}

/// CVE ids that stand open on the page; the others unfold, without a script.
const CVES_OPEN: usize = 4;

fn folded(ids: &[String]) -> String {
    let (open, rest) = ids.split_at(ids.len().min(CVES_OPEN));
    let open = format!("<span class=\"mono\">{}</span>", open.join(" "));
    if rest.is_empty() {
        return open;
    }
    format!(
        "{open}<details><summary>{} more</summary><span class=\"mono\">{}</span></details>",
        rest.len(),
        rest.join(" ")
    )
}

fn missing_row(out: &mut String, patch: &Missing) {
    let urgency = match patch.urgency {
        Urgency::Critical | Urgency::Emergency | Urgency::High => "bad",
        Urgency::Medium => "warn",
        Urgency::Low | Urgency::Unknown => "",
    };
    let outcome = patch.outcome.as_deref().map(|outcome| badge(outcome, state_tone(outcome))).unwrap_or_default();
    let security = if patch.security { " · security" } else { "" };
    let cves = match (patch.cves.is_empty(), &patch.note) {
        (true, None) => "<span class=\"soft\">none named</span>".to_owned(),
        (_, note) => {
            let ids: Vec<String> = patch.cves.iter().map(|id| safe(id).replace('-', "\u{2011}")).collect();
            let note = note.as_ref().map(|note| format!("<span class=\"soft\">{}</span>", safe(note)));
            format!("{}{}", folded(&ids), note.unwrap_or_default())
        }
    };
    put!(
        out,
        "<tr><th scope=\"row\">{}<span class=\"soft\">{}{}</span></th>\
         <td><span class=\"mono\">{}</span><span class=\"soft\">from {}</span></td><td>{}</td><td>{}</td>\
         <td>{}<span class=\"soft\">{}</span></td><td>{}</td></tr>",
        safe(&patch.name),
        safe(&patch.arch),
        security,
        safe(&patch.candidate),
        patch
            .installed
            .as_ref()
            .map_or("nothing (new)".into(), |version| format!("<span class=\"mono\">{}</span>", safe(version))),
        badge(patch.urgency.word(), urgency),
        cves,
        if patch.undo.proven { badge("proven", "good") } else { badge("not proven", "warn") },
        safe(&patch.undo.how),
        outcome,
    );
}

fn kept_back(out: &mut String, kept: &[KeptBack]) {
    if kept.is_empty() {
        return;
    }
    out.push_str("<section id=\"kept\">\n<h2>Kept back</h2>\n<div class=\"scroll\"><table>\n<caption>A newer version is on offer and was left alone.</caption>\n<thead><tr><th scope=\"col\">Package</th><th scope=\"col\">Installed</th><th scope=\"col\">On offer</th><th scope=\"col\">Why</th></tr></thead>\n<tbody>\n");
    for row in kept {
        put!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"mono\">{}</td><td class=\"mono\">{}</td><td>{}</td></tr>",
            safe(&row.name),
            safe(&row.installed),
            safe(&row.candidate),
            safe(&row.reason)
        );
    }
    out.push_str("</tbody></table></div>\n</section>\n");
}

fn steps(out: &mut String, report: &Report) {
    if report.steps.is_empty() {
        return;
    }
    let last = report.steps.iter().filter_map(|step| step.finished).chain(report.finished).max();
    let whole = last.map_or(Millis(0), |last| last.since(report.started));
    out.push_str("<section id=\"steps\">\n<h2>Steps</h2>\n<ol class=\"steps\">\n");
    for step in &report.steps {
        let took = step.took().map(time::duration).unwrap_or_default();
        let tries = if step.attempts > 1 { format!(" · {} tries", step.attempts) } else { String::new() };
        put!(
            out,
            "<li><span>{}</span><strong>{}</strong><span class=\"lane\" aria-hidden=\"true\">{}</span>\
             <span class=\"took\">{}{}</span>{}</li>",
            badge(&step.state, state_tone(&step.state)),
            safe(&step.title),
            lane(step, report.started, whole),
            safe(took),
            safe(tries),
            if step.text.is_empty() {
                String::new()
            } else {
                format!("<span class=\"text\">{}</span>", safe(&step.text))
            }
        );
    }
    out.push_str("</ol>\n</section>\n");
}

/// When the step ran, as part of the whole run.
fn lane(step: &Step, began: UtcMs, whole: Millis) -> String {
    let (Some(started), Some(took), true) = (step.started, step.took(), whole.0 > 0) else { return String::new() };
    // In tenths of a per cent, and inside the lane whatever the clocks say.
    let share = |ms: u64| ms.saturating_mul(1000).checked_div(whole.0).unwrap_or(0).min(1000);
    let left = share(started.since(began).0);
    let width = share(took.0).min(1000 - left);
    let tone = if state_tone(&step.state) == "bad" { " class=\"bad\"" } else { "" };
    format!("<i{tone} style=\"left:{}.{}%;width:{}.{}%\"></i>", left / 10, left % 10, width / 10, width % 10)
}

fn change_request(out: &mut String, report: &Report, change: &Change) {
    let closed = change.close_code.as_deref().map(|code| badge(code, state_tone(code))).unwrap_or_default();
    put!(
        out,
        "<section id=\"change\">\n<h2>Change request {}</h2>\n<dl>\n<dt>State</dt><dd>{} {}</dd>\n<dt>Kind</dt><dd>{}</dd>\n\
         <dt>Requested by</dt><dd>{}</dd>",
        safe(&change.number),
        badge(&change.state, ""),
        closed,
        safe(&change.kind),
        safe(&change.requester)
    );
    if let Some(plan) = &report.plan {
        put!(out, "<dt>Plan</dt><dd><code>{}</code></dd>", safe(&plan.digest));
    }
    for approval in &change.approvals {
        let bound = match &report.plan {
            Some(plan) if plan.digest != approval.plan => " for another plan than this one",
            _ => "",
        };
        let comment = if approval.comment.is_empty() { String::new() } else { format!(": {}", approval.comment) };
        put!(
            out,
            "<dt>{}</dt><dd>by {} on {}{}{}</dd>",
            safe(capital(&approval.decision)),
            safe(&approval.by),
            safe(time::utc(approval.at)),
            bound,
            safe(comment)
        );
    }
    out.push_str("</dl>\n");
    if !change.notes.is_empty() {
        out.push_str("<h3>Work notes</h3>\n<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">When</th><th scope=\"col\">Who</th><th scope=\"col\">What</th></tr></thead>\n<tbody>\n");
        for note in &change.notes {
            put!(
                out,
                "<tr><td class=\"packed\">{}</td><td class=\"packed\">{}</td><td>{}</td></tr>",
                safe(time::utc(note.at)),
                safe(text::fit(&note.by, 40)),
                safe(&note.text)
            );
        }
        out.push_str("</tbody></table></div>\n");
    }
    out.push_str("</section>\n");
}

fn checks(out: &mut String, checks: &[Check]) {
    if checks.is_empty() {
        return;
    }
    out.push_str("<section id=\"checks\">\n<h2>Checks</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">When</th><th scope=\"col\">What</th><th scope=\"col\">State</th><th scope=\"col\">Facts</th></tr></thead>\n<tbody>\n");
    for check in checks {
        let (word, tone) = match check.state {
            CheckState::Passed => ("passed", "good"),
            CheckState::Warned => ("warning", "warn"),
            CheckState::Failed => ("failed", "bad"),
            CheckState::Skipped => ("skipped", ""),
        };
        put!(
            out,
            "<tr><td class=\"packed\">{}</td><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>",
            safe(text::fit(&check.phase, 40)),
            safe(&check.name),
            badge(word, tone),
            safe(&check.text)
        );
    }
    out.push_str("</tbody></table></div>\n</section>\n");
}

fn badge(word: &str, tone: &str) -> String {
    format!("<span class=\"badge {tone}\">{}</span>", safe(text::fit(&word.replace('_', " "), 32)))
}

/// How a state word is toned. The words come from several places, so this is about words, not about one of our enums.
fn state_tone(word: &str) -> &'static str {
    match word {
        "succeeded" | "done" | "installed" | "simulated" | "successful" | "passed" | "undone" => "good",
        "failed" | "unsuccessful" | "undo_failed" | "compensation_failed" => "bad",
        "rolled_back" | "cancelled" | "retrying" | "waiting" | "successful_issues" | "undoing" => "warn",
        _ => "",
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
