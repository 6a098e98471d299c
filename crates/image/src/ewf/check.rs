//! Checks an image: every chunk by its checksum, the tables by theirs, the disk by its MD5.

use md5::{Digest, Md5};
use transload_block::{BlockRead, Error, ErrorKind, Result};

use super::device::Chunks;
use super::set::{Group, Set};
use crate::codec::adler32;
use crate::{CheckReport, CheckRequest, Finding, FindingKind};

/// Reads everything once.
pub(super) fn check(request: CheckRequest<'_>) -> Result<CheckReport> {
    if request.repair {
        return Err(Error::new(ErrorKind::Unsupported, "evidence is not repaired"));
    }
    let disk = Chunks::new(Set::open(&request.source, request.gate)?, 1 << 20);
    let mut report = CheckReport { image_end_offset: disk.set().file.size(), ..CheckReport::default() };
    let mut corruption = |message: String| report.add(Finding { kind: FindingKind::Corruption, message, fixed: false });
    disk.set().warnings.iter().for_each(|warning| corruption(warning.clone()));
    if !disk.set().media.old {
        for group in &disk.set().groups {
            if let Some(message) = check_table(disk.set(), group)? {
                corruption(message);
            }
        }
    }
    let mut md5 = Md5::new();
    let mut unit = Vec::new();
    let (mut compressed, mut sound) = (0, true);
    let chunks = disk.size().div_ceil(disk.set().media.chunk);
    for index in 0..chunks {
        unit.resize(usize::try_from(disk.length(index)).unwrap_or(0), 0);
        match disk.unpack(index, &mut unit) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                corruption(error.to_string());
                sound = false;
            }
            done => {
                done?;
                compressed += u64::from(disk.place(index)?.compressed);
            }
        }
        md5.update(&unit);
    }
    let found: [u8; 16] = md5.finalize().into();
    if let Some(noted) = disk.set().md5.filter(|noted| sound && *noted != found) {
        let hex = |bytes: [u8; 16]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        corruption(format!("the disk's MD5 is noted as {} and is {}", hex(noted), hex(found)));
    }
    (report.allocated_units, report.total_units, report.compressed_units) = (chunks, chunks, compressed);
    Ok(report)
}

/// The checksum behind a table's entries, if it is wrong.
fn check_table(set: &Set, group: &Group) -> Result<Option<String>> {
    /// The most entries that EnCase writes are 16,375; others write as many as a file needs.
    const ENTRIES_MAX: u64 = 16 << 20;
    let length = group.chunks * 4;
    let Ok(room) = usize::try_from(length.min(ENTRIES_MAX * 4)) else { return Ok(None) };
    if room as u64 != length || group.entries_at + length + 4 > set.file.size() {
        return Ok(Some(format!("EWF table: {} entries, and no checksum behind them", group.chunks)));
    }
    let mut bytes = vec![0; room];
    let mut noted = [0; 4];
    set.file.read_at(&mut bytes, group.entries_at)?;
    set.file.read_at(&mut noted, group.entries_at + length)?;
    let (noted, found) = (u32::from_le_bytes(noted), adler32(&bytes));
    Ok((noted != found).then(|| {
        format!("EWF table of chunk {}: its checksum is noted as {noted:08x} and is {found:08x}", group.first)
    }))
}
