//! Which copy of a hosted sparse extent's grain directory is sound.
//!
//! A directory is broken when it is named nowhere, does not fit the file, has an entry for a table that does not fit the
//! file, or lacks a table that the other copy has. A broken first copy is passed over for a sound redundant one, with a
//! warning; when both are broken the extent is corrupt. The choice is made once, over the whole directory: tables of two
//! copies are never mixed.

use transload_block::{BlockRead, Result};

use super::error::Fault;
use super::header::{DirectoryPlace, HostedHeader};
use super::layout::{DIRECTORY_MAX, SECTOR};
use super::map::{Dialect, TablePlace};

/// Bytes of a directory that are looked at together.
const STEP: usize = 64 << 10;

/// The directory to use.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Its first byte.
    pub at: u64,
    /// What a user should know of it.
    pub warning: Option<String>,
}

/// Finds a sound directory of `entries` entries.
pub(crate) fn choose(file: &dyn BlockRead, header: &HostedHeader, dialect: Dialect, entries: u64) -> Result<Directory> {
    let scan = |sector: u64| scan(file, dialect, sector, entries, header.gt_bytes());
    let first = match header.gd {
        DirectoryPlace::Sector(0) | DirectoryPlace::Footer => Ok(Err(Fault::NoDirectory)),
        DirectoryPlace::Sector(sector) => scan(sector).map(|verdict| verdict.map(|()| sector)),
    }?;
    let Some(second) = header.rgd else {
        return Ok(Directory { at: first? * SECTOR, warning: None });
    };
    let redundant = scan(second)?;
    let first = match (first, &redundant) {
        (Ok(sector), Ok(())) => match emptied(file, sector, second, entries)? {
            Some(index) => Err(Fault::DirectoryEmptied { index }),
            None => Ok(sector),
        },
        (first, _) => first,
    };
    match (first, redundant) {
        (Ok(sector), Ok(())) => Ok(Directory { at: sector * SECTOR, warning: None }),
        (Ok(sector), Err(fault)) => {
            let warning = Some(format!("the redundant grain directory is broken: {fault}"));
            Ok(Directory { at: sector * SECTOR, warning })
        }
        (Err(fault), Ok(())) => {
            let warning = Some(format!("the redundant grain directory is used, the first is broken: {fault}"));
            Ok(Directory { at: second * SECTOR, warning })
        }
        (Err(first), Err(redundant)) => {
            Err(Fault::BothDirectories { first: Box::new(first), redundant: Box::new(redundant) }.into())
        }
    }
}

/// Whether a directory and all the tables it names are inside the file.
fn scan(file: &dyn BlockRead, dialect: Dialect, sector: u64, entries: u64, gt_bytes: u64) -> Result<Result<(), Fault>> {
    let size = file.size();
    let bytes = entries * 4;
    if bytes > DIRECTORY_MAX {
        return Ok(Err(Fault::DirectoryTooLarge { what: "grain directory", bytes, most: DIRECTORY_MAX }));
    }
    let inside = sector.checked_mul(SECTOR).and_then(|at| at.checked_add(bytes)).is_some_and(|end| end <= size);
    if !inside {
        return Ok(Err(Fault::OutsideFile { what: "grain directory", sector, bytes, file: size }));
    }
    let mut verdict = Ok(());
    walk(file, sector * SECTOR, entries, |index, value| {
        verdict = match dialect.directory_entry(index, value.into(), gt_bytes) {
            Ok(TablePlace::At(at)) if at + gt_bytes > size => {
                Err(Fault::DirectoryEntry { index, sector: value.into(), bytes: gt_bytes, file: size })
            }
            Ok(_) => Ok(()),
            Err(fault) => Err(fault),
        };
        verdict.is_ok()
    })?;
    Ok(verdict)
}

/// The first entry that is empty in the directory at sector `first` and not in the one at `second`.
fn emptied(file: &dyn BlockRead, first: u64, second: u64, entries: u64) -> Result<Option<u64>> {
    let mut found = None;
    let (mut one, mut other) = (vec![0; STEP], vec![0; STEP]);
    let mut done = 0;
    while done < entries && found.is_none() {
        let count = (entries - done).min(STEP as u64 / 4);
        let length = usize::try_from(count * 4).expect("at most a step");
        file.read_at(&mut one[..length], first * SECTOR + done * 4)?;
        file.read_at(&mut other[..length], second * SECTOR + done * 4)?;
        let pairs = one[..length].chunks_exact(4).zip(other[..length].chunks_exact(4));
        found = pairs.into_iter().zip(done..).find(|((a, b), _)| *a == [0; 4] && *b != [0; 4]).map(|(_, index)| index);
        done += count;
    }
    Ok(found)
}

/// Shows the entries of a directory in order until `see` answers `false`.
fn walk(file: &dyn BlockRead, at: u64, entries: u64, mut see: impl FnMut(u64, u32) -> bool) -> Result<()> {
    let mut block = vec![0; STEP];
    let mut done = 0;
    while done < entries {
        let count = (entries - done).min(STEP as u64 / 4);
        let length = usize::try_from(count * 4).expect("at most a step");
        file.read_at(&mut block[..length], at + done * 4)?;
        for (entry, index) in block[..length].chunks_exact(4).zip(done..) {
            if !see(index, u32::from_le_bytes(entry.try_into().expect("four bytes"))) {
                return Ok(());
            }
        }
        done += count;
    }
    Ok(())
}
