//! Every volume of a disk, each as a device of its own: partitions, logical volumes, or the disk as a whole.

use std::sync::Arc;

use transload_block::{BlockRead, BlockWrite, Error, ErrorKind, Result, Slice};

use crate::lvm::{Groups, LogicalVolume};
use crate::{Contents, Partition, ReadSettings, Role, Signature, Table, VolumeName, signature};

/// The volumes of a disk, and of others that hold parts of its groups.
#[derive(Clone, Debug)]
pub struct Volumes {
    contents: Contents,
    partitions: Vec<Volume>,
    groups: Groups,
    logical: Vec<Volume>,
    whole: Volume,
}

/// A volume.
#[derive(Clone, Debug)]
pub struct Volume {
    /// How it is addressed.
    pub name: VolumeName,
    /// Bytes.
    pub size: u64,
    /// Its entry, where it is a partition.
    pub partition: Option<Partition>,
    source: Source,
}

/// Where a volume's bytes come from.
#[derive(Clone, Debug)]
enum Source {
    Device(Arc<dyn BlockRead>),
    Logical(LogicalVolume),
    /// A partition that reaches behind its disk, which has this size.
    Cut(u64),
}

impl Volume {
    /// The volume as a disk.
    ///
    /// # Errors
    /// `Corrupt` for a partition that reaches behind its disk; as [`LogicalVolume::device`] for a logical volume.
    pub fn device(&self) -> Result<Arc<dyn BlockRead>> {
        match &self.source {
            Source::Device(device) => Ok(Arc::clone(device)),
            Source::Logical(volume) => volume.device(),
            Source::Cut(disk) => {
                let (name, end) = (&self.name, self.partition.as_ref().map_or(0, |partition| partition.range.end));
                let text = format!("partition {name} ends at byte {end}, and the disk at {disk}");
                Err(Error::new(ErrorKind::Corrupt, text))
            }
        }
    }

    /// What it holds, by its superblock; nothing for an extended partition.
    ///
    /// # Errors
    /// As [`device`](Self::device), and what the device answers.
    pub fn signature(&self) -> Result<Option<Signature>> {
        if self.partition.as_ref().is_some_and(|partition| partition.role == Role::Extended) {
            return Ok(None);
        }
        signature::probe(self.device()?.as_ref())
    }
}

impl Volumes {
    /// Finds the volumes of `disk`. `others` may hold physical volumes of its groups, and count for nothing else.
    ///
    /// # Errors
    /// As [`Contents::read`], for `disk`.
    pub fn scan(disk: &Arc<dyn BlockRead>, others: &[Arc<dyn BlockRead>], settings: ReadSettings) -> Result<Self> {
        let contents = Contents::read(disk.as_ref(), settings)?;
        let partitions = match &contents {
            Contents::Table(table) => partitions(disk, table)?,
            Contents::Whole(_) => Vec::new(),
        };
        let mut members = candidates(disk, &partitions);
        for other in others {
            // A disk that cannot be read as a table may be a physical volume as a whole.
            let inner = match Contents::read(other.as_ref(), settings) {
                Ok(Contents::Table(table)) => self::partitions(other, &table)?,
                Err(error) if error.kind() == ErrorKind::Io => return Err(error),
                _ => Vec::new(),
            };
            members.extend(candidates(other, &inner));
        }
        let groups = Groups::find(&members)?;
        let logical = groups.groups.iter().flat_map(|group| {
            group.volumes.iter().map(|volume| Volume {
                name: VolumeName::Logical { group: group.name.clone(), volume: volume.name.clone() },
                size: volume.size,
                partition: None,
                source: Source::Logical(volume.clone()),
            })
        });
        let source = Source::Device(Arc::clone(disk));
        let whole = Volume { name: VolumeName::Whole, size: disk.size(), partition: None, source };
        Ok(Self { logical: logical.collect(), contents, partitions, groups, whole })
    }

    /// What the disk holds at the top.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The volume groups.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The volumes that may hold something of their own: the partitions, or the disk where it has none, and behind them
    /// the logical volumes.
    pub fn iter(&self) -> impl Iterator<Item = &Volume> {
        let whole = matches!(self.contents, Contents::Whole(_)).then_some(&self.whole);
        self.partitions.iter().chain(whole).chain(&self.logical)
    }

    /// The volume that is called `name`.
    ///
    /// # Errors
    /// `InvalidInput` when there is none, with those that there are; when two groups have the same name.
    pub fn find(&self, name: &VolumeName) -> Result<&Volume> {
        let mut found = self.iter().chain([&self.whole]).filter(|volume| volume.name == *name);
        match (found.next(), found.next()) {
            (Some(volume), None) => Ok(volume),
            // A disk without a table is its own only volume, and listed twice above.
            (Some(volume), Some(_)) if *name == VolumeName::Whole => Ok(volume),
            (Some(_), Some(_)) => {
                let text = format!("two volume groups on these disks have a volume {name}");
                Err(Error::new(ErrorKind::InvalidInput, text))
            }
            (None, _) => {
                let names: Vec<_> = self.iter().map(|volume| volume.name.to_string()).collect();
                let known = if names.is_empty() { String::from("none") } else { names.join(", ") };
                let text = format!("the disk has no volume '{name}'; it has {known}");
                Err(Error::new(ErrorKind::InvalidInput, text))
            }
        }
    }
}

/// The partitions of a table as volumes.
fn partitions(disk: &Arc<dyn BlockRead>, table: &Table) -> Result<Vec<Volume>> {
    let volume = |partition: Partition| {
        let source = if partition.range.end <= disk.size() {
            Source::Device(Arc::new(Slice::new(Arc::clone(disk), partition.range.clone())?))
        } else {
            Source::Cut(disk.size())
        };
        let (name, size) = (VolumeName::Partition(partition.number), partition.size());
        Ok(Volume { name, size, partition: Some(partition), source })
    };
    table.partitions().into_iter().map(volume).collect()
}

/// What of a disk may be a physical volume: its partitions, or all of it.
fn candidates(disk: &Arc<dyn BlockRead>, partitions: &[Volume]) -> Vec<Arc<dyn BlockRead>> {
    if partitions.is_empty() {
        return vec![Arc::clone(disk)];
    }
    let holds_data =
        |volume: &&Volume| volume.partition.as_ref().is_some_and(|partition| partition.role != Role::Extended);
    partitions.iter().filter(holds_data).filter_map(|volume| volume.device().ok()).collect()
}

/// The volume of `disk` that is called `name`, for writing.
///
/// # Errors
/// As [`Volumes::find`] and [`Volume::device`]; `Unsupported` for a logical volume, which is only read; `InvalidInput` for
/// an extended partition, which holds no data.
pub fn writable(disk: &Arc<dyn BlockWrite>, name: &VolumeName, settings: ReadSettings) -> Result<Arc<dyn BlockWrite>> {
    if *name == VolumeName::Whole {
        return Ok(Arc::clone(disk));
    }
    let reader = Arc::clone(disk) as Arc<dyn BlockRead>;
    let volumes = Volumes::scan(&reader, &[], settings)?;
    let volume = volumes.find(name)?;
    let Some(partition) = &volume.partition else {
        let text = format!("{name} is a logical volume, and these are only read");
        return Err(Error::new(ErrorKind::Unsupported, text));
    };
    if partition.role == Role::Extended {
        let text = format!("partition {name} is an extended one, which holds other partitions and no data");
        return Err(Error::new(ErrorKind::InvalidInput, text));
    }
    volume.device()?;
    Ok(Arc::new(Slice::writable(Arc::clone(disk), partition.range.clone())?))
}
