//! The volumes of an image as a list for people.

use transload::block::Result;

use super::document::{DiskDocument, FilesystemDocument, LogicalDocument, PartitionDocument};
use crate::text::{self, Text};

/// Writes what stands on the disk: its table, its partitions, its groups, and what is wrong with them.
pub(crate) fn print(text: &mut Text, image: &str, disk: &DiskDocument) -> Result<()> {
    let size = text::size(disk.virtual_size);
    match (disk.table, &disk.id, disk.sector_size) {
        (Some(table), Some(id), Some(sector)) => {
            let table = table.to_uppercase();
            text.line(format_args!("{image}: {size}, {table} {id}, sectors of {sector} bytes"))?;
        }
        _ => {
            let inside = disk.filesystem.as_ref().map_or(String::from("nothing that is known"), describe);
            text.line(format_args!("{image}: {size}, no partition table, {inside}"))?;
        }
    }
    if disk.table.is_some() {
        let mut rows = vec![["#", "start", "size", "type", "name", "contents"].map(String::from)];
        rows.extend(disk.partitions.iter().map(partition));
        columns(text, &rows)?;
    }
    for group in &disk.groups {
        text.line("")?;
        let (name, extent) = (&group.name, text::size(group.extent_size));
        text.line(format_args!("volume group {name}, extents of {extent}"))?;
        let mut rows = vec![["volume", "size", "kind", "contents"].map(String::from)];
        rows.extend(group.volumes.iter().map(|volume| logical(&group.name, volume)));
        columns(text, &rows)?;
        for missing in &group.missing {
            text.line(format_args!("missing: physical volume {missing}"))?;
        }
    }
    for finding in &disk.findings {
        text.line(format_args!("{}: {}", finding.severity, finding.text))?;
    }
    Ok(())
}

fn partition(partition: &PartitionDocument) -> [String; 6] {
    let mut kind = partition.type_title.map_or_else(|| partition.type_code.clone(), str::to_owned);
    if partition.active {
        kind.push_str(" (active)");
    }
    let contents = partition.filesystem.as_ref().map_or(String::new(), describe);
    let (start, size) = (text::size(partition.start), text::size(partition.size));
    [partition.number.to_string(), start, size, kind, printable(&partition.name), contents]
}

fn logical(group: &str, volume: &LogicalDocument) -> [String; 4] {
    let contents = match (&volume.unreadable, &volume.filesystem) {
        (Some(error), _) => error.clone(),
        (None, Some(filesystem)) => describe(filesystem),
        (None, None) => String::new(),
    };
    [format!("{group}/{}", volume.name), text::size(volume.size), volume.kinds.join(", "), contents]
}

/// A superblock in a few words: `ext4 'root' 0f3c…`.
pub(crate) fn describe(filesystem: &FilesystemDocument) -> String {
    let mut words = filesystem.kind.to_owned();
    if let Some(version) = filesystem.version {
        words.push_str(&format!(" ({version})"));
    }
    if let Some(label) = &filesystem.label {
        words.push_str(&format!(" '{}'", printable(label)));
    }
    if let Some(uuid) = &filesystem.uuid {
        words.push_str(&format!(" {}", printable(uuid)));
    }
    words
}

/// Text of an image without what would steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character }).collect()
}

/// Writes rows whose columns are as wide as their widest cell.
pub(crate) fn columns<const N: usize>(text: &mut Text, rows: &[[String; N]]) -> Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.line(line.trim_end())?;
    }
    Ok(())
}
