//! Making room: a file goes once what is still wanted of it was brought to a newer one. And finding all entries by
//! their heads alone.

use super::frame::{self, FRAME_BYTES, HEADER_BYTES};
use super::{Archive, Entry, Error, Location, failed, widen};
use crate::disk::{Access, Disk, DiskFile, read_all};

/// So many bytes are brought to a newer file with one flush.
const CARRY_BYTES: usize = 8 << 20;

/// An entry that lies elsewhere now.
pub type Carried = ([u8; 16], Location);

impl<D: Disk> Archive<D> {
    /// Appends again what `keep` wants of a file, to a newer one, and says where it lies now. The file itself stays: it
    /// is removed with [`Self::remove`] once the index leads to the new places.
    ///
    /// # Errors
    /// As [`Archive::append`]; or the file is damaged, and is left as it is.
    pub fn carry(&mut self, number: u32, keep: impl Fn(&[u8; 16], Location) -> bool) -> Result<Vec<Carried>, Error> {
        let path = self.path_of(number);
        let file = self.disk.open(&path, Access::Read).map_err(failed("open", &path))?;
        let bytes = read_all(&file).map_err(failed("read", &path))?;
        if self.active.as_ref().is_none_or(|active| active.number == number) {
            // Also where nothing is carried: the newest file has the number that the next one counts from.
            let next = self.begin()?;
            self.active = Some(next);
        }
        let (mut carried, mut batch, mut size) = (Vec::new(), Vec::new(), 0);
        let mut at = HEADER_BYTES;
        while at < bytes.len() {
            let Some(found) = frame::parse(&bytes[at..]) else {
                let reason = "there is no sound entry".to_owned();
                return Err(Error::Damaged { path, offset: widen(at), reason });
            };
            let length = u32::try_from(found.payload.len()).unwrap_or(u32::MAX);
            if keep(&found.key, Location { file: number, bytes: length, offset: widen(at) }) {
                size += found.payload.len();
                batch.push(Entry { key: found.key, payload: found.payload.to_vec() });
            }
            at += found.bytes;
            if size >= CARRY_BYTES {
                carried.extend(self.again(std::mem::take(&mut batch))?);
                size = 0;
            }
        }
        carried.extend(self.again(batch)?);
        Ok(carried)
    }

    fn again(&mut self, batch: Vec<Entry>) -> Result<Vec<Carried>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let places = self.append(&batch)?;
        Ok(batch.into_iter().map(|entry| entry.key).zip(places).collect())
    }

    /// Removes a file of which nothing is wanted any more.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remove(&mut self, number: u32) -> Result<(), Error> {
        let path = self.path_of(number);
        self.disk.remove(&path).map_err(failed("remove", &path))?;
        self.disk.sync_dir(&self.dir).map_err(failed("flush", &self.dir))
    }

    /// Hands the place and the key of every entry to `see`, oldest first, and returns what is damaged. Reads only the
    /// heads of the entries where they follow each other as they should; else as [`Archive::scan`].
    ///
    /// # Errors
    /// What the disk says.
    pub fn index(&self, mut see: impl FnMut(Location, &[u8; 16])) -> Result<Vec<String>, Error> {
        let mut problems = Vec::new();
        for number in self.numbers()? {
            match self.heads(number)? {
                Some(found) => found.iter().for_each(|(key, place)| see(*place, key)),
                None => self.scan_file(number, &mut |place, key, _| see(place, key), &mut problems)?,
            }
        }
        Ok(problems)
    }

    /// The entries of a file by their heads; `None` where these do not hold together.
    fn heads(&self, number: u32) -> Result<Option<Vec<Carried>>, Error> {
        let path = self.path_of(number);
        let file = self.disk.open(&path, Access::Read).map_err(failed("open", &path))?;
        let end = file.bytes().map_err(failed("look at", &path))?;
        let mut header = [0; HEADER_BYTES];
        let read = file.read_at(&mut header, 0).map_err(failed("read", &path))?;
        if frame::check_header(&header[..read], number).is_err() {
            return Ok(None);
        }
        let mut found = Vec::new();
        let mut head = [0; FRAME_BYTES];
        let mut before: Option<(u32, u32)> = None;
        let mut at = widen(HEADER_BYTES);
        while at < end {
            let read = file.read_at(&mut head, at).map_err(failed("read", &path))?;
            let Some(next) = frame::read_head(&head).filter(|_| read == FRAME_BYTES) else { return Ok(None) };
            let follows = match before {
                Some((batch, 0)) => next.batch > batch,
                Some((batch, left)) => (next.batch, next.left) == (batch, left - 1),
                None => true,
            };
            let behind = at + widen(FRAME_BYTES) + u64::from(next.bytes);
            if !follows || behind > end {
                return Ok(None);
            }
            found.push((next.key, Location { file: number, bytes: next.bytes, offset: at }));
            before = Some((next.batch, next.left));
            at = behind;
        }
        // A batch that is under way, or was cut off, is told by the whole scan.
        Ok(before.is_none_or(|(_, left)| left == 0).then_some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn entry(n: u8) -> Entry {
        Entry { key: [n; 16], payload: vec![n; 100 + usize::from(n)] }
    }

    fn archive(dir: &std::path::Path) -> Archive<RealDisk> {
        let (mut archive, _) = Archive::open(RealDisk, dir, 1 << 20).unwrap();
        archive.append(&[entry(1), entry(2), entry(3)]).unwrap();
        archive.append(&[entry(4)]).unwrap();
        archive
    }

    fn keys(archive: &Archive<RealDisk>) -> (Vec<u8>, Vec<String>) {
        let (mut found, mut scanned) = (Vec::new(), Vec::new());
        let problems = archive.index(|place, key| found.push((place, key[0]))).unwrap();
        archive.scan(|place, key, _| scanned.push((place, key[0]))).unwrap();
        assert_eq!(found, scanned, "the heads tell what the whole says");
        (found.into_iter().map(|(_, key)| key).collect(), problems)
    }

    #[test]
    fn what_is_wanted_of_a_file_is_carried_before_the_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = archive(dir.path());
        let carried = archive.carry(1, |key, _| key[0] % 2 == 0).unwrap();
        assert_eq!(carried.iter().map(|(key, _)| key[0]).collect::<Vec<u8>>(), [2, 4]);
        assert_eq!(keys(&archive).0, [1, 2, 3, 4, 2, 4], "until the file is removed, all is there");
        archive.remove(1).unwrap();
        for (key, place) in carried {
            assert_eq!(archive.get(place).unwrap(), entry(key[0]));
        }
        let (mut archive, opened) = Archive::open(RealDisk, dir.path(), 1 << 20).unwrap();
        assert_eq!(opened, super::super::Opened::default());
        archive.append(&[entry(5)]).unwrap();
        assert_eq!(keys(&archive).0, [2, 4, 5]);
    }

    #[test]
    fn a_file_of_which_nothing_is_wanted_leaves_its_number_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = archive(dir.path());
        assert!(archive.carry(1, |_, _| false).unwrap().is_empty());
        archive.remove(1).unwrap();
        let (mut archive, _) = Archive::open(RealDisk, dir.path(), 1 << 20).unwrap();
        let place = archive.append(&[entry(7)]).unwrap()[0];
        assert_eq!((place.file, keys(&archive).0), (2, vec![7]), "no number is used twice");
    }

    #[test]
    fn heads_that_do_not_hold_together_are_looked_at_whole() {
        let dir = tempfile::tempdir().unwrap();
        let archive = archive(dir.path());
        let file = dir.path().join("00000001.arc");
        let mut bytes = std::fs::read(&file).unwrap();
        // The length of the second entry.
        let second = HEADER_BYTES + FRAME_BYTES + 101;
        bytes[second] ^= 0x40;
        std::fs::write(&file, &bytes).unwrap();
        let (keys, problems) = keys(&archive);
        assert_eq!(keys, [1, 3, 4]);
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}
