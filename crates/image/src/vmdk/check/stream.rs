//! A streamOptimized extent as its strictest readers see it: every grain that the tables name inflated, and every marker
//! from the first grain to the end of the stream.

use transload_block::{BlockRead, Codec, Result};
use zerocopy::FromBytes;

use super::Findings;
use crate::codec;
use crate::vmdk::directory;
use crate::vmdk::error::Fault;
use crate::vmdk::hosted::Hosted;
use crate::vmdk::layout::{GrainMarker, Marker, SECTOR, marker};
use crate::vmdk::map::Dialect;

/// Bytes of a grain's marker.
const MARKER: u64 = size_of::<GrainMarker>() as u64;

/// Checks the extent in `file`, which holds `sectors` of the disk.
pub(super) fn check(file: &dyn BlockRead, found: &Hosted, sectors: u64, findings: &mut Findings<'_>) -> Result<()> {
    let header = &found.header;
    let grains = sectors.div_ceil(header.grain_sectors);
    let dialect = Dialect::Hosted { zeroed_grains: header.zeroed_grains, compressed: true };
    let entries = grains.div_ceil(header.gtes_per_gt);
    let directory = directory::choose(file, header, dialect, entries)?.at;
    let mut check = Check { file, found, sectors, findings, grain: Vec::new(), stored: Vec::new(), allocated: 0 };
    check.findings.report.total_units += grains;
    for index in 0..entries {
        check.table(directory + index * 4, index, grains)?;
    }
    let report = &mut check.findings.report;
    report.allocated_units += check.allocated;
    report.compressed_units += check.allocated;
    report.image_end_offset = report.image_end_offset.max(file.size());
    check.markers()
}

struct Check<'a, 'b> {
    file: &'a dyn BlockRead,
    found: &'a Hosted,
    sectors: u64,
    findings: &'a mut Findings<'b>,
    grain: Vec<u8>,
    stored: Vec<u8>,
    allocated: u64,
}

impl Check<'_, '_> {
    fn table(&mut self, entry: u64, index: u64, grains: u64) -> Result<()> {
        let header = &self.found.header;
        let mut word = [0; 4];
        self.file.read_at(&mut word, entry)?;
        let sector = u32::from_le_bytes(word);
        if sector == 0 {
            return Ok(());
        }
        let mut bytes = vec![0; usize::try_from(header.gt_bytes()).unwrap_or(0)];
        self.file.read_at(&mut bytes, u64::from(sector) * SECTOR)?;
        let first = index * header.gtes_per_gt;
        let (words, _) = bytes.as_chunks::<4>();
        for (grain, word) in (first..grains).zip(words) {
            let sector = u32::from_le_bytes(*word);
            if sector == 0 || (sector == 1 && header.zeroed_grains) {
                continue;
            }
            self.allocated += 1;
            if let Some(fault) = self.grain(grain, u64::from(sector) * SECTOR)? {
                self.findings.corruption(&fault.to_string(), false);
            }
        }
        Ok(())
    }

    /// Inflates the grain at byte `at`.
    fn grain(&mut self, grain: u64, at: u64) -> Result<Option<Fault>> {
        let header = &self.found.header;
        let (unit, size) = (header.grain_bytes(), self.file.size());
        let outside = |bytes: u64| Fault::GrainOutside { grain, offset: at, bytes, file: size };
        if at + MARKER > size {
            return Ok(Some(outside(MARKER)));
        }
        let mut bytes = [0; size_of::<GrainMarker>()];
        self.file.read_at(&mut bytes, at)?;
        let Ok(marker) = GrainMarker::read_from_bytes(&bytes) else { return Ok(Some(outside(MARKER))) };
        let (lba, length, expected) = (marker.lba.get(), u64::from(marker.size.get()), grain * header.grain_sectors);
        if lba != expected {
            return Ok(Some(Fault::GrainMarkerPlace { grain, found: lba, expected }));
        }
        // The strictest readers' buffer: the grain and a sector, less the marker.
        let most = unit + SECTOR - MARKER;
        if length == 0 || length > most {
            return Ok(Some(Fault::GrainMarkerSize { grain, size: length, most }));
        }
        if at + MARKER + length > size {
            return Ok(Some(outside(MARKER + length)));
        }
        self.stored.resize(usize::try_from(length).unwrap_or(0), 0);
        self.grain.resize(usize::try_from(unit).unwrap_or(0), 0);
        self.file.read_at(&mut self.stored, at + MARKER)?;
        let inflated = match codec::decode(Codec::Zlib, &self.stored, &mut self.grain) {
            Ok(inflated) => inflated,
            Err(_) => return Ok(Some(Fault::GrainLength { grain, length: 0, expected: unit })),
        };
        // The last grain may hold only the disk's own bytes: open-vmdk writes it so.
        let needed = unit.min((self.sectors - expected) * SECTOR);
        let inflated = inflated as u64;
        if inflated < needed {
            return Ok(Some(Fault::GrainLength { grain, length: inflated, expected: needed }));
        }
        Ok(None)
    }

    /// Goes from marker to marker up to the end of the stream.
    fn markers(&mut self) -> Result<()> {
        let (mut at, mut grains, mut last) = (self.found.header.overhead.saturating_mul(SECTOR), 0, None);
        loop {
            if at.checked_add(SECTOR).is_none_or(|end| end > self.file.size()) {
                self.findings.corruption(
                    "the end-of-stream marker is missing: VMware's importers refuse the file or stop before its end",
                    false,
                );
                break;
            }
            let mut sector = [0; 512];
            self.file.read_at(&mut sector, at)?;
            let Ok(marker) = Marker::read_from_bytes(&sector) else { break };
            if marker.size.get() > 0 {
                let lba = marker.sectors.get();
                if last.is_some_and(|last| lba <= last) {
                    self.findings.corruption(
                        &format!("the grain at sector {lba} does not follow the one before it: VirtualBox refuses it"),
                        false,
                    );
                }
                (last, grains) = (Some(lba), grains + 1);
                at += (MARKER + u64::from(marker.size.get())).next_multiple_of(SECTOR);
                continue;
            }
            match marker.kind.get() {
                marker::EOS => {
                    let behind = self.file.size() - at - SECTOR;
                    if behind > 0 {
                        let message = format!(
                            "{behind} bytes follow the end-of-stream marker: no reader of the stream sees them"
                        );
                        self.findings.corruption(&message, false);
                    }
                    break;
                }
                marker::GRAIN_TABLE | marker::GRAIN_DIRECTORY | marker::FOOTER | marker::PROGRESS => {
                    at = at.saturating_add(SECTOR).saturating_add(marker.sectors.get().saturating_mul(SECTOR));
                }
                kind => {
                    let fault = Fault::MarkerKind { kind, offset: at };
                    self.findings.corruption(&fault.to_string(), false);
                    return Ok(());
                }
            }
        }
        if grains != self.allocated {
            let fault = Fault::StreamCount { tables: self.allocated, grains };
            self.findings.corruption(&fault.to_string(), false);
        }
        Ok(())
    }
}
