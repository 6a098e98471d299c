//! The editing half of `transload partitions`.

use std::sync::Arc;

use transload::block::{BlockRead, BlockReadExt, BlockWrite, Error, ErrorKind, Result, is_all_zero};
use transload::image::Access;
use transload::volume::{Contents, DiskId, Identifiers, Scheme, Table};

use super::Arguments;
use crate::input;

/// Makes the changes that the arguments ask for, and writes the table once when all of them are possible.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let name = arguments.image.display().to_string();
    let opened = input::prepare(&arguments.image, &arguments.read, Access::ReadWrite)?.open()?;
    let (Some(disk), Some(top)) = (opened.writer(), opened.layers.first().and_then(|layer| layer.writer.clone()))
    else {
        let text = format!("{name}: this kind of image cannot be written in place");
        return Err(Error::new(ErrorKind::Unsupported, text).with_remedy("convert it to raw or qcow2 first"));
    };
    let edited = edit(arguments, &disk).map_err(|error| error.context(&name))?;
    match edited {
        (table, true) => table.initialise(disk.as_ref())?,
        (table, false) => table.write(disk.as_ref())?,
    }
    top.finish()
}

/// The table as it is to be, and whether it is a new one.
fn edit(arguments: &Arguments, disk: &Arc<dyn BlockWrite>) -> Result<(Table, bool)> {
    let size = disk.size();
    let contents = Contents::read(disk.as_ref(), arguments.volumes.settings());
    let (mut table, ids) = match (arguments.init, contents) {
        (Some(kind), contents) => {
            if !arguments.force {
                check_empty(disk.as_ref(), &contents)?;
            }
            new_table(arguments, kind.into(), size)?
        }
        (None, Ok(Contents::Table(table))) => {
            let ids = Identifiers::from_material(&seed(arguments, &table));
            (table, ids)
        }
        (None, Ok(Contents::Whole(_))) => {
            return Err(Error::new(ErrorKind::InvalidInput, "the disk has no partition table")
                .with_remedy("make one with --init gpt"));
        }
        (None, Err(error)) => return Err(error),
    };
    let mut numbers = arguments.delete.clone();
    numbers.sort_unstable();
    numbers.dedup();
    // From the last one on, so that no number means another partition when it is its turn.
    for number in numbers.into_iter().rev() {
        table.delete(number)?;
    }
    table.fit(size)?;
    for spec in &arguments.set {
        let (number, change) = spec.change(table.scheme())?;
        table.change(number, &change)?;
    }
    for spec in &arguments.add {
        let new = spec.new_partition(table.scheme())?;
        table.add(size, &new, arguments.align, &ids)?;
    }
    Ok((table, arguments.init.is_some()))
}

fn new_table(arguments: &Arguments, scheme: Scheme, size: u64) -> Result<(Table, Identifiers)> {
    let sector_size = arguments.volumes.sector_size.unwrap_or(512);
    let material = arguments.seed.clone().unwrap_or_else(|| {
        // An empty disk has no content that could tell it from another: its name does, as for `create`.
        let name = arguments.image.file_name().unwrap_or_default().display();
        format!("partitions {scheme} {name} {size} {sector_size}")
    });
    let ids = Identifiers::from_material(material.as_bytes());
    Ok((Table::create(scheme, size, sector_size, &ids)?, ids))
}

/// What the identifiers of partitions come from that are added to a table.
fn seed(arguments: &Arguments, table: &Table) -> Vec<u8> {
    match (&arguments.seed, table.id()) {
        (Some(seed), _) => seed.clone().into_bytes(),
        (None, DiskId::Guid(guid)) => guid.0.to_vec(),
        (None, DiskId::Signature(signature)) => signature.to_be_bytes().to_vec(),
    }
}

/// Refuses a new table where it would take something away.
fn check_empty(disk: &dyn BlockRead, contents: &Result<Contents>) -> Result<()> {
    const LOOKED_AT: u64 = 1 << 20;
    let found = match contents {
        Ok(Contents::Table(table)) => {
            format!("a table ({}) with {} partitions", table.scheme(), table.partitions().len())
        }
        Ok(Contents::Whole(Some(signature))) => format!("{} without a table", signature.format),
        Ok(Contents::Whole(None)) if is_all_zero(&disk.read_vec(0, LOOKED_AT.min(disk.size()))?) => return Ok(()),
        Ok(Contents::Whole(None)) => String::from("data in its first mebibyte"),
        Err(error) if error.kind() == ErrorKind::Io => {
            return Err(Error::new(ErrorKind::Io, "what the disk holds cannot be read").with_source(error.to_string()));
        }
        Err(error) => error.to_string(),
    };
    Err(Error::new(ErrorKind::Denied, format!("the disk holds {found}"))
        .with_remedy("make a new table all the same with --force"))
}
