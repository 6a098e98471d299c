//! Making and changing a GUID partition table.

use std::ops::Range;

use transload_block::{Error, ErrorKind, Result};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::Gpt;
use super::layout::{ENTRY_COUNT, ENTRY_SIZE, Entry, HEADER_SIZE, Header, LEGACY_BOOT, REVISION, SIGNATURE};
use crate::edit::{Change, NewPartition, Wish, gaps, no_partition};
use crate::{Guid, Identifiers, Kind};

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::InvalidInput, text)
}

impl Gpt {
    /// An empty table of 128 entries for a disk of `disk` bytes.
    pub(crate) fn create(disk: u64, sector_size: u32, ids: &Identifiers) -> Result<Self> {
        let header = Header {
            signature: SIGNATURE,
            revision: U32::new(REVISION),
            header_size: U32::new(HEADER_SIZE),
            disk_guid: ids.guid("disk").to_disk(),
            entry_count: U32::new(ENTRY_COUNT),
            entry_size: U32::new(ENTRY_SIZE),
            ..Header::new_zeroed()
        };
        let array = vec![0; (ENTRY_COUNT * ENTRY_SIZE) as usize];
        let mut gpt = Self { sector_size, header, former: Vec::new(), array, findings: Vec::new() };
        gpt.header.first_usable = U64::new(2 + gpt.array_sectors());
        gpt.fit(disk)?;
        Ok(gpt)
    }

    pub(super) fn array_sectors(&self) -> u64 {
        (self.array.len() as u64).div_ceil(u64::from(self.sector_size))
    }

    /// Makes all of a disk of `disk` bytes usable but what the table needs itself.
    pub(crate) fn fit(&mut self, disk: u64) -> Result<()> {
        let (array, first) = (self.array_sectors(), self.header.first_usable.get());
        if first < 2 + array {
            let text =
                format!("a GPT with {array} sectors of entries, whose first usable sector is {first}, is not edited");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let sectors = disk / u64::from(self.sector_size);
        // The backup: the array, and the header in the last sector.
        let last = sectors.checked_sub(array + 2).filter(|last| *last >= first);
        let last = last.ok_or_else(|| invalid(format!("a disk of {disk} bytes is too small for a GPT")))?;
        if let Some((number, entry)) = self.entries().find(|(_, entry)| entry.last.get() > last) {
            let text = format!(
                "partition {number} ends with sector {}, and a disk of {disk} bytes has room up to sector {last}",
                entry.last.get()
            );
            return Err(invalid(text));
        }
        self.header.last_usable = U64::new(last);
        Ok(())
    }

    pub(crate) fn add(&mut self, disk: u64, new: &NewPartition, alignment: u64, ids: &Identifiers) -> Result<u32> {
        if new.logical {
            return Err(invalid(String::from("a GPT has no logical partitions")));
        }
        self.fit(disk)?;
        let wish = Wish::new(new, alignment, u64::from(self.sector_size))?;
        let range = wish.place(&self.gaps(), u64::MAX)?;
        let number = self.free_number(new.number)?;
        let (first, last) = (range.start, range.end - 1);
        let Kind::Gpt(kind) = new.kind else { return Err(invalid(format!("the type {} in a GPT", new.kind))) };
        let guid = new.guid.unwrap_or_else(|| self.new_guid(ids, &format!("partition {number} {first} {last} {kind}")));
        let active = if new.active { LEGACY_BOOT } else { 0 };
        let entry = Entry {
            kind: kind.to_disk(),
            guid: guid.to_disk(),
            first: U64::new(first),
            last: U64::new(last),
            attributes: U64::new(new.attributes | active),
            name: name_field(&new.name)?,
        };
        self.put(number, &entry);
        Ok(number)
    }

    /// A GUID that no partition has yet.
    fn new_guid(&self, ids: &Identifiers, purpose: &str) -> Guid {
        let candidates = (0_u32..).map(|again| ids.guid(&format!("{purpose} {again}")));
        let is_new = |guid: &Guid| self.entries().all(|(_, entry)| Guid::from_disk(entry.guid) != *guid);
        candidates.take(self.array.len()).find(is_new).unwrap_or(Guid::NIL)
    }

    fn gaps(&self) -> Vec<Range<u64>> {
        let used = self.entries().map(|(_, entry)| entry.first.get()..entry.last.get().saturating_add(1)).collect();
        gaps(self.header.first_usable.get()..self.header.last_usable.get() + 1, used)
    }

    fn free_number(&self, wanted: Option<u32>) -> Result<u32> {
        let count = self.header.entry_count.get();
        let used: Vec<u32> = self.entries().map(|(number, _)| number).collect();
        match wanted {
            Some(number) if number == 0 || number > count => {
                Err(invalid(format!("partition {number} of a GPT with {count} entries")))
            }
            Some(number) if used.contains(&number) => Err(invalid(format!("there is a partition {number} already"))),
            Some(number) => Ok(number),
            None => (1..=count)
                .find(|number| !used.contains(number))
                .ok_or_else(|| invalid(format!("all {count} entries of the GPT are taken"))),
        }
    }

    /// The bytes of an entry that is there.
    fn slot(&mut self, number: u32) -> &mut [u8] {
        let size = self.entry_size();
        let at = (number as usize - 1) * size;
        &mut self.array[at..at + size]
    }

    /// Writes the fields of an entry; what is behind them stays.
    fn put(&mut self, number: u32, entry: &Entry) {
        self.slot(number)[..ENTRY_SIZE as usize].copy_from_slice(entry.as_bytes());
    }

    pub(crate) fn delete(&mut self, number: u32) -> Result<()> {
        if !self.entries().any(|(known, _)| known == number) {
            return Err(no_partition(number));
        }
        self.slot(number).fill(0);
        Ok(())
    }

    pub(crate) fn change(&mut self, number: u32, change: &Change) -> Result<()> {
        if !self.entries().any(|(known, _)| known == number) {
            return Err(no_partition(number));
        }
        let Ok((mut entry, _)) = Entry::read_from_prefix(self.slot(number)) else { return Err(no_partition(number)) };
        match change.kind {
            Some(Kind::Gpt(kind)) => entry.kind = kind.to_disk(),
            Some(kind @ Kind::Mbr(_)) => return Err(invalid(format!("the type {kind} in a GPT"))),
            None => {}
        }
        if let Some(name) = &change.name {
            entry.name = name_field(name)?;
        }
        if let Some(guid) = change.guid {
            if self.entries().any(|(other, entry)| other != number && Guid::from_disk(entry.guid) == guid) {
                return Err(invalid(format!("another partition has the GUID {guid}")));
            }
            entry.guid = guid.to_disk();
        }
        let attributes = change.attributes.unwrap_or(entry.attributes.get());
        entry.attributes = U64::new(match change.active {
            Some(true) => attributes | LEGACY_BOOT,
            Some(false) => attributes & !LEGACY_BOOT,
            None => attributes,
        });
        self.put(number, &entry);
        Ok(())
    }
}

/// A name in the 36 units that it has.
fn name_field(name: &str) -> Result<[[u8; 2]; 36]> {
    let mut field = [[0; 2]; 36];
    let units: Vec<u16> = name.encode_utf16().collect();
    if units.len() > field.len() || units.contains(&0) {
        let text = format!(
            "the name '{}' has {} units of UTF-16, and a GPT has room for 36",
            name.escape_debug(),
            units.len()
        );
        return Err(invalid(text));
    }
    for (place, unit) in field.iter_mut().zip(units) {
        *place = unit.to_le_bytes();
    }
    Ok(field)
}
