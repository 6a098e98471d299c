//! What holds other volumes: encrypted ones, members of groups and pools.

use transload_block::Result;

use super::{Format, Signature, Volume, array, le32, le64, text};
use crate::Guid;
use crate::lvm;

/// LUKS, both versions, by the header at the start.
pub(super) fn luks(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let Some(header) = volume.block(0, 512, 0, b"LUKS\xba\xbe")? else { return Ok(None) };
    let uuid = text(&header, 168..208);
    Ok(match u16::from_be_bytes(array(&header, 6)) {
        1 => Some(Signature::new(Format::Luks1).with_uuid(uuid)),
        2 => Some(Signature::new(Format::Luks2).with_uuid(uuid).with_label(text(&header, 24..72))),
        _ => None,
    })
}

/// BitLocker: a boot sector that says so. Of BitLocker To Go it is FAT's, with the GUID of the metadata in it.
pub(super) fn bitlocker(volume: &Volume<'_>) -> Result<Option<Signature>> {
    /// The GUID that says where the metadata stands, and the one for a volume that is encrypted in part.
    const METADATA: Guid = Guid::constant("4967d63b-2e29-4ad8-8399-f6a339e3d001");
    const PARTLY: Guid = Guid::constant("92a84d3b-dd80-4d0e-9e4e-b1e3284eaed8");
    let Some(boot) = volume.bytes(0, 512)? else { return Ok(None) };
    let to_go = boot[3..11] == *b"MSWIN4.1" && Guid::from_disk(array(&boot, 424)) == METADATA;
    let own =
        boot[3..11] == *b"-FVE-FS-" && [METADATA, PARTLY, Guid::NIL].contains(&Guid::from_disk(array(&boot, 160)));
    // Windows Vista wrote no GUID, and a version of the structures instead.
    let vista = boot[..11] == *b"\xeb\x52\x90-FVE-FS-";
    Ok((to_go || own || vista).then(|| Signature::new(Format::BitLocker)))
}

pub(super) fn lvm(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let label = lvm::find_label(volume.device)?;
    Ok(label.map(|label| Signature::new(Format::LvmPhysicalVolume).with_uuid(Some(label.uuid))))
}

/// A Linux software RAID: a superblock of version 1 at 4096, at the start or at the end, or one of version 0.90 at the end.
pub(super) fn raid(volume: &Volume<'_>) -> Result<Option<Signature>> {
    const MAGIC: [u8; 4] = 0xa92b_4efc_u32.to_le_bytes();
    // The one at the end stands 8 KiB before it at least, at a multiple of 4 KiB.
    let end = volume.size().checked_sub(8 << 10).map(|end| end & !4095);
    for at in [Some(4096), Some(0), end].into_iter().flatten() {
        let Some(block) = volume.block(at, 256, 0, &MAGIC)? else { continue };
        // The place in sectors that the superblock has of itself.
        if le32(&block, 4) == 1 && le64(&block, 144).checked_mul(512) == Some(at) {
            let signature = Signature::new(Format::LinuxRaid).with_label(text(&block, 32..64));
            return Ok(Some(signature.with_uuid_bytes(&block[16..32])));
        }
    }
    let Some(at) = (volume.size() & !0xffff).checked_sub(64 << 10) else { return Ok(None) };
    let Some(block) = volume.block(at, 256, 0, &MAGIC)? else { return Ok(None) };
    if le32(&block, 4) != 0 {
        return Ok(None);
    }
    // Four words in the byte order of the machine, the first of them apart from the others.
    let mut uuid = [0; 16];
    for (word, from) in uuid.chunks_exact_mut(4).zip([20, 52, 56, 60]) {
        word.copy_from_slice(&le32(&block, from).to_be_bytes());
    }
    Ok(Some(Signature::new(Format::LinuxRaid).with_uuid_bytes(&uuid)))
}

pub(super) fn bluestore(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let block = volume.block(0, 64, 0, b"bluestore block device\n")?;
    Ok(block.map(|_| Signature::new(Format::BlueStore)))
}

/// A member of a ZFS pool: uberblocks in the first label, and the pool's name in the list of pairs before them.
pub(super) fn zfs(volume: &Volume<'_>) -> Result<Option<Signature>> {
    const MAGIC: u64 = 0x00ba_b10c;
    /// One uberblock may be what an overwritten pool left.
    const ENOUGH: usize = 4;
    let Some(ring) = volume.bytes(128 << 10, 128 << 10)? else { return Ok(None) };
    let is_uberblock = |block: &&[u8]| le64(block, 0) == MAGIC || le64(block, 0).swap_bytes() == MAGIC;
    if ring.chunks_exact(1024).filter(is_uberblock).take(ENOUGH).count() < ENOUGH {
        return Ok(None);
    }
    let signature = Signature::new(Format::ZfsMember);
    let Some(pairs) = volume.bytes(16 << 10, 112 << 10)? else { return Ok(Some(signature)) };
    let (name, guid) = pool(&pairs);
    Ok(Some(signature.with_label(name).with_uuid(guid)))
}

/// The name and the GUID in a list of pairs, which is in XDR (`sys/nvpair`): a head of 12 bytes, then for each pair its length
/// twice, its name, the type of its value, how many there are, and the value.
fn pool(pairs: &[u8]) -> (Option<String>, Option<String>) {
    const U64: u32 = 8;
    const STRING: u32 = 9;
    let be32 = |bytes: &[u8], at: usize| u32::from_be_bytes(array(bytes, at));
    let (mut name, mut guid) = (None, None);
    let mut rest = pairs.get(12..).unwrap_or_default();
    while let Some(pair) = rest.get(..be32(rest, 0) as usize).filter(|pair| pair.len() >= 20) {
        let length = be32(pair, 8) as usize;
        let key = pair.get(12..).and_then(|text| text.get(..length)).unwrap_or_default();
        let value = pair.get(12..).and_then(|text| text.get(length.next_multiple_of(4)..)).unwrap_or_default();
        match (key, be32(value, 0)) {
            (b"name", STRING) => {
                let length = be32(value, 8) as usize;
                name = value
                    .get(12..)
                    .and_then(|text| text.get(..length))
                    .map(|text| String::from_utf8_lossy(text).into());
            }
            (b"pool_guid", U64) => guid = Some(u64::from_be_bytes(array(value, 8)).to_string()),
            _ => {}
        }
        rest = rest.get(pair.len()..).unwrap_or_default();
    }
    (name, guid)
}
