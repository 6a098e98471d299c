//! Partition tables of other machines, which are named and not read.

use transload_block::{BlockRead, Result};

/// The name of a table that is known but not read, where the disk has one.
pub(crate) fn table(device: &dyn BlockRead) -> Result<Option<&'static str>> {
    const LOOKED_AT: usize = 4096;
    let mut head = vec![0; LOOKED_AT];
    let length = usize::try_from(device.size()).unwrap_or(LOOKED_AT).min(LOOKED_AT);
    device.read_at(&mut head[..length], 0)?;
    let has = |at: usize, bytes: &[u8]| head[at..].starts_with(bytes);
    // The disklabel stands in sector 0 or 1, and its magic is there twice.
    let disklabel = |at: usize| has(at, BSD) && has(at + 132, BSD);
    let tables = [
        (has(0, b"ER") && (has(512, b"PM\0\0") || has(2048, b"PM\0\0")), "an Apple partition map"),
        (disklabel(0) || disklabel(64) || disklabel(512), "a BSD disklabel"),
        (has(508, &[0xda, 0xbe]), "a Sun disklabel"),
        (has(0, &[0x0b, 0xe5, 0xa9, 0x41]), "an SGI volume header"),
        (has(0, b"RDSK"), "an Amiga rigid disk block"),
        (has(0, &[0xc9, 0xc2, 0xd4, 0xc1]), "an AIX label"),
    ];
    Ok(tables.into_iter().find(|(there, _)| *there).map(|(_, name)| name))
}

const BSD: &[u8] = &0x8256_4557_u32.to_le_bytes();
