//! Filesystems of discs, of Apple, of the BSDs and of VMware.

use transload_block::Result;

use super::{Format, Signature, Volume, array, le32, text, utf16};

/// ISO 9660 and UDF, which share the area of descriptors at 32 KiB: the first is read where both are there, as everything
/// that burns a disc with both does.
pub(super) fn optical(volume: &Volume<'_>) -> Result<Option<Signature>> {
    const SECTOR: u64 = 2048;
    const FIRST: u64 = 16;
    const MOST: u64 = 64;
    let (mut iso, mut joliet, mut is_udf) = (None, None, false);
    for number in FIRST..FIRST + MOST {
        let Some(block) = volume.bytes(number * SECTOR, 2048)? else { break };
        match (&block[1..6], block[0]) {
            (b"CD001", 1) if iso.is_none() => iso = Some(block),
            // The escape sequences of UCS-2 levels 1 to 3.
            (b"CD001", 2) if block[88..90] == *b"%/" && b"@CE".contains(&block[90]) => joliet = Some(block),
            (b"CD001" | b"BEA01" | b"TEA01" | b"BOOT2", _) => {}
            (b"NSR02" | b"NSR03", _) => is_udf = true,
            _ => break,
        }
    }
    let Some(primary) = iso else { return Ok(is_udf.then(|| Signature::new(Format::Udf))) };
    let plain = text(&primary, 40..72).unwrap_or_default();
    let joliet = joliet.map(|block| utf16(&block[40..72], u16::from_be_bytes).trim_end().to_owned());
    let label = joliet.filter(|label| !label.is_empty()).map(|label| completed(label, &plain)).or(Some(plain));
    Ok(Some(Signature::new(Format::Iso9660).with_label(label).with_uuid(iso_date(&primary))))
}

/// A label of Joliet, which has half the length, with the end of the plain one where that begins alike.
fn completed(mut label: String, plain: &str) -> String {
    const LONGEST: usize = 16;
    let is_full = label.chars().count() == LONGEST;
    // What is not in the narrow set of characters stands as an underscore there.
    let alike = label.chars().zip(plain.chars()).all(|(one, other)| one.eq_ignore_ascii_case(&other) || other == '_');
    if is_full && alike {
        label.extend(plain.chars().skip(LONGEST));
    }
    label
}

/// The time of the last change, or of the making, which serves as the UUID of a disc.
fn iso_date(primary: &[u8]) -> Option<String> {
    let date = |at: usize| {
        let digits = primary.get(at..at + 16)?;
        let is_set = digits.iter().all(u8::is_ascii_digit) && digits.iter().any(|digit| *digit != b'0');
        is_set.then(|| String::from_utf8_lossy(digits).into_owned())
    };
    let digits = date(830).or_else(|| date(813))?;
    let parts = [0..4, 4..6, 6..8, 8..10, 10..12, 12..14, 14..16];
    Some(parts.map(|part| &digits[part]).join("-"))
}

/// HFS+ and HFSX: the volume header at 1024.
pub(super) fn hfs_plus(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let Some(header) = volume.bytes(1024, 4)? else { return Ok(None) };
    let is_header = header == b"H+\0\x04" || header == b"HX\0\x05";
    Ok(is_header.then(|| Signature::new(Format::HfsPlus)))
}

pub(super) fn apfs(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let block = volume.block(0, 4096, 32, b"NXSB")?;
    Ok(block.map(|block| Signature::new(Format::Apfs).with_uuid_bytes(&block[72..88])))
}

/// UFS of either version: the superblock at one of four places, with its magic at the end, in either byte order.
pub(super) fn ufs(volume: &Volume<'_>) -> Result<Option<Signature>> {
    for at in [64_u64 << 10, 8 << 10, 0, 256 << 10] {
        let Some(magic) = volume.bytes(at + 1372, 4)? else { continue };
        let magic = le32(&magic, 0);
        if [0x0001_1954, 0x1954_0119].iter().any(|known: &u32| [*known, known.swap_bytes()].contains(&magic)) {
            return Ok(Some(Signature::new(Format::Ufs)));
        }
    }
    Ok(None)
}

/// VMFS: the header of the volume that holds it, at 1 MiB.
pub(super) fn vmfs(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let block = volume.bytes(1 << 20, 4)?;
    let is_there = block.is_some_and(|block| u32::from_le_bytes(array(&block, 0)) == 0xc001_d00d);
    Ok(is_there.then(|| Signature::new(Format::Vmfs)))
}
