//! `patchloom journal move`: from a data directory into NATS, and back. Each record keeps its link of the chain.

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use patchloom_core::record::SEMANTICS;
use patchloom_engine::datadir::DataDir;
use patchloom_engine::journal::Journal as _;
use patchloom_engine::nats::{
    Connection, JournalOptions, Lease, NatsJournal, Preflight, StreamError, catch_up, reseed,
};

use crate::cli::Context;
use crate::cli::nats::{connect, nats_fault};
use crate::cli::run::act::threads;
use crate::cli::store::{dir_fault, journal_fault};
use crate::fault::{Exit, Fault};

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Whither {
    /// Into the stream of a partition behind NATS
    Nats,
    /// Into the data directory
    Dir,
}

/// Moves a journal.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom journal move --to nats --nats nats://localhost:4222 --data-dir /var/lib/patchloom\n",
    "  patchloom journal move --to dir --nats nats://localhost:4222 --data-dir /var/lib/patchloom\n\n",
    "No engine may lead either side. What was moved stays where it was, too: begin on one side only.\n",
    "A stream that lost records gets back what the data directory of an engine still has.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct JournalMoveArgs {
    /// Where to
    #[arg(long, value_name = "SIDE")]
    pub to: Whither,
    /// How many servers of the cluster keep each record, where the stream is made: 1 or 3
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub replicas: u8,
}

pub(super) fn run(args: &JournalMoveArgs, context: &Context) -> Result<Exit, Fault> {
    let Some(options) = context.global.nats.options() else {
        let error = anyhow!("one of the two sides is a NATS server, and none is named");
        return Err(Fault::new("E0643", Exit::Usage, error).hint("give it with --nats URL or PATCHLOOM_NATS"));
    };
    let dir = DataDir::open(&context.own_dir()?).map_err(dir_fault)?;
    let (partition, replicas) = (context.global.nats.partition.as_str(), usize::from(args.replicas));
    let said = threads()?.block_on(async {
        let connection = connect(options).await?;
        let fit = Preflight::look(&connection).await.map_err(nats_fault)?;
        nobody_leads(&connection, partition).await?;
        let mut nats = NatsJournal::open(&connection.jetstream(), partition, JournalOptions::new(SEMANTICS, replicas))
            .await
            .map_err(stream_fault)?;
        let stream = nats.stream().to_owned();
        let said = match args.to {
            Whither::Nats => {
                let count = reseed(&mut nats, &dir).await.map_err(journal_fault)?;
                let head = nats.head();
                format!("{count} records went into {stream}, which ends at record {} now: {}\n", head.seq, head.hash)
            }
            Whither::Dir => {
                let (mirror, caught_up) = catch_up(nats, &dir).await.map_err(journal_fault)?;
                let head = mirror.copied();
                let closed = mirror.close().await;
                closed.map_err(|error| Fault::new(error.code(), Exit::Internal, error))?;
                for note in caught_up.notes {
                    eprintln!("note: {note}");
                }
                let count = caught_up.copied;
                format!(
                    "{count} records came out of {stream}; the copy ends at record {} now: {}\n",
                    head.seq, head.hash
                )
            }
        };
        if args.to == Whither::Nats {
            eprintln!("What an acknowledgement of this server is worth: {}", fit.durability);
        }
        Ok(said)
    })?;
    context.print(&said)?;
    eprintln!("The chain of hashes was checked on the way. Check all of it: patchloom journal verify");
    Ok(Exit::Ok)
}

async fn nobody_leads(connection: &Connection, partition: &str) -> Result<(), Fault> {
    match Lease::holder_of(&connection.jetstream(), partition).await.map_err(stream_fault)? {
        None => Ok(()),
        Some(holder) => {
            let error = anyhow!("the engine {} leads the partition {partition}", holder.leader);
            Err(Fault::new("E0650", Exit::Unable, error).hint("stop all engines of the partition first"))
        }
    }
}

fn stream_fault(error: StreamError) -> Fault {
    journal_fault(error.into())
}
