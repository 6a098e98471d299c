//! Replays the log into the file: what is done before an image that was not closed is written. [MS-VHDX], section 2.3.3.
//!
//! The log stays as it is until everything it changes is durable; a crash in between leaves a file whose log is replayed
//! again, to the same end.

use std::sync::Arc;

use transload_block::{BlockRead, Result, Storage, ZeroMode};

use super::guid::Guid;
use super::journal::Journal;
use super::log::{self, Content};
use super::open::{Header, read_header};

/// Replays the log, if it is not empty, and says so in the header. Answers how many entries there were.
///
/// # Errors
/// As [`log::find`]; what the storage answers.
pub(crate) fn replay(storage: &Arc<dyn Storage>, header: &Header) -> Result<usize> {
    if header.raw.log_guid == Guid::ZERO {
        return Ok(0);
    }
    let file = Arc::clone(storage) as Arc<dyn BlockRead>;
    let found = log::find(&*file, header.log())?;
    if let Some(replay) = &found {
        if storage.size() < replay.file_length {
            storage.set_size(replay.file_length)?;
        }
        for (start, change) in &replay.changes {
            match change.content {
                Content::Zero => {
                    let end = change.end.min(storage.size());
                    storage.write_zeroes_at((*start).min(end)..end, ZeroMode::KeepAllocated)?;
                }
                Content::Sector { .. } => {
                    let sector = change.content.sector(&*file)?;
                    let length = usize::try_from(storage.size() - start).unwrap_or(usize::MAX).min(sector.len());
                    storage.write_at(&sector[..length], *start)?;
                }
            }
        }
        storage.flush()?;
    }
    let mut journal = Journal::new(&read_header(&**storage)?);
    journal.close(&**storage)?;
    Ok(found.map_or(0, |replay| replay.entries))
}
