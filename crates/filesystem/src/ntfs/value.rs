//! The value of an attribute: its parts put together, its runs decoded, as something that can be read.

use std::sync::Arc;

use transload_block::{BlockRead, Memory, Result};

use super::compress::Compressed;
use super::record::{Attribute, Body, COMPRESSED, Clusters, ENCRYPTED};
use crate::fields::{corrupt, unsupported};
use crate::mapped::{MappedFile, Runs};

/// Adds the runs of one part of a value to those before it. Answers the first cluster behind the part.
pub(super) fn decode(part: &Clusters, cluster_size: u64, runs: &mut Runs) -> Result<u64> {
    let overflow = || corrupt("NTFS: the runs of a value overflow");
    let (mut cluster, mut place) = (part.first, 0_i64);
    let mut rest = part.runs.as_slice();
    while let Some((&header, tail)) = rest.split_first() {
        if header == 0 {
            break;
        }
        let (length_bytes, place_bytes) = (usize::from(header & 0xF), usize::from(header >> 4));
        if length_bytes == 0 || length_bytes > 8 || place_bytes > 8 || tail.len() < length_bytes + place_bytes {
            return Err(corrupt(format!("NTFS: a run with the header {header:#04x}")));
        }
        let (length, tail) = tail.split_at(length_bytes);
        let (step, tail) = tail.split_at(place_bytes);
        let length = u64::try_from(signed(length)).ok().filter(|length| *length > 0);
        let length = length.ok_or_else(|| corrupt("NTFS: a run of no or a negative length"))?;
        let bytes = length.checked_mul(cluster_size).ok_or_else(overflow)?;
        let start = cluster.checked_mul(cluster_size).ok_or_else(overflow)?;
        if place_bytes > 0 {
            place = place.checked_add(signed(step)).ok_or_else(overflow)?;
            let at = u64::try_from(place).map_err(|_| corrupt(format!("NTFS: a run at cluster {place}")))?;
            runs.push(start, bytes, at.checked_mul(cluster_size).ok_or_else(overflow)?)?;
        }
        cluster = cluster.checked_add(length).ok_or_else(overflow)?;
        rest = tail;
    }
    Ok(cluster)
}

/// A little-endian number of up to eight bytes with its sign.
fn signed(bytes: &[u8]) -> i64 {
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut array = [if negative { 0xFF } else { 0 }; 8];
    array[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(array)
}

/// A value that can be read, from all parts of the attribute.
pub(super) fn open(device: &Arc<dyn BlockRead>, cluster_size: u64, parts: &[&Attribute]) -> Result<Arc<dyn BlockRead>> {
    let mut clusters: Vec<&Clusters> = Vec::new();
    for part in parts {
        match &part.body {
            Body::Resident(bytes) => return Ok(Arc::new(Memory::from(bytes.clone()))),
            Body::Clusters(part) => clusters.push(part),
        }
    }
    clusters.sort_by_key(|part| part.first);
    let (Some(first), Some(attribute)) = (clusters.first(), parts.first()) else {
        return Err(corrupt("NTFS: an attribute without parts"));
    };
    if attribute.flags & ENCRYPTED != 0 {
        return Err(unsupported("NTFS: the file is encrypted (EFS)"));
    }
    let (mut runs, mut next) = (Runs::default(), 0);
    for part in &clusters {
        if part.first != next {
            return Err(corrupt(format!("NTFS: clusters {next} to {} of a value are nowhere", part.first)));
        }
        next = decode(part, cluster_size, &mut runs)?;
    }
    let device = Arc::clone(device);
    if attribute.flags & COMPRESSED != 0 && first.unit != 0 {
        if first.unit > 8 {
            return Err(corrupt(format!("NTFS: 2^{} clusters are compressed together", first.unit)));
        }
        let unit = cluster_size << first.unit;
        return Ok(Arc::new(Compressed::new(device, runs, first.size, first.valid, unit)?));
    }
    if next.saturating_mul(cluster_size) < first.size {
        return Err(corrupt(format!("NTFS: a value of {} bytes has {next} clusters", first.size)));
    }
    Ok(Arc::new(MappedFile::new(device, runs, first.size, first.valid)?))
}
