//! The commands that need the engine, as a person or a script meets them: text, JSON, exit codes, files.

mod bed;
mod changes;
mod damage;
mod inventory;
mod keep;
mod measure;
mod operate;
mod runs;
mod snapshots;
mod workflows;
