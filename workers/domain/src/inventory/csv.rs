//! Hosts in CSV by RFC 4180: a header, then one host in each row. Knows no other format.

use std::sync::Arc;

use csv::{Position, ReaderBuilder, StringRecord};

use super::entry::{Desk, Entry, Source, SourceKind};
use super::field::Field;
use super::mistake::{Says, Spot, meant};

/// What a column says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    Id,
    Names,
    Addresses,
    Groups,
    Value(Field),
}

/// Headers beside the names of fields, as exports of CMDBs and spreadsheets have them.
const ALIASES: [(&str, &str); 24] = [
    ("id", "id"),
    ("host_id", "id"),
    ("hostname", "id"),
    ("host_name", "id"),
    ("server", "id"),
    ("name", "id"),
    ("names", "names"),
    ("fqdn", "names"),
    ("aliases", "names"),
    ("instance_id", "names"),
    ("address", "addresses"),
    ("addresses", "addresses"),
    ("ip", "addresses"),
    ("ip_address", "addresses"),
    ("groups", "groups"),
    ("env", "environment"),
    ("bu", "business_unit"),
    ("location", "site"),
    ("datacenter", "site"),
    ("architecture", "arch"),
    ("patch_group", "tag:Patch Group"),
    ("patchgroup", "tag:Patch Group"),
    ("maintenance_window", "tag:Maintenance Window"),
    ("class", "device_class"),
];

fn normal(header: &str) -> String {
    header.trim().to_lowercase().replace([' ', '-'], "_")
}

fn column(header: &str) -> Option<Column> {
    let header = header.trim();
    // The key of a tag keeps its case and its spaces.
    if let Some(key) =
        header.get(..4).filter(|start| start.eq_ignore_ascii_case("tag:")).map(|start| &header[start.len()..])
    {
        return Some(Column::Value(Field::Tag(key.trim().to_owned())));
    }
    let name = normal(header);
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name.as_str(), |(_, known)| known);
    match name {
        "id" => Some(Column::Id),
        "names" => Some(Column::Names),
        "addresses" => Some(Column::Addresses),
        "groups" => Some(Column::Groups),
        name => Field::named(name).map(Column::Value),
    }
}

/// The separator that the header uses: comma, semicolon or tab.
fn separator(text: &str) -> u8 {
    let header = text.lines().next().unwrap_or_default();
    let count = |separator: u8| header.bytes().filter(|byte| *byte == separator).count();
    // The last of the greatest wins: the comma.
    [b'\t', b';', b','].into_iter().max_by_key(|separator| count(*separator)).unwrap_or(b',')
}

/// Whether the text is of this format: its first line is a header with a column for the id.
pub(super) fn is(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let header = text.lines().next().unwrap_or_default();
    let separator = char::from(separator(text));
    let plain = |cell: &str| cell.trim().trim_matches('"').to_owned();
    header.split(separator).any(|cell| column(&plain(cell)) == Some(Column::Id))
}

pub(super) fn read(text: &str, desk: &mut Desk<'_>) -> Source {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader =
        ReaderBuilder::new().delimiter(separator(text)).flexible(true).has_headers(true).from_reader(text.as_bytes());
    let columns = match reader.headers() {
        Ok(headers) => columns(&headers.clone(), desk),
        Err(error) => {
            wrong(&error, 1, desk);
            Vec::new()
        }
    };
    let mut entries = Vec::new();
    let mut record = StringRecord::new();
    let mut lines = Lines { text: text.as_bytes(), byte: 0, line: 1 };
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => entries.extend(row(&record, lines.of(record.position()), &columns, desk)),
            Err(error) => wrong(&error, lines.of(error.position()), desk),
        }
    }
    Source { file: Arc::clone(desk.file), kind: SourceKind::Csv, entries }
}

fn wrong(error: &csv::Error, line: u32, desk: &mut Desk<'_>) {
    let at = desk.line(line);
    let says =
        Says(format!("this is not CSV: {error}"), "the file has to be CSV by RFC 4180, in UTF-8", "mend this row");
    desk.mistakes.error("E0810", &at, says);
}

/// Lines by bytes: a row is told by its first line, whatever ends lines and however many are in a cell.
struct Lines<'a> {
    text: &'a [u8],
    byte: usize,
    line: u32,
}

impl Lines<'_> {
    fn of(&mut self, position: Option<&Position>) -> u32 {
        let to = position.and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(0).min(self.text.len());
        let blank = |byte: &&u8| matches!(byte, b'\r' | b'\n');
        let to = to + self.text[to..].iter().take_while(blank).count();
        if let Some(passed) = self.text.get(self.byte..to) {
            let lines = passed.iter().filter(|byte| **byte == b'\n').count();
            self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
            self.byte = to;
        }
        self.line
    }
}

fn columns(headers: &StringRecord, desk: &mut Desk<'_>) -> Vec<Option<Column>> {
    let mut found: Vec<Option<Column>> = Vec::new();
    let at = desk.line(1);
    for header in headers {
        let known = column(header);
        let repeats = matches!(known, Some(Column::Id | Column::Groups | Column::Value(_))) && found.contains(&known);
        if repeats {
            let message = format!("the column `{header}` says what another column says already");
            desk.mistakes.error("E0811", &at, Says(message, "one of the two would be lost", "remove or rename one"));
        }
        if known.is_none() {
            let names = ["id", "names", "addresses", "groups"].into_iter();
            let names = names.chain(super::field::FIELDS.iter().map(|(name, _)| *name));
            let fix = meant(&normal(header), names, &format!("to keep it, call it `tag:{header}`"));
            let message = format!("the column `{header}` is not taken over");
            desk.mistakes.warn("E0827", &at, Says(message, "no field has this name", fix));
        }
        found.push(known.filter(|_| !repeats));
    }
    found
}

fn row(record: &StringRecord, line: u32, columns: &[Option<Column>], desk: &mut Desk<'_>) -> Option<Entry> {
    let spot = Spot::Line(line);
    if record.len() != columns.len() {
        let at = desk.at(&spot);
        let message = format!("this row has {} cells, the header has {}", record.len(), columns.len());
        let says =
            Says(message, "cells would stand under wrong headers", "add or remove cells; quote cells with separators");
        desk.mistakes.error("E0810", &at, says);
        return None;
    }
    let cells = || columns.iter().zip(record.iter()).filter(|(_, cell)| !cell.trim().is_empty());
    let id = cells().find(|(column, _)| **column == Some(Column::Id)).map(|(_, cell)| cell);
    let Some(id) = id else {
        let at = desk.at(&spot);
        desk.mistakes.error(
            "E0813",
            &at,
            Says("this row has no id", "a host has an id", "fill the cell, or remove the row"),
        );
        return None;
    };
    let mut entry = Entry::new(id, spot.clone(), desk)?;
    for (column, cell) in cells() {
        match column {
            Some(Column::Names) => parts(cell).for_each(|part| entry.name(part, &spot, desk)),
            Some(Column::Addresses) => parts(cell).for_each(|part| entry.address(part, &spot, desk)),
            Some(Column::Groups) => parts(cell).for_each(|part| entry.join(part, spot.clone(), desk)),
            Some(Column::Value(Field::Jump)) => {
                entry.put(Field::Jump, &parts(cell).collect::<Vec<_>>().join(","), spot.clone(), desk);
            }
            Some(Column::Value(field)) => entry.put(field.clone(), cell, spot.clone(), desk),
            Some(Column::Id) | None => {}
        }
    }
    entry.fill_from_tags(desk);
    Some(entry)
}

/// The parts of a cell that holds several.
fn parts(cell: &str) -> impl Iterator<Item = &str> {
    cell.split([' ', ',', ';', '\n']).filter(|part| !part.is_empty())
}
