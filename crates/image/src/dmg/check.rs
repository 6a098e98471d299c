//! Checks a UDIF image: that its chunks cover the disk, unpack, and have the checksums that are noted.

use std::sync::Arc;

use crc32fast::Hasher;
use transload_block::{BlockRead, Error, ErrorKind, Result};

use super::device::Udif;
use super::open::Image;
use super::tables::{Chunk, Method, Table};
use crate::{CheckReport, CheckRequest, Finding, FindingKind};

/// Bytes that are read at once.
const STEP: u64 = 1 << 20;

/// Reads everything once.
pub(super) fn check(request: CheckRequest<'_>) -> Result<CheckReport> {
    if request.repair {
        let what = "an Apple disk image cannot be repaired: its checksums say that it is damaged, not what was there";
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    let file = Arc::clone(request.source.bytes());
    let image = Image::read(&*file)?;
    let mut report = CheckReport { image_end_offset: file.size(), ..CheckReport::default() };
    check_cover(&image, &mut report);
    check_data_fork(&*file, &image, &mut report)?;
    let disk = Udif::new(file, image.size, image.chunks(), 0);
    let mut master = Hasher::new();
    for (index, table) in image.tables.iter().enumerate() {
        master.update(&table.checksum.unwrap_or(0).to_be_bytes());
        check_table(&disk, index, table, &mut report)?;
    }
    let (found, all_noted) = (master.finalize(), image.tables.iter().all(|table| table.checksum.is_some()));
    if let Some(noted) = image.trailer.master_checksum.filter(|noted| all_noted && *noted != found) {
        corruption(&mut report, format!("master checksum: {noted:08x} is noted, that of the tables is {found:08x}"));
    }
    Ok(report)
}

fn corruption(report: &mut CheckReport, message: String) {
    report.add(Finding { kind: FindingKind::Corruption, message, fixed: false });
}

/// Whether there is a chunk for every sector.
fn check_cover(image: &Image, report: &mut CheckReport) {
    let mut at = 0;
    for chunk in image.chunks() {
        if chunk.start > at {
            corruption(report, format!("tables: no chunk holds bytes {at} to {} of the disk", chunk.start));
        }
        at = chunk.end();
    }
    if at < image.size {
        corruption(report, format!("tables: no chunk holds bytes {at} to {} of the disk", image.size));
    }
}

fn check_data_fork(file: &dyn BlockRead, image: &Image, report: &mut CheckReport) -> Result<()> {
    let Some(noted) = image.trailer.data_checksum else { return Ok(()) };
    let part = image.trailer.data_fork;
    let mut hasher = Hasher::new();
    let mut buffer = Vec::new();
    for start in (0..part.length).step_by(usize::try_from(STEP).unwrap_or(1 << 20)) {
        buffer.resize(usize::try_from(STEP.min(part.length - start)).unwrap_or(0), 0);
        file.read_at(&mut buffer, part.offset + start)?;
        hasher.update(&buffer);
    }
    let found = hasher.finalize();
    if found != noted {
        corruption(report, format!("data fork: its checksum is noted as {noted:08x} and is {found:08x}"));
    }
    Ok(())
}

fn check_table(disk: &Udif, index: usize, table: &Table, report: &mut CheckReport) -> Result<()> {
    let mut hasher = Hasher::new();
    let mut buffer = Vec::new();
    let mut readable = true;
    for chunk in &table.chunks {
        report.total_units += 1;
        match chunk.method {
            Method::Ignore => continue,
            Method::Zero => {
                hasher.combine(&zeroes(chunk.length));
                continue;
            }
            _ => report.allocated_units += 1,
        }
        report.compressed_units += u64::from(chunk.method.codec().is_some());
        match hash_chunk(disk, chunk, &mut buffer, &mut hasher) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                corruption(report, format!("table {index} '{}': {error}", table.name));
                readable = false;
            }
            done => done?,
        }
    }
    let found = hasher.finalize();
    if let Some(noted) = table.checksum.filter(|noted| readable && *noted != found) {
        let name = &table.name;
        corruption(report, format!("table {index} '{name}': its checksum is noted as {noted:08x} and is {found:08x}"));
    }
    Ok(())
}

/// Hashes a chunk that holds data: raw ones in steps, packed ones as a whole.
fn hash_chunk(disk: &Udif, chunk: &Chunk, buffer: &mut Vec<u8>, hasher: &mut Hasher) -> Result<()> {
    let step = if chunk.method == Method::Raw { STEP } else { chunk.length };
    let mut at = chunk.start;
    while at < chunk.end() {
        buffer.resize(usize::try_from(step.min(chunk.end() - at)).unwrap_or(0), 0);
        disk.read_at(buffer, at)?;
        hasher.update(buffer);
        at += buffer.len() as u64;
    }
    Ok(())
}

/// The checksum of `length` zeroes, in a number of steps that grows with the digits of the number.
fn zeroes(length: u64) -> Hasher {
    let mut all = Hasher::new();
    let mut power = Hasher::new();
    power.update(&[0]);
    for bit in 0..u64::BITS - length.leading_zeros() {
        if length >> bit & 1 == 1 {
            all.combine(&power);
        }
        let half = power.clone();
        power.combine(&half);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::zeroes;

    #[test]
    fn the_checksum_of_zeroes_needs_no_zeroes() {
        for length in [0, 1, 2, 511, 512, 70_001] {
            let plain = crc32fast::hash(&vec![0; usize::try_from(length).unwrap()]);
            assert_eq!(zeroes(length).finalize(), plain, "{length}");
        }
    }
}
