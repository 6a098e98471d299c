//! How often each cluster of a file is referred to, counted while the tables are walked.
//!
//! Memory follows the clusters that are referred to, a byte for each, and not the file's length, which costs nothing to
//! claim. Counts above 126 are rare and stand in a table of their own.

use std::collections::{BTreeMap, HashMap};

use transload_block::{Error, ErrorKind, Result};

use super::open::Geometry;

/// Clusters of a page: small, so that references strewn over a sparse file cost little.
const PAGE: u64 = PAGE_BYTES as u64;
const PAGE_BYTES: usize = 256;
/// The most pages that are kept: 1 GiB of counts, the clusters of a full disk of 64 TiB by default.
const PAGES_MAX: usize = 4 << 20;
/// Set in a cluster's byte when metadata stands there.
const METADATA: u8 = 0x80;
/// The count of a cluster whose real count is in the table of large ones.
const LARGE: u8 = 0x7f;

/// What a reference is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A table that must have its clusters for itself.
    Metadata,
    /// Guest data, which clusters may share.
    Data,
}

/// The counts of a file's clusters.
#[derive(Debug)]
pub(crate) struct References {
    cluster_bits: u32,
    pages: HashMap<u64, Box<[u8; PAGE_BYTES]>>,
    large: HashMap<u64, u64>,
}

impl References {
    pub(crate) fn new(geometry: Geometry) -> Self {
        Self { cluster_bits: geometry.cluster_bits, pages: HashMap::new(), large: HashMap::new() }
    }

    /// Counts `weight` references to each cluster that `length` bytes at `offset` touch. Answers the first of them that
    /// is metadata of something else, or that becomes metadata while it is something else.
    ///
    /// # Errors
    /// `TooLarge` when there is no room for the counts.
    pub(crate) fn add(&mut self, offset: u64, length: u64, weight: u64, used_as: Use) -> Result<Option<u64>> {
        let mut clash = None;
        let end = offset.saturating_add(length.max(1) - 1) >> self.cluster_bits;
        for cluster in offset >> self.cluster_bits..=end {
            let slot = self.slot(cluster)?;
            let before = *slot;
            let clashes = before & METADATA != 0 || (used_as == Use::Metadata && before != 0);
            if used_as == Use::Metadata {
                *slot |= METADATA;
            }
            if clashes && clash.is_none() {
                clash = Some(cluster);
            }
            let sum = self.count(cluster).saturating_add(weight);
            self.set(cluster, sum)?;
        }
        Ok(clash)
    }

    /// Takes back one reference to each cluster of a table.
    pub(crate) fn remove_table(&mut self, offset: u64, length: u64) -> Result<()> {
        for cluster in offset >> self.cluster_bits..=(offset + length - 1) >> self.cluster_bits {
            let count = self.count(cluster);
            self.set(cluster, count.saturating_sub(1))?;
        }
        Ok(())
    }

    /// How often `cluster` is referred to.
    pub(crate) fn count(&self, cluster: u64) -> u64 {
        let Some(page) = self.pages.get(&(cluster / PAGE)) else { return 0 };
        match page[in_page(cluster)] & !METADATA {
            LARGE => self.large.get(&cluster).copied().unwrap_or(0),
            count => count.into(),
        }
    }

    /// The ranges of clusters that anything refers to, in ascending order.
    pub(crate) fn pages(&self) -> Vec<u64> {
        let mut pages: Vec<_> = self.pages.keys().map(|page| page * PAGE).collect();
        pages.sort_unstable();
        pages
    }

    /// Numbers of the stretches of `stretch` clusters in which anything is referred to, each with its first such cluster.
    pub(crate) fn stretches(&self, stretch: u64) -> BTreeMap<u64, u64> {
        let mut found = BTreeMap::new();
        for first in self.pages() {
            let page = &self.pages[&(first / PAGE)];
            for (cluster, _) in (first..).zip(page.iter()).filter(|(_, count)| **count & !METADATA != 0) {
                found.entry(cluster / stretch).or_insert(cluster);
            }
        }
        found
    }

    /// The last cluster that anything refers to.
    pub(crate) fn last(&self) -> Option<u64> {
        let mut pages = self.pages();
        while let Some(first) = pages.pop() {
            if let Some(last) = (first..first + PAGE).rev().find(|cluster| self.count(*cluster) > 0) {
                return Some(last);
            }
        }
        None
    }

    fn set(&mut self, cluster: u64, count: u64) -> Result<()> {
        let short = u8::try_from(count).ok().filter(|short| *short < LARGE);
        let slot = self.slot(cluster)?;
        *slot = *slot & METADATA | short.unwrap_or(LARGE);
        if short.is_none() {
            self.large.insert(cluster, count);
        }
        Ok(())
    }

    fn slot(&mut self, cluster: u64) -> Result<&mut u8> {
        let page = cluster / PAGE;
        if !self.pages.contains_key(&page) && self.pages.len() >= PAGES_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("more than {} clusters are in use, too many to be counted", PAGES_MAX as u64 * PAGE),
            ));
        }
        let page = self.pages.entry(page).or_insert_with(|| Box::new([0; PAGE_BYTES]));
        Ok(&mut page[in_page(cluster)])
    }
}

fn in_page(cluster: u64) -> usize {
    usize::try_from(cluster % PAGE).expect("less than a page")
}
