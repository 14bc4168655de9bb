//! What a message of the journal's stream says of its record, in its headers.

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use uuid::Uuid;

use crate::journal::{ChainHash, Head, Record};

const CHAIN: &str = "Patchloom-Chain";
const SEMANTICS: &str = "Patchloom-Semantics";
const TERM: &str = "Patchloom-Term";
const WRITER: &str = "Patchloom-Writer";

/// Room for the headers in what the server takes as one message.
pub(super) const HEADERS_BYTES_MAX: usize = 1024;

/// What the headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The link of the chain.
    pub chain: ChainHash,
    /// The version of the semantics it was written under.
    pub semantics: u32,
    /// The term it was written in; 0 before the first.
    pub term: u64,
    /// The instance of a leader that wrote it.
    pub writer: Uuid,
}

impl Stamp {
    /// The message for `record`, refused by the server where another record came before it.
    pub fn message(&self, stream: &str, before: Head, record: Vec<u8>) -> PublishMessage {
        PublishMessage::build()
            .expected_last_sequence(before.seq)
            .expected_stream(stream)
            .header(CHAIN, self.chain.to_string())
            .header(SEMANTICS, self.semantics.to_string())
            .header(TERM, self.term.to_string())
            .header(WRITER, self.writer.to_string())
            .payload(record.into())
    }

    /// Reads it back; the reason where it cannot be.
    pub fn read(headers: Option<&HeaderMap>) -> Result<Self, String> {
        fn field<T>(headers: Option<&HeaderMap>, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, String> {
            let text = headers.and_then(|headers| headers.get_last(name));
            let text = text.ok_or_else(|| format!("the message has no header {name}"))?;
            read(text.as_str()).ok_or_else(|| format!("the header {name} of the message cannot be read"))
        }
        Ok(Self {
            chain: field(headers, CHAIN, link)?,
            semantics: field(headers, SEMANTICS, |text| text.parse().ok())?,
            term: field(headers, TERM, |text| text.parse().ok())?,
            writer: field(headers, WRITER, |text| text.parse().ok())?,
        })
    }

    /// The record that follows `before`, if the chain says so; the reason where it does not.
    pub fn record(&self, before: Head, payload: Vec<u8>) -> Result<Record, String> {
        let seq = before.seq + 1;
        if before.hash.next(seq, &payload) != self.chain {
            return Err("the hash chain is broken".to_owned());
        }
        Ok(Record { seq, hash: self.chain, semantics: self.semantics, payload })
    }
}

fn link(text: &str) -> Option<ChainHash> {
    let mut hash = ChainHash::default();
    // Only digits: the parser below takes a sign too.
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in hash.0.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_and_says_which_header_is_wrong() {
        let chain = ChainHash::default().next(1, b"{}");
        let stamp = Stamp { chain, semantics: 2, term: 7, writer: Uuid::from_u128(5) };
        let sent = stamp.message("S", Head::default(), b"{}".to_vec()).outbound_message("s");
        let mut headers = sent.headers.unwrap();
        assert_eq!(Stamp::read(Some(&headers)), Ok(stamp));
        headers.insert(CHAIN, format!("+{}", "1".repeat(63)));
        assert_eq!(
            Stamp::read(Some(&headers)).unwrap_err(),
            "the header Patchloom-Chain of the message cannot be read"
        );
        assert_eq!(Stamp::read(None).unwrap_err(), "the message has no header Patchloom-Chain");
    }

    #[test]
    fn a_record_is_taken_only_behind_the_one_that_it_follows() {
        let chain = ChainHash::default().next(1, b"{}");
        let stamp = Stamp { chain, semantics: 2, term: 1, writer: Uuid::nil() };
        assert_eq!(stamp.record(Head::default(), b"{}".to_vec()).unwrap().seq, 1);
        assert!(stamp.record(Head::default(), b"[]".to_vec()).is_err());
        assert!(stamp.record(Head { seq: 1, hash: ChainHash::default() }, b"{}".to_vec()).is_err());
    }
}
