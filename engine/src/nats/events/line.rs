//! The line of events that are to be told, in the order of their records: bounded, so that a broker that is away costs
//! events and not memory. It says how many.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use patchloom_core::CloudEvent;
use serde_json::Value;

/// Bytes that the events in line may have together, roughly.
const BYTES_MAX: usize = 64 << 20;

/// One event in line.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Its record.
    pub seq: u64,
    pub event: Arc<CloudEvent>,
    bytes: usize,
    /// Whether we are the one to tell it; else another leads and does.
    ours: bool,
}

/// The line. Each event in it has a number of its own, which counts on.
#[derive(Debug)]
pub(super) struct Line {
    events: VecDeque<Waiting>,
    max: usize,
    bytes: usize,
    /// The number of the first one.
    first: u64,
    /// The number of the one that is sent next.
    next: u64,
    /// How many of ours were given up before they were sent.
    lost: u64,
    /// The record up to which all is told.
    told: u64,
    /// From this record on it has heard all.
    from: u64,
}

impl Line {
    /// A line that hears of all from the record `from` on.
    pub fn new(max: usize, from: u64) -> Self {
        Self { events: VecDeque::new(), max, bytes: 0, first: 0, next: 0, lost: 0, told: 0, from }
    }

    /// Adds the events of a record; gives how many of ours were given up for them.
    pub fn add(&mut self, seq: u64, events: impl Iterator<Item = CloudEvent>, ours: bool) -> u64 {
        for event in events {
            let bytes = weigh(&event);
            self.bytes += bytes;
            self.events.push_back(Waiting { seq, event: Arc::new(event), bytes, ours });
        }
        let before = self.lost;
        while self.events.len() > self.max || (self.bytes > BYTES_MAX && self.events.len() > 1) {
            let sent = self.first < self.next;
            if let Some(gone) = self.drop_first() {
                self.lost += u64::from(gone.ours && !sent);
                self.from = self.from.max(gone.seq + 1);
            }
        }
        self.lost - before
    }

    fn drop_first(&mut self) -> Option<Waiting> {
        let gone = self.events.pop_front()?;
        self.bytes -= gone.bytes;
        self.first += 1;
        self.next = self.next.max(self.first);
        Some(gone)
    }

    /// The next one to be sent, with its number.
    pub fn next(&mut self) -> Option<(u64, Waiting)> {
        let at = usize::try_from(self.next - self.first).ok()?;
        let waiting = self.events.get(at)?.clone();
        self.next += 1;
        Some((self.next - 1, waiting))
    }

    /// All up to this number are in the stream.
    pub fn landed(&mut self, number: u64) {
        while self.first <= number
            && let Some(gone) = self.drop_first()
        {
            self.told = match self.events.front() {
                Some(behind) => self.told.max(behind.seq - 1),
                None => gone.seq,
            };
        }
    }

    /// The records that nobody is known to have told and that are not in line, where all up to `told` are told.
    pub fn missed(&self, told: u64) -> Option<RangeInclusive<u64>> {
        (told + 1 < self.from).then(|| told + 1..=self.from - 1)
    }

    /// Puts events in front that were missed; gives up the oldest where there are more than fit.
    pub fn put_before(&mut self, missed: Vec<(u64, CloudEvent)>) {
        self.from = missed.first().map_or(self.from, |(seq, _)| *seq);
        let behind = std::mem::take(&mut self.events);
        (self.bytes, self.next) = (0, self.first);
        for (seq, event) in missed {
            self.add(seq, std::iter::once(event), true);
        }
        for waiting in behind {
            self.add(waiting.seq, std::iter::once(CloudEvent::clone(&waiting.event)), waiting.ours);
        }
    }

    /// Begins anew behind what was told: all up to the record `told`, and these.
    pub fn begin(&mut self, told: u64, known: impl Fn(&CloudEvent) -> bool) {
        self.events.retain(|waiting| waiting.seq > told && !known(&waiting.event));
        self.events.iter_mut().for_each(|waiting| waiting.ours = true);
        self.bytes = self.events.iter().map(|waiting| waiting.bytes).sum();
        self.next = self.first;
        self.told = told;
    }

    /// The record up to which all is told.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// How many of ours were given up.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Notes that one cannot be told.
    pub fn lose(&mut self) {
        self.lost += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// About how many bytes an event takes in memory and on the wire.
fn weigh(event: &CloudEvent) -> usize {
    256 + event.id.len() + event.source.len() + event.kind.len() + weigh_value(&event.data)
}

fn weigh_value(value: &Value) -> usize {
    let inside = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weigh_value).sum(),
        Value::Object(fields) => fields.iter().map(|(name, field)| name.len() + weigh_value(field)).sum(),
    };
    32 + inside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(ids: &[&str]) -> Vec<CloudEvent> {
        ids.iter().map(|id| CloudEvent { id: (*id).to_owned(), ..CloudEvent::default() }).collect()
    }

    fn send(line: &mut Line) -> Vec<(u64, String)> {
        std::iter::from_fn(|| line.next()).map(|(number, waiting)| (number, waiting.event.id.clone())).collect()
    }

    #[test]
    fn a_record_counts_as_told_once_all_its_events_are_in_the_stream() {
        let mut line = Line::new(10, 1);
        line.add(5, events(&["5-0", "5-1"]).into_iter(), true);
        line.add(9, events(&["9-0"]).into_iter(), true);
        let sent = send(&mut line);
        assert_eq!(sent.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ["5-0", "5-1", "9-0"]);
        let mut told = Vec::new();
        for (number, _) in sent {
            line.landed(number);
            told.push(line.told());
        }
        assert_eq!(told, [4, 8, 9]);
        assert!(line.is_empty() && line.lost() == 0);
    }

    #[test]
    fn a_line_that_is_full_gives_up_the_oldest_and_counts_those_that_nobody_told() {
        let mut line = Line::new(2, 1);
        assert_eq!(line.add(1, events(&["a", "b", "c"]).into_iter(), false), 0, "another one tells them");
        assert_eq!(line.add(2, events(&["d", "e"]).into_iter(), true), 0);
        assert_eq!(line.next().unwrap().1.event.id, "d");
        assert_eq!(line.add(3, events(&["f"]).into_iter(), true), 0, "d is on its way");
        assert_eq!(line.add(4, events(&["g", "h"]).into_iter(), true), 2);
        assert_eq!(send(&mut line).into_iter().map(|(_, id)| id).collect::<Vec<_>>(), ["g", "h"]);
        // What landed late has left the line already.
        line.landed(0);
        assert_eq!(line.lost(), 2);
    }

    #[test]
    fn a_new_leader_tells_what_was_heard_behind_the_watermark_and_is_not_in_the_stream() {
        let mut line = Line::new(10, 3);
        line.add(3, events(&["3-0"]).into_iter(), false);
        line.add(4, events(&["4-0", "4-1"]).into_iter(), false);
        line.add(5, events(&["5-0"]).into_iter(), true);
        assert_eq!((line.missed(2), line.missed(1), line.missed(0)), (None, Some(2..=2), Some(1..=2)));
        line.put_before(vec![(2, events(&["2-0"]).remove(0))]);
        assert_eq!(line.missed(1), None);
        line.begin(3, |event| event.id == "4-1");
        assert_eq!(send(&mut line).into_iter().map(|(_, id)| id).collect::<Vec<_>>(), ["4-0", "5-0"]);
        assert_eq!(line.told(), 3);
    }
}
