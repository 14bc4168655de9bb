//! Live progress of a run: a bar per step on a terminal, plain lines anywhere else.
//!
//! Fed with the whole picture each time, so that a caller needs no memory of what it showed before.
//! Writes nothing by itself: no thread, no timer.

use std::collections::BTreeMap;
use std::io::{self, Write};

use patchloom_core::Millis;

use crate::output::{Screen, Style, text, time};

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Under way.
    Running,
    /// Waits for a person, a time or an event.
    Waiting,
    /// Failed once and will be tried again.
    Retrying,
    /// Done.
    Succeeded,
    /// Not needed.
    Skipped,
    /// Failed for good.
    Failed,
    /// Stopped because it was asked to.
    Cancelled,
    /// Being put back.
    Undoing,
    /// Put back.
    Undone,
    /// Could not be put back.
    UndoFailed,
}

impl StepState {
    /// Whether it stands still for good, as far as one can tell.
    #[must_use]
    pub fn is_settled(self) -> bool {
        match self {
            Self::Succeeded | Self::Skipped | Self::Failed | Self::Cancelled | Self::Undone | Self::UndoFailed => true,
            Self::Pending | Self::Running | Self::Waiting | Self::Retrying | Self::Undoing => false,
        }
    }

    /// One word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
            Self::Succeeded => "done",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::UndoFailed => "undo failed",
        }
    }

    fn mark(self, unicode: bool) -> &'static str {
        match (self, unicode) {
            (Self::Pending, true) => "·",
            (Self::Pending, false) => ".",
            (Self::Running, true) => "▸",
            (Self::Running, false) => ">",
            (Self::Waiting, true) => "◷",
            (Self::Waiting, false) => "w",
            (Self::Retrying, true) => "↻",
            (Self::Retrying, false) => "r",
            (Self::Succeeded, true) => "✔",
            (Self::Succeeded, false) => "+",
            (Self::Skipped, _) => "-",
            (Self::Failed | Self::UndoFailed, true) => "✘",
            (Self::Failed | Self::UndoFailed, false) => "x",
            (Self::Cancelled, true) => "◼",
            (Self::Cancelled, false) => "c",
            (Self::Undoing | Self::Undone, true) => "↩",
            (Self::Undoing | Self::Undone, false) => "<",
        }
    }

    fn paint(self) -> fn(Style, &str) -> String {
        match self {
            Self::Pending | Self::Skipped => Style::dim,
            Self::Running => Style::cyan,
            Self::Waiting | Self::Retrying | Self::Cancelled | Self::Undoing | Self::Undone => Style::yellow,
            Self::Succeeded => Style::green,
            Self::Failed | Self::UndoFailed => Style::red,
        }
    }
}

/// One step as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct StepLine {
    /// Its name, for people; the same from picture to picture.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// How much of it is done, from 0 to 1, where that is known.
    pub fraction: Option<f32>,
    /// What it does right now, or what it came to.
    pub text: String,
    /// How long it took so far; `None` before it starts.
    pub elapsed: Option<Millis>,
}

/// Shows pictures of a run on a stream, one after the other.
#[derive(Debug)]
pub struct Progress<W> {
    stream: W,
    screen: Screen,
    /// Lines of the last picture, which the next one overwrites.
    drawn: usize,
    /// What was said last of each step, off a terminal.
    said: BTreeMap<String, Said>,
}

/// What was said last of a step.
#[derive(Clone, Debug)]
struct Said {
    state: StepState,
    text: String,
    /// How long the step had taken by then.
    elapsed: Millis,
}

/// Off a terminal, what a step does is told again this much later, if it is something else by then.
const SAY_EVERY: Millis = Millis(5_000);
const BAR: usize = 16;
const NAME_MAX: usize = 24;
/// `1 min 05 s` and the like.
const ELAPSED: usize = 11;

impl<W: Write> Progress<W> {
    /// Shows nothing yet.
    pub fn new(stream: W, screen: Screen) -> Self {
        Self { stream, screen, drawn: 0, said: BTreeMap::new() }
    }

    /// Shows how things stand. Each picture has the steps of the one before, in the same order; others may join them.
    ///
    /// # Errors
    /// Those of the stream. Progress is talk: a caller may well go on without it.
    pub fn show(&mut self, steps: &[StepLine]) -> io::Result<()> {
        match self.screen.width {
            Some(width) => self.redraw(steps, width),
            None => self.report(steps),
        }
    }

    /// Writes lines above the picture, which stays the last thing on the terminal.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn say(&mut self, line: &str, steps: &[StepLine]) -> io::Result<()> {
        // The line goes where the picture began: what is longer there must not show behind it.
        let end = if self.screen.width.is_some() { "\x1b[K\n" } else { "\n" };
        let mut out = self.back();
        for line in text::lines(line).lines() {
            out.push_str(line);
            out.push_str(end);
        }
        self.stream.write_all(out.as_bytes())?;
        self.show(steps)
    }

    /// Goes on with another size of the terminal. What was drawn before stays where it is.
    pub fn resize(&mut self, screen: Screen) {
        self.screen = screen;
    }

    /// The last picture: it stays, and what follows is written below it.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn finish(mut self, steps: &[StepLine]) -> io::Result<()> {
        self.show(steps)?;
        self.stream.flush()
    }

    /// One line per change of a state, and a sign of life from those that take long: for logs and pipes.
    fn report(&mut self, steps: &[StepLine]) -> io::Result<()> {
        let mut out = String::new();
        for step in steps {
            let elapsed = step.elapsed.unwrap_or_default();
            let is_news = match self.said.get(&step.name) {
                None => step.state != StepState::Pending,
                Some(before) if before.state != step.state => true,
                Some(before) => {
                    let due = before.elapsed.0.saturating_add(SAY_EVERY.0);
                    !step.state.is_settled() && before.text != step.text && elapsed.0 >= due
                }
            };
            if !is_news {
                continue;
            }
            self.said.insert(step.name.clone(), Said { state: step.state, text: step.text.clone(), elapsed });
            out.push_str(&format!("{}: {}", text::plain(&step.name), step.state.word()));
            if !step.text.is_empty() {
                out.push_str(&format!(" - {}", text::plain(&step.text)));
            }
            if let Some(elapsed) = step.elapsed.filter(|_| step.state.is_settled()) {
                out.push_str(&format!(" ({})", time::duration(elapsed)));
            }
            out.push('\n');
        }
        self.stream.write_all(out.as_bytes())?;
        self.stream.flush()
    }

    /// The whole picture in a single write, each line overwritten in place: nothing flickers.
    fn redraw(&mut self, steps: &[StepLine], width: usize) -> io::Result<()> {
        // The last row stays free: a line feed there would scroll, and the way back up would end too low.
        let room = self.screen.height.unwrap_or(24).saturating_sub(1).max(1);
        let shown = window(steps, room);
        let names = steps.iter().map(|step| text::width(&text::plain(&step.name))).max().unwrap_or(0).min(NAME_MAX);
        // Begin and end of a synchronized update: terminals that know it show no half picture, others ignore it.
        let mut out = format!("\x1b[?2026h{}", self.back());
        for step in shown {
            out.push_str(&self.line(step, names, width));
            out.push_str("\x1b[K\n");
        }
        // A picture that became shorter leaves nothing of the longer one below it.
        out.push_str("\x1b[J\x1b[?2026l");
        self.drawn = shown.len();
        self.stream.write_all(out.as_bytes())?;
        self.stream.flush()
    }

    /// Moves to where the last picture began.
    fn back(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\r\x1b[{lines}A"),
        }
    }

    fn line(&self, step: &StepLine, names: usize, width: usize) -> String {
        let Screen { style, unicode, .. } = self.screen;
        let paint = step.state.paint();
        let name = text::fit(&text::plain(&step.name), names);
        let pad = " ".repeat(names - text::width(&name));
        let mut out = format!("{} {}{pad}", paint(style, step.state.mark(unicode)), style.bold(&name));
        let mut used = 2 + names;
        if width > used + 2 + BAR + 2 + ELAPSED + 12 {
            out.push_str(&format!("  {}", bar(step, style, unicode)));
            used += 2 + BAR;
        }
        if width > used + 2 + ELAPSED {
            let elapsed = step.elapsed.map(time::duration).unwrap_or_default();
            out.push_str(&format!("  {}", style.dim(&format!("{elapsed:>ELAPSED$}"))));
            used += 2 + ELAPSED;
        }
        // One column stays free: terminals differ in what a line does that fills its last one.
        let room = width.saturating_sub(used + 3);
        let mut said = text::fit(&text::plain(&step.text), room);
        if !unicode {
            said = said.replace('…', "~");
        }
        if !said.is_empty() {
            out.push_str("  ");
            let loud = matches!(step.state, StepState::Failed | StepState::UndoFailed);
            out.push_str(&if loud { style.red(&said) } else { said });
        }
        out
    }
}

/// The part of the steps that fits: always the first that has not settled, with what is around it.
fn window(steps: &[StepLine], room: usize) -> &[StepLine] {
    if steps.len() <= room {
        return steps;
    }
    let first_open = steps.iter().position(|step| !step.state.is_settled()).unwrap_or(steps.len());
    let start = first_open.saturating_sub(room / 2).min(steps.len() - room);
    steps.get(start..start + room).unwrap_or(steps)
}

/// How much of it is done. A step that runs and knows no fraction shows an empty bar, not a made-up one.
fn bar(step: &StepLine, style: Style, unicode: bool) -> String {
    let (full, empty, part) = if unicode { ("━", "─", "╸") } else { ("#", "-", "#") };
    let fraction = match step.state {
        StepState::Succeeded | StepState::Undone => 1.0,
        _ => step.fraction.filter(|fraction| fraction.is_finite()).unwrap_or(0.0).clamp(0.0, 1.0),
    };
    if step.state == StepState::Skipped {
        return style.dim(&" ".repeat(BAR));
    }
    // Counted, not cast: halves of a column, of which the bar has twice its length.
    let halves =
        (0..BAR * 2).filter(|half| f32::from(u8::try_from(*half).unwrap_or(u8::MAX)) < fraction * 32.0).count();
    let mut filled = full.repeat(halves / 2);
    if halves % 2 == 1 {
        filled.push_str(part);
    }
    let rest = empty.repeat(BAR - halves.div_ceil(2));
    format!("{}{}", step.state.paint()(style, &filled), style.dim(&rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, state: StepState, fraction: Option<f32>) -> StepLine {
        StepLine {
            name: name.into(),
            state,
            fraction,
            text: "reading \x1b[2Jdpkg".into(),
            elapsed: Some(Millis(2_400)),
        }
    }

    fn terminal(width: usize, height: usize) -> Screen {
        Screen { width: Some(width), height: Some(height), ..Screen::PLAIN }
    }

    fn drawn(screen: Screen, pictures: &[&[StepLine]]) -> String {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, screen);
        for picture in pictures {
            progress.show(picture).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn off_a_terminal_each_change_of_a_state_is_one_plain_line() {
        let (running, done) = (step("scan", StepState::Running, Some(0.1)), step("scan", StepState::Succeeded, None));
        let later = StepLine { fraction: Some(0.9), ..running.clone() };
        let shown = drawn(
            Screen::PLAIN,
            &[
                &[step("scan", StepState::Pending, None)],
                &[running],
                &[later],
                std::slice::from_ref(&done),
                std::slice::from_ref(&done),
            ],
        );
        assert_eq!(shown, "scan: running - reading \\u{1b}[2Jdpkg\nscan: done - reading \\u{1b}[2Jdpkg (2.4 s)\n");
    }

    #[test]
    fn on_a_terminal_the_next_picture_overwrites_the_last_and_no_line_is_too_long() {
        let picture = [step("scan", StepState::Succeeded, None), step("correlate", StepState::Running, Some(0.5))];
        for width in [10, 20, 40, 60, 80, 200] {
            let shown = drawn(terminal(width, 24), &[&picture]);
            let shown =
                shown.replace("\x1b[?2026h", "").replace("\x1b[?2026l", "").replace("\x1b[K", "").replace("\x1b[J", "");
            assert!(!shown.contains('\x1b'));
            assert!(shown.lines().all(|line| text::width(line) < width.max(13)), "{width}:\n{shown}");
        }
        let twice = drawn(terminal(80, 24), &[&picture, &picture]);
        assert_eq!(twice.matches("\r\x1b[2A").count(), 1);
    }

    #[test]
    fn a_line_said_in_between_leaves_nothing_of_the_picture_behind_it() {
        let picture = [step("scan", StepState::Running, Some(0.5))];
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, terminal(80, 24));
        progress.show(&picture).unwrap();
        progress.say("short", &picture).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("\r\x1b[1Ashort\x1b[K\n"));
        let mut out = Vec::new();
        Progress::new(&mut out, Screen::PLAIN).say("short", &[]).unwrap();
        assert_eq!(out, b"short\n");
    }

    #[test]
    fn a_bar_is_full_only_when_done() {
        let filled =
            |fraction| bar(&step("x", StepState::Running, Some(fraction)), Style::PLAIN, true).matches('━').count();
        assert_eq!([filled(0.0), filled(0.5), filled(1.0), filled(f32::NAN), filled(7.0)], [0, 8, 16, 0, 16]);
        assert_eq!(filled(0.99), 16 - 1 + 1);
        let done = bar(&step("x", StepState::Succeeded, Some(0.2)), Style::PLAIN, false);
        assert_eq!(done, "#".repeat(BAR));
    }

    #[test]
    fn a_low_terminal_shows_the_step_under_way() {
        let mut steps: Vec<StepLine> = (0..30).map(|n| step(&format!("s{n}"), StepState::Succeeded, None)).collect();
        steps[20].state = StepState::Running;
        let shown = drawn(terminal(80, 10), &[&steps]);
        assert_eq!(shown.matches('\n').count(), 9);
        assert!(shown.contains("s20 "), "{shown}");
    }

    #[test]
    fn without_unicode_only_ascii_is_written() {
        let states = [
            StepState::Pending,
            StepState::Running,
            StepState::Waiting,
            StepState::Retrying,
            StepState::Succeeded,
            StepState::Skipped,
            StepState::Failed,
            StepState::Cancelled,
            StepState::Undoing,
            StepState::Undone,
            StepState::UndoFailed,
        ];
        let steps: Vec<StepLine> = states.into_iter().map(|state| step(state.word(), state, Some(0.3))).collect();
        let screen = Screen { unicode: false, ..terminal(60, 24) };
        assert!(drawn(screen, &[&steps]).is_ascii());
    }
}
