//! Superblocks of Linux filesystems and swap.

use transload_block::Result;

use super::{Format, Signature, Volume, le16, le32, text, utf16};

/// ext2, ext3 and ext4: the superblock at 1024. Which of them it is follows from its features, as in libblkid.
pub(super) fn ext(volume: &Volume<'_>) -> Result<Option<Signature>> {
    const HAS_JOURNAL: u32 = 0x4;
    /// What ext3 knows: a filetype in directories, a journal to recover, block groups with holes.
    const EXT3_INCOMPATIBLE: u32 = 0x2 | 0x4 | 0x10;
    /// Sparse superblocks, large files, and btree directories.
    const EXT3_READ_ONLY: u32 = 0x1 | 0x2 | 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    let Some(block) = volume.block(1024, 1024, 0x38, &[0x53, 0xef])? else { return Ok(None) };
    let (compatible, incompatible, read_only) = (le32(&block, 0x5c), le32(&block, 0x60), le32(&block, 0x64));
    // An external journal holds no files; a block size that no kernel takes is no superblock.
    if incompatible & JOURNAL_DEVICE != 0 || le32(&block, 0x18) > 6 {
        return Ok(None);
    }
    let is_old = incompatible & !EXT3_INCOMPATIBLE == 0 && read_only & !EXT3_READ_ONLY == 0;
    let format = match (is_old, compatible & HAS_JOURNAL != 0) {
        (true, false) => Format::Ext2,
        (true, true) => Format::Ext3,
        (false, _) => Format::Ext4,
    };
    Ok(Some(Signature::new(format).with_label(text(&block, 0x78..0x88)).with_uuid_bytes(&block[0x68..0x78])))
}

pub(super) fn xfs(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let Some(block) = volume.block(0, 512, 0, b"XFSB")? else { return Ok(None) };
    Ok(Some(Signature::new(Format::Xfs).with_label(text(&block, 108..120)).with_uuid_bytes(&block[32..48])))
}

pub(super) fn btrfs(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let Some(block) = volume.block(64 << 10, 1024, 64, b"_BHRfS_M")? else { return Ok(None) };
    Ok(Some(Signature::new(Format::Btrfs).with_label(text(&block, 299..555)).with_uuid_bytes(&block[32..48])))
}

/// squashfs of version 4; older ones stand in other byte orders and layouts.
pub(super) fn squashfs(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let block = volume.block(0, 96, 0, b"hsqs")?;
    Ok(block.filter(|block| le16(block, 28) == 4).map(|_| Signature::new(Format::Squashfs)))
}

pub(super) fn erofs(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let Some(block) = volume.block(1024, 128, 0, &0xe0f5_e1e2_u32.to_le_bytes())? else { return Ok(None) };
    Ok(Some(Signature::new(Format::Erofs).with_label(text(&block, 64..80)).with_uuid_bytes(&block[48..64])))
}

pub(super) fn f2fs(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let Some(block) = volume.block(1024, 1148, 0, &0xf2f5_2010_u32.to_le_bytes())? else { return Ok(None) };
    let label = utf16(&block[124..1148], u16::from_le_bytes);
    Ok(Some(Signature::new(Format::F2fs).with_label(Some(label)).with_uuid_bytes(&block[108..124])))
}

pub(super) fn cramfs(volume: &Volume<'_>) -> Result<Option<Signature>> {
    let block = volume.block(0, 64, 0, &0x28cd_3d45_u32.to_le_bytes())?;
    let block = block.filter(|block| block[16..32] == *b"Compressed ROMFS");
    Ok(block.map(|block| Signature::new(Format::Cramfs).with_label(text(&block, 48..64))))
}

/// Swap: a magic at the end of the first page, whose size is the machine's.
pub(super) fn swap(volume: &Volume<'_>) -> Result<Option<Signature>> {
    for page in [4096_u64, 8192, 16_384, 32_768, 65_536] {
        let Some(magic) = volume.bytes(page - 10, 10)? else { break };
        if magic != b"SWAPSPACE2" && magic != b"SWAP-SPACE" {
            continue;
        }
        let signature = Signature::new(Format::Swap);
        // The first kind has a bitmap where the second one has a header.
        if magic == b"SWAP-SPACE" {
            return Ok(Some(signature));
        }
        let Some(header) = volume.bytes(1024, 44)? else { break };
        return Ok(Some(signature.with_label(text(&header, 28..44)).with_uuid_bytes(&header[12..28])));
    }
    Ok(None)
}
