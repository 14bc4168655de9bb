//! `patchloom run history`: everything a run did, each record with its time, its author and what it changed.

use serde_json::Value;

use super::RunHistoryArgs;
use super::operate::known_step;
use super::story::{Told, as_json, consequences, sentence, tell, touches};
use crate::cli::Context;
use crate::cli::store::{find, look, open_fault};
use crate::fault::{Exit, Fault};
use crate::output::{Column, Screen, Style, Table, time};

pub(super) fn run(args: &RunHistoryArgs, context: &Context) -> Result<Exit, Fault> {
    let inspected = look(context)?;
    let (run, definition) = find(&inspected, &args.run.run)?;
    let mut story = tell(&definition, inspected.history(run.id()).map_err(open_fault)?);
    if let Some(step) = &args.step {
        known_step(&run, &definition, step)?;
        story.retain(|told| touches(told, step));
    }
    if args.json {
        context.print_json(&story.iter().map(as_json).collect::<Vec<Value>>())?;
    } else {
        context.print(&render(&story, context.out))?;
    }
    Ok(Exit::Ok)
}

pub(super) fn render(story: &[Told], screen: Screen) -> String {
    let mut table = Table::new(vec![
        Column::number("RECORD"),
        Column::new("TIME"),
        Column::flexible("BY", 10),
        Column::flexible("WHAT", 30),
        Column::flexible("CHANGED", 20),
    ]);
    for told in story {
        let changed = match &told.refused {
            Some(why) => format!("nothing: {why}"),
            None => consequences(told),
        };
        table.row([
            told.item.seq.to_string(),
            time::local(told.item.at),
            told.item.entry.by.to_string(),
            sentence(&told.item.entry.event),
            changed,
        ]);
        table.paint(4, if told.refused.is_some() { Style::yellow } else { Style::dim });
    }
    table.render(screen)
}
