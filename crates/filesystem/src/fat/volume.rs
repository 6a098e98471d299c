//! The boot sector of FAT12, FAT16 and FAT32, checked, and what follows from it.

use transload_block::{BlockRead, BlockReadExt, Error, ErrorKind, Result};

use crate::fields::{Fields, unsupported};
use crate::text;

/// How many bits an entry of the allocation table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Twelve,
    Sixteen,
    ThirtyTwo,
}

impl Width {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Twelve => "FAT12",
            Self::Sixteen => "FAT16",
            Self::ThirtyTwo => "FAT32",
        }
    }

    /// The entry that ends a chain.
    pub(super) const fn end(self) -> u32 {
        match self {
            Self::Twelve => 0xFFF,
            Self::Sixteen => 0xFFFF,
            Self::ThirtyTwo => 0x0FFF_FFFF,
        }
    }

    /// Whether an entry ends a chain.
    pub(super) const fn is_end(self, entry: u32) -> bool {
        entry >= self.end() - 7
    }
}

/// Where everything is, in bytes from the start of the device.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    pub(super) width: Width,
    pub(super) cluster_size: u32,
    /// The clusters are 2 to `clusters + 1`.
    pub(super) clusters: u32,
    /// The allocation table that counts.
    pub(super) table: u64,
    /// Copies of it that are kept the same, the first one included.
    pub(super) tables: Vec<u64>,
    /// The first cluster.
    pub(super) data: u64,
    /// The root folder of FAT12 and FAT16: place and length.
    pub(super) fixed_root: (u64, u32),
    /// The root folder of FAT32.
    pub(super) root_cluster: u32,
    /// The sector that counts free clusters.
    pub(super) counts: Option<u64>,
    pub(super) size: u64,
    pub(super) serial: u32,
    pub(super) label: String,
}

impl Volume {
    pub(super) fn read(device: &dyn BlockRead) -> Result<Self> {
        if device.size() < 512 {
            return Err(Error::new(ErrorKind::NotThisFormat, "FAT: the device is too short"));
        }
        let bytes = device.read_vec(0, 512)?;
        let mut this = Self::parse(&bytes)?;
        // Clusters that are not on the device are in no chain: a lie about their number costs no time.
        let held = device.size().saturating_sub(this.data) / u64::from(this.cluster_size);
        this.clusters = this.clusters.min(u32::try_from(held).unwrap_or(u32::MAX));
        Ok(this)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let fields = Fields::new(bytes, "FAT boot sector");
        if !looks_like(bytes) {
            return Err(Error::new(ErrorKind::NotThisFormat, "FAT: no boot sector"));
        }
        let sector = u64::from(fields.le16(0x0B)?);
        let cluster_size = u32::from(fields.le16(0x0B)?) * u32::from(fields.u8(0x0D)?);
        let (reserved, tables) = (u64::from(fields.le16(0x0E)?), u64::from(fields.u8(0x10)?));
        let root_entries = u32::from(fields.le16(0x11)?);
        let sectors = match fields.le16(0x13)? {
            0 => u64::from(fields.le32(0x20)?),
            count => u64::from(count),
        };
        let is_32 = fields.le16(0x16)? == 0;
        let table_sectors = if is_32 { u64::from(fields.le32(0x24)?) } else { u64::from(fields.le16(0x16)?) };
        let root_length = (root_entries * 32).next_multiple_of(u32::from(fields.le16(0x0B)?));
        let first_table = reserved * sector;
        let root = first_table + tables * table_sectors * sector;
        let data = root + u64::from(root_length);
        let size = sectors * sector;
        let room = size.checked_sub(data).ok_or_else(|| {
            fields.corrupt(format!("the tables end at {data}, the filesystem of {sectors} sectors at {size}"))
        })?;
        let clusters = u32::try_from(room / u64::from(cluster_size)).unwrap_or(u32::MAX);
        let width = match (is_32, clusters) {
            (true, _) => Width::ThirtyTwo,
            (_, ..4085) => Width::Twelve,
            _ => Width::Sixteen,
        };
        check_table(&fields, width, clusters, table_sectors * sector)?;
        let flags = if is_32 { fields.le16(0x28)? } else { 0 };
        if is_32 && fields.le16(0x2A)? != 0 {
            return Err(unsupported(format!("FAT32 of version {:#06x}", fields.le16(0x2A)?)));
        }
        let at = |index: u64| first_table + index * table_sectors * sector;
        let (table, copies) = match flags & 0x80 {
            0 => (at(0), (0..tables).map(at).collect()),
            _ => (at(u64::from(flags & 0xF)), vec![at(u64::from(flags & 0xF))]),
        };
        let counts = if is_32 { Some(u64::from(fields.le16(0x30)?)) } else { None };
        let base = if is_32 { 0x43 } else { 0x27 };
        let has_label = matches!(fields.u8(base - 1)?, 0x28 | 0x29);
        let label = if has_label { text::label(fields.bytes(base + 4, 11)?) } else { String::new() };
        Ok(Self {
            width,
            cluster_size,
            clusters,
            table,
            tables: copies,
            data,
            fixed_root: (root, root_entries * 32),
            root_cluster: if is_32 { fields.le32(0x2C)? } else { 0 },
            counts: counts.filter(|sector| (1..reserved).contains(sector)).map(|number| number * sector),
            size,
            serial: if has_label { fields.le32(base)? } else { 0 },
            label: if label == "NO NAME" { String::new() } else { label },
        })
    }

    /// Where a cluster stands, or `Corrupt`.
    pub(super) fn cluster_offset(&self, cluster: u32) -> Result<u64> {
        match cluster.checked_sub(2) {
            Some(index) if index < self.clusters => Ok(self.data + u64::from(index) * u64::from(self.cluster_size)),
            _ => Err(crate::fields::corrupt(format!("FAT: cluster {cluster}, there are 2 to {}", self.clusters + 1))),
        }
    }
}

fn check_table(fields: &Fields<'_>, width: Width, clusters: u32, bytes: u64) -> Result<()> {
    let entries = u64::from(clusters) + 2;
    let needed = match width {
        Width::Twelve => (entries * 3).div_ceil(2),
        Width::Sixteen => entries * 2,
        Width::ThirtyTwo => entries * 4,
    };
    let most = match width {
        Width::Twelve => 4084,
        Width::Sixteen => 65_524,
        Width::ThirtyTwo => 0x0FFF_FFF5,
    };
    if clusters == 0 || clusters > most || needed > bytes {
        let name = width.name();
        return Err(fields.corrupt(format!("{name} with {clusters} clusters and a table of {bytes} bytes")));
    }
    Ok(())
}

/// Whether these first 512 bytes can be a FAT boot sector: there is no magic, but every field has few values.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    let Some(head) = bytes.first_chunk::<512>() else { return false };
    let le16 = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let le32 = |at: usize| u32::from(le16(at)) | u32::from(le16(at + 2)) << 16;
    let jump = (head[0] == 0xEB) || head[0] == 0xE9;
    let (sector, per_cluster, media) = (le16(0x0B), head[0x0D], head[0x15]);
    let is_32 = le16(0x16) == 0;
    jump && (512..=4096).contains(&sector)
        && sector.is_power_of_two()
        && per_cluster.is_power_of_two()
        && le16(0x0E) > 0
        && (1..=4).contains(&head[0x10])
        && (media == 0xF0 || media >= 0xF8)
        && (le16(0x13) != 0 || le32(0x20) != 0)
        && if is_32 { le16(0x11) == 0 && le32(0x24) != 0 } else { le16(0x11) != 0 }
}
