//! Directory records.

use transload_block::Result;

use crate::contract::Timestamp;
use crate::fat::days;
use crate::fields::Fields;

/// A record, checked for its own length.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) length: usize,
    /// The block in which the contents begin, behind extended attributes of so many blocks.
    pub(super) extent: u32,
    pub(super) attribute_blocks: u8,
    pub(super) size: u32,
    pub(super) time: Option<Timestamp>,
    pub(super) is_folder: bool,
    pub(super) is_associated: bool,
    pub(super) is_interleaved: bool,
    /// The file goes on in the next record.
    pub(super) has_more: bool,
    pub(super) name: Vec<u8>,
    pub(super) system_use: Vec<u8>,
}

impl Record {
    pub(super) fn parse(bytes: &[u8], place: u64) -> Result<Self> {
        let fields = Fields::new(bytes, "ISO 9660 record");
        if bytes.len() < 34 {
            return Err(fields.corrupt(format!("{} bytes at {place}", bytes.len())));
        }
        let name_length = usize::from(fields.u8(32)?);
        let flags = fields.u8(25)?;
        // The system use area begins at an even place.
        let system_use = 33 + name_length + usize::from(name_length.is_multiple_of(2));
        Ok(Self {
            length: bytes.len(),
            extent: fields.le32(2)?,
            attribute_blocks: fields.u8(1)?,
            size: fields.le32(10)?,
            time: moment(fields.bytes(18, 7)?),
            is_folder: flags & 0x02 != 0,
            is_associated: flags & 0x04 != 0,
            is_interleaved: fields.u8(26)? != 0 || fields.u8(27)? != 0,
            has_more: flags & 0x80 != 0,
            name: fields.bytes(33, name_length)?.to_vec(),
            system_use: bytes.get(system_use..).unwrap_or_default().to_vec(),
        })
    }
}

/// A time in seven bytes: years since 1900, month, day, hour, minute, second, and quarters of an hour east of Greenwich.
pub(super) fn moment(bytes: &[u8]) -> Option<Timestamp> {
    let &[year, month, day, hour, minute, second, zone] = bytes else { return None };
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let days = days(1900 + i64::from(year), month.into(), day.into());
    let seconds = days * 86_400 + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    Some(Timestamp { seconds: seconds - i64::from(zone.cast_signed()) * 900, nanos: 0 })
}

/// A time in seventeen bytes: digits down to hundredths of a second, and the zone.
pub(super) fn long_moment(bytes: &[u8]) -> Option<Timestamp> {
    let number = |from: usize, to: usize| std::str::from_utf8(bytes.get(from..to)?).ok()?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + number(8, 10)? * 3600 + number(10, 12)? * 60 + number(12, 14)?;
    let zone = i64::from(bytes.get(16)?.cast_signed());
    let hundredths = u32::try_from(number(14, 16)?).ok()?;
    Some(Timestamp { seconds: seconds - zone * 900, nanos: hundredths * 10_000_000 })
}
