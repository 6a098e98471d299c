//! Boot sectors of FAT, exFAT, NTFS and ReFS, with the labels that stand in their directories.

use transload_block::Result;

use super::{Format, Signature, Volume, le16, le32, le64, text, utf16};

/// Of a root directory this much is searched for a label, which stands in front as a rule.
const LABEL_BYTES: u32 = 32 << 10;

/// FAT: told by its cluster count alone whether of 12, 16 or 32 bits (Microsoft's specification 1.03, "FAT type
/// determination").
pub(super) fn fat(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let Some(boot) = volume.bytes(0, 512)? else { return Ok(None) };
    let Some(layout) = FatLayout::of(&boot) else { return Ok(None) };
    let (format, serial_at) = match layout.clusters {
        _ if layout.is_32 => (Format::Fat32, 0x43),
        0..4085 => (Format::Fat12, 0x27),
        _ => (Format::Fat16, 0x27),
    };
    // 0x29 says that serial number, label and type follow, 0x28 that the serial number does.
    let extended = boot[serial_at - 1];
    let serial = matches!(extended, 0x28 | 0x29).then(|| serial(le32(&boot, serial_at)));
    let in_boot = text(&boot, serial_at + 4..serial_at + 15).filter(|label| extended == 0x29 && label != "NO NAME");
    let label = layout.root_label(volume)?.unwrap_or(in_boot);
    Ok(Some(Signature::new(format).with_label(label).with_uuid(serial)))
}

/// A serial number as Windows shows it.
fn serial(number: u32) -> String {
    format!("{:04X}-{:04X}", number >> 16, number & 0xffff)
}

/// The numbers of a FAT boot sector that agree with each other.
struct FatLayout {
    is_32: bool,
    clusters: u64,
    /// The root directory: of FAT12 and FAT16 a place of its own, of FAT32 a chain of clusters.
    root: Root,
}

enum Root {
    Fixed { at: u64, length: u32 },
    Chain(Chain),
}

/// A chain of clusters in a FAT of 32 bits, as FAT32 and exFAT have it. Places are in bytes.
struct Chain {
    table: u64,
    first: u32,
    /// The bits of an entry that count.
    mask: u32,
    /// Where cluster 2 stands.
    heap: u64,
    cluster: u64,
}

impl Chain {
    /// The bytes of the chain's first clusters, as many as may have a label in them. A chain that leads nowhere ends.
    fn head(&self, volume: &Volume<'_>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut number = self.first & self.mask;
        while bytes.len() < LABEL_BYTES as usize {
            let length = u32::try_from(self.cluster).unwrap_or(LABEL_BYTES).min(LABEL_BYTES);
            let at = u64::from(number)
                .checked_sub(2)
                .and_then(|number| number.checked_mul(self.cluster)?.checked_add(self.heap));
            let Some(cluster) = at.map(|at| volume.bytes(at, length)).transpose()?.flatten() else { break };
            bytes.extend(cluster);
            let Some(next) = volume.bytes(self.table.saturating_add(u64::from(number) * 4), 4)? else { break };
            number = le32(&next, 0) & self.mask;
        }
        Ok(bytes)
    }
}

impl FatLayout {
    fn of(boot: &[u8]) -> Option<Self> {
        let has_jump = matches!(boot[0], 0xeb | 0xe9);
        let (sector, cluster_sectors) = (u64::from(le16(boot, 11)), u64::from(boot[13]));
        let (reserved, fats, root_entries) =
            (u64::from(le16(boot, 14)), u64::from(boot[16]), u64::from(le16(boot, 17)));
        let is_media = boot[21] == 0xf0 || boot[21] >= 0xf8;
        let is_sound = has_jump
            && is_media
            && matches!(sector, 512 | 1024 | 2048 | 4096)
            && cluster_sectors.is_power_of_two()
            && reserved > 0
            && (1..=4).contains(&fats)
            && boot[510..512] == [0x55, 0xaa];
        // NTFS and exFAT begin alike, and say that they are something else.
        if !is_sound || boot[3..11] == *b"NTFS    " || boot[3..11] == *b"EXFAT   " {
            return None;
        }
        let total = match le16(boot, 19) {
            0 => u64::from(le32(boot, 32)),
            few => u64::from(few),
        };
        let (is_32, fat_sectors) = match le16(boot, 22) {
            0 => (true, u64::from(le32(boot, 36))),
            few => (false, u64::from(few)),
        };
        let root_sectors = (root_entries * 32).div_ceil(sector);
        let root_at = reserved + fats * fat_sectors;
        let clusters = total.checked_sub(root_at + root_sectors)? / cluster_sectors;
        if fat_sectors == 0 || clusters == 0 || is_32 != (root_entries == 0) {
            return None;
        }
        let bytes = |sectors: u64| sectors.checked_mul(sector);
        let root = if is_32 {
            Root::Chain(Chain {
                table: bytes(reserved)?,
                first: le32(boot, 44),
                mask: 0x0fff_ffff,
                heap: bytes(root_at)?,
                cluster: bytes(cluster_sectors)?,
            })
        } else {
            let length = u32::try_from(root_entries * 32).unwrap_or(LABEL_BYTES).min(LABEL_BYTES);
            Root::Fixed { at: bytes(root_at)?, length }
        };
        Some(Self { is_32, clusters, root })
    }

    /// The label in the root directory: nothing when the directory cannot be read or is not at an end where it was looked at,
    /// an empty one when it has none. It counts before the one in the boot sector, which many programs leave behind.
    fn root_label(&self, volume: &Volume<'_>) -> Result<Option<Option<String>>> {
        const VOLUME: u8 = 0x08;
        const LONG_NAME: u8 = 0x0f;
        let directory = match &self.root {
            Root::Fixed { at, length } => volume.bytes(*at, *length)?.unwrap_or_default(),
            Root::Chain(chain) => chain.head(volume)?,
        };
        for entry in directory.chunks_exact(32) {
            match (entry[0], entry[11]) {
                (0, _) => return Ok(Some(None)),
                (0xe5, _) => {}
                (_, attributes) if attributes & LONG_NAME != LONG_NAME && attributes & VOLUME != 0 => {
                    let name = String::from_utf8_lossy(&entry[..11]);
                    return Ok(Some(Some(name.trim_end().to_owned())));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// exFAT (Microsoft's specification, section 3), with the label in the root directory.
pub(super) fn exfat(volume: &Volume<'_>) -> Result<Option<Signature>> {
    const LABEL_ENTRY: u8 = 0x83;
    let Some(boot) = volume.block(0, 512, 3, b"EXFAT   ")? else { return Ok(None) };
    let (sector_shift, cluster_shift) = (u32::from(boot[108]), u32::from(boot[109]));
    if !(9..=12).contains(&sector_shift) || sector_shift + cluster_shift > 25 {
        return Ok(None);
    }
    let signature = Signature::new(Format::ExFat).with_uuid(Some(serial(le32(&boot, 100))));
    // 32 bits shifted by at most 12.
    let place = |at: usize| u64::from(le32(&boot, at)) << sector_shift;
    let chain = Chain {
        table: place(80),
        first: le32(&boot, 96),
        mask: u32::MAX,
        heap: place(88),
        cluster: 1 << (sector_shift + cluster_shift),
    };
    let directory = chain.head(volume)?;
    let entry = directory.chunks_exact(32).take_while(|entry| entry[0] != 0).find(|entry| entry[0] == LABEL_ENTRY);
    let label = entry.map(|entry| utf16(&entry[2..2 + 2 * usize::from(entry[1].min(11))], u16::from_le_bytes));
    Ok(Some(signature.with_label(label)))
}

/// NTFS, with the label in the `$VOLUME_NAME` attribute of the file `$Volume`, the fourth of the master file table.
pub(super) fn ntfs(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let Some(boot) = volume.block(0, 512, 3, b"NTFS    ")? else { return Ok(None) };
    let sector = u64::from(le16(&boot, 11));
    if !matches!(sector, 512 | 1024 | 2048 | 4096) {
        return Ok(None);
    }
    let signature = Signature::new(Format::Ntfs).with_uuid(Some(format!("{:016X}", le64(&boot, 72))));
    // More than 128 is the negative power of two that large clusters are.
    let sectors = match boot[13] {
        few @ 1..=128 => u64::from(few),
        many => 1_u64.checked_shl(u32::from(many.wrapping_neg())).unwrap_or(0),
    };
    let cluster = sector * sectors.min(1 << 20);
    let record = match boot[64] {
        few @ 1..=127 => cluster * u64::from(few),
        many => 1_u64.checked_shl(u32::from(many.wrapping_neg())).unwrap_or(0),
    };
    if !(512..=65_536).contains(&record) {
        return Ok(Some(signature));
    }
    let table = le64(&boot, 48).checked_mul(cluster);
    let Some(at) = table.and_then(|table| table.checked_add(3 * record)) else { return Ok(Some(signature)) };
    let length = u32::try_from(record).unwrap_or(0);
    let label = volume.block(at, length, 0, b"FILE")?.and_then(|record| volume_name(record, sector));
    Ok(Some(signature.with_label(label)))
}

/// The volume's name in the record of `$Volume`.
fn volume_name(mut record: Vec<u8>, sector: u64) -> Option<String> {
    const VOLUME_NAME: u32 = 0x60;
    const END: u32 = 0xffff_ffff;
    undo_fixups(&mut record, usize::try_from(sector.min(512)).ok()?)?;
    let mut at = usize::from(le16(&record, 20));
    loop {
        let attribute = record.get(at..)?;
        let (kind, length) = (le32(attribute, 0), usize::try_from(le32(attribute, 4)).ok()?);
        if kind == END || length < 24 || attribute.len() < length {
            return None;
        }
        if kind == VOLUME_NAME && attribute[8] == 0 {
            let (size, place) = (usize::try_from(le32(attribute, 16)).ok()?, usize::from(le16(attribute, 20)));
            return Some(utf16(attribute.get(place..place.checked_add(size)?)?, u16::from_le_bytes));
        }
        at += length;
    }
}

/// Puts back the last two bytes of every sector of a record, which the update sequence array keeps.
fn undo_fixups(record: &mut [u8], sector: usize) -> Option<()> {
    let (at, count) = (usize::from(le16(record, 4)), usize::from(le16(record, 6)));
    let kept = record.get(at..at.checked_add(count.checked_mul(2)?)?)?.to_vec();
    for (index, bytes) in kept.chunks_exact(2).skip(1).enumerate() {
        let end = (index + 1).checked_mul(sector)?;
        record.get_mut(end - 2..end)?.copy_from_slice(bytes);
    }
    Some(())
}

pub(super) fn refs(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let boot = volume.block(0, 512, 0, b"\0\0\0ReFS\0\0\0\0\0")?;
    Ok(boot.map(|_| Signature::new(Format::ReFs)))
}
