//! The allocation table: which cluster comes after which.

use transload_block::{Error, ErrorKind, Result};

use super::Fat;
use super::volume::Width;
use crate::fields::corrupt;
use crate::mapped::Runs;

impl Fat {
    /// The entry of a cluster, which the caller has checked.
    pub(super) fn table_entry(&self, cluster: u32) -> Result<u32> {
        let volume = &self.volume;
        let number = u64::from(cluster);
        let mut bytes = [0; 4];
        match volume.width {
            Width::Twelve => {
                self.cache.read(&mut bytes[..2], volume.table + number * 3 / 2)?;
                let pair = u32::from_le_bytes(bytes);
                Ok(if cluster & 1 == 0 { pair & 0xFFF } else { pair >> 4 })
            }
            Width::Sixteen => {
                self.cache.read(&mut bytes[..2], volume.table + number * 2)?;
                Ok(u32::from_le_bytes(bytes))
            }
            Width::ThirtyTwo => {
                self.cache.read(&mut bytes, volume.table + number * 4)?;
                Ok(u32::from_le_bytes(bytes) & 0x0FFF_FFFF)
            }
        }
    }

    /// Sets the entry of a cluster in all copies of the table.
    pub(super) fn set_table_entry(&self, cluster: u32, entry: u32) -> Result<()> {
        let number = u64::from(cluster);
        for table in &self.volume.tables {
            match self.volume.width {
                Width::Twelve => {
                    let at = table + number * 3 / 2;
                    let mut bytes = [0; 2];
                    self.cache.read(&mut bytes, at)?;
                    let pair = u16::from_le_bytes(bytes);
                    let entry = u16::try_from(entry & 0xFFF).unwrap_or(0);
                    let pair = if cluster & 1 == 0 { pair & 0xF000 | entry } else { pair & 0xF | entry << 4 };
                    self.cache.write(&pair.to_le_bytes(), at)?;
                }
                Width::Sixteen => {
                    let entry = u16::try_from(entry & 0xFFFF).unwrap_or(0);
                    self.cache.write(&entry.to_le_bytes(), table + number * 2)?;
                }
                Width::ThirtyTwo => {
                    // The upper four bits are not ours.
                    let at = table + number * 4;
                    let mut bytes = [0; 4];
                    self.cache.read(&mut bytes, at)?;
                    let kept = u32::from_le_bytes(bytes) & 0xF000_0000;
                    self.cache.write(&(kept | entry & 0x0FFF_FFFF).to_le_bytes(), at)?;
                }
            }
        }
        Ok(())
    }

    /// The clusters of a chain from `first` on, at most `most`: a chain that is longer is cut or goes round.
    pub(super) fn chain(&self, first: u32, most: u64) -> Result<Chain> {
        let volume = &self.volume;
        let cluster_size = u64::from(volume.cluster_size);
        let mut chain = Chain { runs: Runs::default(), count: 0, last: first, ended: false };
        let mut cluster = first;
        while chain.count < most {
            chain.runs.push(chain.count * cluster_size, cluster_size, volume.cluster_offset(cluster)?)?;
            chain.count += 1;
            chain.last = cluster;
            if chain.count > u64::from(volume.clusters) {
                return Err(corrupt(format!("FAT: the chain of cluster {first} goes round")));
            }
            let next = self.table_entry(cluster)?;
            if volume.width.is_end(next) {
                chain.ended = true;
                break;
            }
            cluster = next;
        }
        Ok(chain)
    }

    /// Takes a free cluster, marks it as the end of a chain, and puts it behind `before`.
    pub(super) fn allocate(&self, before: Option<u32>) -> Result<u32> {
        let volume = &self.volume;
        let mut counts = self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let last = volume.clusters + 1;
        for step in 0..volume.clusters {
            let cluster = 2 + (counts.next.saturating_sub(2).saturating_add(step)) % volume.clusters;
            if self.table_entry(cluster)? != 0 {
                continue;
            }
            self.set_table_entry(cluster, volume.width.end())?;
            if let Some(before) = before {
                self.set_table_entry(before, cluster)?;
            }
            counts.next = if cluster == last { 2 } else { cluster + 1 };
            counts.free = counts.free.map(|free| free.saturating_sub(1));
            return Ok(cluster);
        }
        let text = format!("FAT: all {} clusters of {} bytes are in use", volume.clusters, volume.cluster_size);
        Err(Error::new(ErrorKind::NoSpace, text))
    }

    /// Gives the clusters of a chain back.
    pub(super) fn free_chain(&self, first: u32) -> Result<()> {
        let volume = &self.volume;
        let mut cluster = first;
        for _ in 0..volume.clusters {
            volume.cluster_offset(cluster)?;
            let next = self.table_entry(cluster)?;
            self.set_table_entry(cluster, 0)?;
            let mut counts = self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            counts.next = counts.next.min(cluster);
            counts.free = counts.free.map(|free| free.saturating_add(1));
            if volume.width.is_end(next) || next == 0 {
                return Ok(());
            }
            cluster = next;
        }
        Ok(())
    }
}

/// What was found of a chain.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) runs: Runs,
    /// Clusters.
    pub(super) count: u64,
    pub(super) last: u32,
    /// Whether its end was reached.
    pub(super) ended: bool,
}
