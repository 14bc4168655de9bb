//! `patchloom explain`: the pages of docs/errors, which are inside the binary.

use anyhow::anyhow;
use clap::Args;

use super::Context;
use crate::fault::{Exit, Fault};
use crate::output::{Screen, text};

/// Every page: its code and its Markdown, sorted by code. Written by build.rs.
pub(crate) const PAGES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// Explains an error code.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom explain E0902\n",
    "  patchloom explain SCRIPTLET\n",
    "  patchloom explain --list\n\n",
    include_str!("exit_codes.txt")
))]
pub struct ExplainArgs {
    /// The code, such as E0902, or the name of a cause, such as SCRIPTLET
    #[arg(value_name = "CODE", required_unless_present = "list")]
    pub code: Option<String>,
    /// List all codes
    #[arg(long, conflicts_with = "code")]
    pub list: bool,
}

pub(super) fn run(args: &ExplainArgs, context: &Context) -> Result<Exit, Fault> {
    let Some(code) = args.code.as_deref().filter(|_| !args.list) else {
        let width = PAGES.iter().map(|(code, _)| code.len()).filter(|width| *width <= 10).max().unwrap_or_default();
        let lines = PAGES.iter().map(|(code, page)| format!("{code:width$}  {}\n", title(page)));
        context.print(&lines.collect::<String>())?;
        return Ok(Exit::Ok);
    };
    let wanted = code.to_ascii_uppercase();
    match PAGES.iter().find(|(code, _)| *code == wanted) {
        Some((_, page)) => {
            context.print(&render(page, context.out))?;
            Ok(Exit::Ok)
        }
        None => Err(unknown(&wanted)),
    }
}

fn unknown(wanted: &str) -> Fault {
    let area = |code: &str| code.get(..3).map(str::to_owned);
    let near: Vec<&str> = PAGES.iter().map(|(code, _)| *code).filter(|code| area(code) == area(wanted)).collect();
    let hint = match near.as_slice() {
        [] => "see all codes with: patchloom explain --list".to_owned(),
        near => format!("codes of the same area: {}", near.join(", ")),
    };
    Fault::new("E0901", Exit::Usage, anyhow!("no error has the code '{wanted}'")).hint(hint)
}

/// What a page's first heading says behind the code.
pub(super) fn title(page: &str) -> &str {
    let heading = page.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or_default();
    heading.split_once(": ").map_or(heading, |(_, title)| title)
}

/// What the page of a code says first on what to do, in one line; none where it gives a list or a program to choose from.
pub(super) fn remedy(code: &str) -> Option<String> {
    let (_, page) = PAGES.iter().find(|(known, _)| *known == code)?;
    let (_, section) = page.split_once("## What to do\n")?;
    let paragraph: Vec<&str> = section.trim_start().lines().take_while(|line| !line.is_empty()).collect();
    let first = paragraph.first()?;
    let choice =
        first.starts_with("- ") || first.starts_with("```") || first.starts_with(' ') || first.starts_with("1.");
    (!choice).then(|| paragraph.join(" "))
}

/// Markdown as a terminal shows it: headings bold, paragraphs as wide as the screen, code as it is.
fn render(page: &str, screen: Screen) -> String {
    // Longer lines are hard to read however wide the screen is.
    let width = screen.width.unwrap_or(88).clamp(20, 88);
    let mut out = String::new();
    let mut paragraph = String::new();
    let mut code = false;
    for line in page.lines() {
        let list = line.trim_start().starts_with("- ") || line.trim_start().starts_with(|c: char| c.is_ascii_digit());
        if code || line.starts_with("```") || line.is_empty() || line.starts_with('#') || list {
            flush(&mut paragraph, width, &mut out);
        }
        if line.starts_with("```") {
            code = !code;
        } else if code {
            out.push_str(&format!("    {}\n", screen.style.cyan(line)));
        } else if let Some(heading) = line.strip_prefix("# ").or_else(|| line.strip_prefix("## ")) {
            out.push_str(&screen.style.bold(heading));
            out.push('\n');
        } else if line.is_empty() {
            out.push('\n');
        } else {
            paragraph.push_str(line.trim_end());
            paragraph.push(' ');
        }
    }
    flush(&mut paragraph, width, &mut out);
    out
}

/// Writes a paragraph out; the lines of a list item hang under its text.
fn flush(paragraph: &mut String, width: usize, out: &mut String) {
    if paragraph.is_empty() {
        return;
    }
    let hang = if paragraph.starts_with("- ") { "  " } else { "" };
    let body = paragraph.replace('`', "");
    for (at, line) in text::wrap(&body, width - hang.len()).iter().enumerate() {
        out.push_str(if at == 0 { "" } else { hang });
        out.push_str(line);
        out.push('\n');
    }
    paragraph.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_renders_and_has_a_title_in_the_list() {
        for (code, page) in PAGES {
            assert!(page.starts_with(&format!("# {code}: ")), "{code}: the first line is '# {code}: what happened'");
            assert!(!title(page).is_empty());
            let shown = render(page, Screen { width: Some(40), ..Screen::PLAIN });
            assert!(shown.contains("What to do"), "{shown}");
        }
    }

    #[test]
    fn a_remedy_is_what_its_page_says_first_on_what_to_do() {
        let region = remedy("E0951").unwrap();
        assert!(
            region.starts_with("Say `--aws-region eu-west-1`, set AWS_REGION") && !region.contains('\n'),
            "{region}"
        );
        assert_eq!(remedy("E0000"), None);
    }

    #[test]
    fn an_unknown_code_names_those_of_its_area() {
        let fault = unknown("E0999");
        assert_eq!(fault.exit(), Exit::Usage);
        assert!(fault.render(crate::output::Style::PLAIN).contains("E0901"));
        assert!(unknown("ä").render(crate::output::Style::PLAIN).contains("--list"));
    }

    #[test]
    fn list_items_hang_and_code_stays_as_it_is() {
        let shown = render(
            "# E1: x\n\n- one two three four five\n- b\n\n```\na  b\n```\n",
            Screen { width: Some(20), ..Screen::PLAIN },
        );
        assert_eq!(shown, "E1: x\n\n- one two three\n  four five\n- b\n\n    a  b\n");
    }
}
