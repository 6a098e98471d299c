//! The CID of an image that is written again: its children must find out.
//!
//! VMware changes the CID with the first write after an image was opened, and a child whose `parentCID` is another refuses
//! to open. The new one is derived from the old descriptor alone, and so from the CID before it: which of several threads
//! writes first does not show in the image.

use std::ops::Range;
use std::sync::Arc;

use transload_block::{Error, ErrorKind, Result, Storage};

use crate::IdSource;
use crate::vmdk::describe::ContentIdentity;

/// Where a descriptor's text stands.
#[derive(Debug)]
pub(crate) struct DescriptorPlace {
    pub(crate) storage: Arc<dyn Storage>,
    /// The bytes of the file that it may fill; `None` when it is the whole file.
    pub(crate) room: Option<Range<u64>>,
    /// The text as it stands there, without padding.
    pub(crate) text: Vec<u8>,
}

impl DescriptorPlace {
    /// Gives the descriptor a new CID, derived from the old text, durably.
    pub(super) fn renew(&mut self) -> Result<()> {
        let identity = ContentIdentity::derive(&IdSource::from_material(&self.text), "vmdk content after a write");
        let text = with_identity(&self.text, &identity);
        if text.len() == self.text.len() {
            // Only a few bytes of one sector change: a crash leaves the old ones or the new ones.
            let start = self.room.as_ref().map_or(0, |room| room.start);
            if let Some(changed) = changed_span(&self.text, &text) {
                self.storage.write_at(&text[changed.clone()], start + changed.start as u64)?;
            }
        } else {
            self.replace(&text)?;
        }
        self.text = text;
        self.storage.flush()
    }

    fn replace(&self, text: &[u8]) -> Result<()> {
        match &self.room {
            None => {
                self.storage.set_size(text.len() as u64)?;
                self.storage.write_at(text, 0)
            }
            Some(room) => {
                let mut padded = text.to_vec();
                let length = usize::try_from(room.end - room.start).unwrap_or(usize::MAX);
                if padded.len() > length {
                    return Err(Error::new(
                        ErrorKind::TooLarge,
                        format!("VMDK descriptor of {} bytes, room for {length}", padded.len()),
                    ));
                }
                padded.resize(length, 0);
                self.storage.write_at(&padded, room.start)
            }
        }
    }
}

/// The text with the values of `CID` and `ddb.longContentID` replaced; everything else, line ends included, stays.
fn with_identity(text: &[u8], identity: &ContentIdentity) -> Vec<u8> {
    let mut renewed = Vec::with_capacity(text.len() + 16);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let key_end = line.iter().position(|byte| *byte == b'=');
        let key = key_end.map(|end| line[..end].trim_ascii());
        let value = match key {
            Some(key) if key.eq_ignore_ascii_case(b"CID") => format!("{:08x}", identity.cid),
            Some(key) if key.eq_ignore_ascii_case(b"ddb.longContentID") => format!("\"{}\"", identity.long_content_id),
            _ => {
                renewed.extend_from_slice(line);
                continue;
            }
        };
        let after_sign = key_end.map_or(0, |end| end + 1);
        let blanks = line[after_sign..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        renewed.extend_from_slice(&line[..after_sign + blanks]);
        renewed.extend_from_slice(value.as_bytes());
        renewed.extend_from_slice(&line[line.trim_ascii_end().len()..]);
    }
    renewed
}

/// The bytes in which two texts of one length differ, from the first to the last.
fn changed_span(old: &[u8], new: &[u8]) -> Option<Range<usize>> {
    let differs = |(old, new): (&u8, &u8)| old != new;
    let first = old.iter().zip(new).position(differs)?;
    let last = old.iter().zip(new).rposition(differs)?;
    Some(first..last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use transload_block::{BlockRead, Memory};

    #[test]
    fn only_the_identifiers_change() {
        let text = b"# x\r\nversion=1\r\nCID=0faec72e\r\nparentCID=ffffffff\r\nddb.longContentID = \"581754a0f462b4b03f6c9e450faec72e\"\r\n";
        let storage = Arc::new(Memory::from(text.to_vec()));
        let mut place =
            DescriptorPlace { storage: Arc::clone(&storage) as Arc<dyn Storage>, room: None, text: text.to_vec() };
        place.renew().unwrap();
        let renewed = String::from_utf8(storage.to_vec()).unwrap();
        let lines: Vec<_> = renewed.lines().collect();
        let old: Vec<_> = std::str::from_utf8(text).unwrap().lines().collect();
        assert_eq!(renewed.len(), text.len());
        let cid = lines[2].strip_prefix("CID=").unwrap();
        assert_ne!(cid, "0faec72e");
        assert!(lines[4].ends_with(&format!("{cid}\"")));
        for unchanged in [0, 1, 3] {
            assert_eq!(lines[unchanged], old[unchanged]);
        }
    }

    #[test]
    fn a_short_cid_makes_the_text_longer() {
        let text = b"version=1\nCID=1\nRW 1 ZERO\n";
        let storage = Arc::new(Memory::from(text.to_vec()));
        let mut place =
            DescriptorPlace { storage: Arc::clone(&storage) as Arc<dyn Storage>, room: None, text: text.to_vec() };
        place.renew().unwrap();
        assert_eq!(storage.size(), text.len() as u64 + 7);
        assert!(storage.to_vec().ends_with(b"\nRW 1 ZERO\n"));
    }
}
