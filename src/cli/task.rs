//! `patchloom task`: what the task types of the workers take, give and fail with.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use patchloom_core::{Contract, nearest};
use patchloom_workers::contracts;
use serde_json::{Value, json};

use super::Context;
use super::explain::{PAGES, title};
use crate::fault::{Exit, Fault};
use crate::output::{Column, Screen, Table};

/// Reads the contracts of the task types.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum TaskCommand {
    /// List the task types that ship
    List(TaskListArgs),
    /// Show what one takes, gives and fails with
    Show(TaskShowArgs),
}

/// Lists task types.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom task list\n",
    "  patchloom task list --json\n\n",
    include_str!("exit_codes.txt")
))]
pub struct TaskListArgs {
    /// Print all contracts as JSON
    #[arg(long)]
    pub json: bool,
}

/// Shows a task type.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom task show scan.packages\n",
    "  patchloom task show patch.install --json\n\n",
    include_str!("exit_codes.txt")
))]
pub struct TaskShowArgs {
    /// The task type, as `uses` names it
    #[arg(value_name = "TYPE")]
    pub uses: String,
    /// Print the contract as JSON, with its schemas
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(command: &TaskCommand, context: &Context) -> Result<Exit, Fault> {
    let contracts = contracts();
    match command {
        TaskCommand::List(args) if args.json => context.print_json(&contracts)?,
        TaskCommand::List(_) => {
            let mut table = Table::new(vec![Column::new("TYPE"), Column::flexible("WHAT IT DOES", 20)]);
            for (uses, contract) in contracts.iter() {
                table.row([uses, contract.summary.as_str()]);
            }
            context.print(&table.render(context.out))?;
        }
        TaskCommand::Show(args) => {
            let Some(contract) = contracts.get(&args.uses) else {
                let near = nearest(&args.uses, contracts.iter().map(|(uses, _)| uses));
                let near = near.map(|near| format!("did you mean '{near}'? ")).unwrap_or_default();
                let error = anyhow!("no task type that ships is called '{}'", args.uses);
                return Err(Fault::new("E0114", Exit::Usage, error).hint(format!("{near}see: patchloom task list")));
            };
            if args.json {
                context.print_json(&json!({ "type": args.uses, "contract": contract }))?;
            } else {
                context.print(&render(&args.uses, contract, context.out))?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn render(uses: &str, contract: &Contract, screen: Screen) -> String {
    let style = screen.style;
    let mut out = format!("{}  {}\n", style.bold(uses), contract.summary);
    for (heading, schema) in [("takes", &contract.input), ("gives", &contract.output)] {
        out.push_str(&format!("\n  {}\n", style.cyan(heading)));
        let mut table = Table::new(vec![Column::new("FIELD"), Column::new("TYPE"), Column::new("")]).indented(4);
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let optional = if required.contains(&name.as_str()) { "" } else { "may be absent" };
            table.row([name.as_str(), kind(field).as_str(), optional]);
        }
        out.push_str(&table.render(screen));
    }
    out.push_str(&format!("\n  {}\n", style.cyan("fails with")));
    for code in &contract.failures {
        let page = PAGES.iter().find(|(known, _)| known == code).map(|(_, page)| title(page)).unwrap_or_default();
        out.push_str(&format!("    {code:10}  {page}\n"));
    }
    out
}

/// A schema in few words.
fn kind(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(" | ");
    }
    match &schema["type"] {
        Value::String(one) if one == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(one) => one.clone(),
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | "),
        _ => "any".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_a_task_may_fail_with_has_a_page() {
        for (uses, contract) in contracts().iter() {
            for code in &contract.failures {
                assert!(
                    PAGES.iter().any(|(known, _)| known == code),
                    "{uses} fails with {code}, which no page explains"
                );
            }
        }
    }

    #[test]
    fn a_contract_is_shown_field_by_field() {
        let contracts = contracts();
        let shown = render("change.note", contracts.get("change.note").unwrap(), Screen::PLAIN);
        let has = |words: &[&str]| shown.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == words);
        assert!(has(&["change", "string"]) && has(&["key", "string", "|", "null", "may", "be", "absent"]), "{shown}");
        assert!(shown.contains("E0604"), "{shown}");
    }
}
