//! Volume groups, and their logical volumes as devices.

use std::collections::BTreeMap;
use std::sync::Arc;

use transload_block::{BlockRead, Concat, Error, ErrorKind, Result, Slice, Zeros};

use super::label::{Label, dashed, find_label, texts};
use super::striped::Striped;
use super::text::{Section, Value, parse};
use crate::name::is_lvm_name;

/// What the text counts in.
const SECTOR: u64 = 512;
/// Volumes of a group, and segments of a volume: lvm2 itself grows slow at a thousand.
const MAX_VOLUMES: usize = 65_536;
const MAX_SEGMENTS: usize = 65_536;
/// The widest stripes that lvm2 makes.
const MAX_STRIPES: u64 = 128;

/// The groups on a number of devices.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// In the order of their names.
    pub groups: Vec<Group>,
    /// What is wrong with physical volumes that belong to no group that could be read.
    pub failures: Vec<Arc<Error>>,
}

/// A volume group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What tells it from others.
    pub uuid: String,
    /// Bytes of an extent, in which all of its sizes are counted.
    pub extent_size: u64,
    /// The UUIDs of its physical volumes that are on none of the devices.
    pub missing: Vec<String>,
    /// Its volumes in the order of the text, without those that only serve others.
    pub volumes: Vec<LogicalVolume>,
}

/// A logical volume.
#[derive(Clone, Debug)]
pub struct LogicalVolume {
    /// Its name.
    pub name: String,
    /// What tells it from others.
    pub uuid: String,
    /// Bytes.
    pub size: u64,
    /// The kinds of its segments: `linear`, `striped`, `thin`, …
    pub kinds: Vec<String>,
    /// The volume, or why it cannot be read: it needs what is not there.
    device: Result<Arc<dyn BlockRead>, Arc<Error>>,
}

impl LogicalVolume {
    /// The volume as a disk.
    ///
    /// # Errors
    /// `Unsupported` for kinds of segments that are not handled; `InvalidInput` when a physical volume is missing;
    /// `Corrupt` when the segments leave gaps or reach behind their physical volumes.
    pub fn device(&self) -> Result<Arc<dyn BlockRead>> {
        let failed = |error: &Arc<Error>| {
            let again = Error::new(error.kind(), plain(error)).context(&self.name);
            match error.remedy() {
                Some(remedy) => again.with_remedy(remedy),
                None => again,
            }
        };
        self.device.as_ref().map(Arc::clone).map_err(failed)
    }
}

/// An error's text without the word for its kind.
fn plain(error: &Error) -> String {
    let text = error.to_string();
    text.strip_prefix(error.kind().as_str())
        .and_then(|rest| rest.strip_prefix(": "))
        .map_or(text.clone(), str::to_owned)
}

/// A physical volume by its UUID.
type Physical = BTreeMap<String, Arc<dyn BlockRead>>;

/// The text of a group with the highest number that was found.
struct Newest {
    number: u64,
    name: String,
    text: Section,
}

impl Groups {
    /// Finds the groups whose physical volumes are among `devices`: disks, partitions, whatever may be one.
    ///
    /// # Errors
    /// What the devices answer. A group that is broken is told in [`failures`](Self::failures).
    pub fn find(devices: &[Arc<dyn BlockRead>]) -> Result<Self> {
        let mut physical = Physical::new();
        let mut newest: BTreeMap<String, Newest> = BTreeMap::new();
        let mut failures = Vec::new();
        for device in devices {
            let Some(label) = find_label(device.as_ref())? else { continue };
            // Two copies of one disk: which of them the group means cannot be told.
            if physical.contains_key(&label.uuid) {
                let text = format!("physical volume {} is there twice", label.uuid);
                failures.push(Arc::new(Error::new(ErrorKind::InvalidInput, text)));
                continue;
            }
            if let Err(error) = collect(device.as_ref(), &label, &mut newest) {
                if error.kind() == ErrorKind::Io {
                    return Err(error);
                }
                failures.push(Arc::new(error));
            }
            physical.insert(label.uuid, Arc::clone(device));
        }
        let mut groups = Vec::new();
        for (uuid, found) in newest {
            match group(uuid, &found, &physical) {
                Ok(group) => groups.push(group),
                Err(error) => failures.push(Arc::new(error.context(format_args!("volume group {}", found.name)))),
            }
        }
        groups.sort_by(|one: &Group, other| (&one.name, &one.uuid).cmp(&(&other.name, &other.uuid)));
        Ok(Self { groups, failures })
    }
}

/// Takes the texts of a physical volume, where they are newer than those that are known.
fn collect(device: &dyn BlockRead, label: &Label, newest: &mut BTreeMap<String, Newest>) -> Result<()> {
    for text in texts(device, label)? {
        let text = parse(&text)?;
        let found = text.sections().find(|(_, section)| section.section("physical_volumes").is_some());
        let Some((name, section)) = found.or_else(|| text.sections().next()) else {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("physical volume {}: its text has no group", label.uuid),
            ));
        };
        let (uuid, number) = (section.text("id")?.to_owned(), section.number("seqno")?);
        if newest.get(&uuid).is_none_or(|known| known.number < number) {
            let (name, text) = (name.to_owned(), section.clone());
            newest.insert(uuid, Newest { number, name, text });
        }
    }
    Ok(())
}

/// What the segments of a group need to know of it.
struct Ground<'a> {
    extent: u64,
    /// By the name that the text has for it: where its first extent begins, how many it has, and the device.
    physical: BTreeMap<&'a str, Place>,
}

struct Place {
    uuid: String,
    start: u64,
    extents: u64,
    device: Option<Arc<dyn BlockRead>>,
}

fn corrupt(text: String) -> Error {
    Error::new(ErrorKind::Corrupt, text)
}

fn group(uuid: String, found: &Newest, devices: &Physical) -> Result<Group> {
    let text = &found.text;
    if !is_lvm_name(&found.name) {
        return Err(corrupt(format!("'{}' is no name of a group", found.name.escape_debug())));
    }
    let sectors = text.number("extent_size")?;
    let extent = sectors
        .checked_mul(SECTOR)
        .filter(|extent| *extent > 0)
        .ok_or_else(|| corrupt(format!("an extent of {sectors} sectors")))?;
    let mut ground = Ground { extent, physical: BTreeMap::new() };
    let mut missing = Vec::new();
    for (name, section) in text.section("physical_volumes").into_iter().flat_map(Section::sections) {
        let uuid = section.text("id")?.to_owned();
        let device = devices.get(&uuid).map(Arc::clone);
        if device.is_none() {
            missing.push(uuid.clone());
        }
        let (start, extents) = (section.number("pe_start")?, section.number("pe_count")?);
        let start = start
            .checked_mul(SECTOR)
            .ok_or_else(|| corrupt(format!("physical volume {name} begins at sector {start}")))?;
        ground.physical.insert(name, Place { uuid, start, extents, device });
    }
    let mut volumes = Vec::new();
    for (name, section) in text.section("logical_volumes").into_iter().flat_map(Section::sections) {
        if volumes.len() == MAX_VOLUMES {
            return Err(Error::new(ErrorKind::TooLarge, format!("more than {MAX_VOLUMES} volumes")));
        }
        if !is_lvm_name(name) {
            return Err(corrupt(format!("'{}' is no name of a volume", name.escape_debug())));
        }
        // Those that are not visible hold the parts of others.
        if section.has_word("status", "VISIBLE") {
            volumes.push(ground.volume(name, section)?);
        }
    }
    Ok(Group { name: found.name.clone(), uuid, extent_size: extent, missing, volumes })
}

/// A segment: which extents of the volume, and the section that tells where they are.
struct Segment<'a> {
    start: u64,
    extents: u64,
    kind: &'a str,
    section: &'a Section,
}

impl Ground<'_> {
    fn volume(&self, name: &str, section: &Section) -> Result<LogicalVolume> {
        let uuid = section.text("id")?.to_owned();
        let mut segments = Vec::new();
        for (_, section) in section.sections().filter(|(name, _)| name.starts_with("segment")) {
            if segments.len() == MAX_SEGMENTS {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!("volume {name}: more than {MAX_SEGMENTS} segments"),
                ));
            }
            let (start, extents) = (section.number("start_extent")?, section.number("extent_count")?);
            segments.push(Segment { start, extents, kind: section.text("type")?, section });
        }
        segments.sort_by_key(|segment| segment.start);
        let mut kinds: Vec<String> = segments.iter().map(|segment| kind_name(segment).to_owned()).collect();
        kinds.dedup();
        let mut end = 0_u64;
        let mut gap = None;
        for segment in &segments {
            if segment.start != end || segment.extents == 0 {
                let (start, extents) = (segment.start, segment.extents);
                gap.get_or_insert_with(|| {
                    corrupt(format!(
                        "a segment of {extents} extents begins at extent {start}, and the one before ends at {end}"
                    ))
                });
            }
            end = segment.start.saturating_add(segment.extents);
        }
        let size = end
            .checked_mul(self.extent)
            .ok_or_else(|| corrupt(format!("volume {name}: {end} extents of {} bytes exceed 64 bits", self.extent)))?;
        let device = match gap {
            Some(error) => Err(error),
            None => self.join(&segments),
        };
        Ok(LogicalVolume { name: name.to_owned(), uuid, size, kinds, device: device.map_err(Arc::new) })
    }

    fn join(&self, segments: &[Segment<'_>]) -> Result<Arc<dyn BlockRead>> {
        let mut parts = segments.iter().map(|segment| self.segment(segment)).collect::<Result<Vec<_>>>()?;
        match parts.pop() {
            Some(only) if parts.is_empty() => Ok(only),
            last => {
                parts.extend(last);
                Ok(Arc::new(Concat::new(parts)?))
            }
        }
    }

    fn segment(&self, segment: &Segment<'_>) -> Result<Arc<dyn BlockRead>> {
        match segment.kind {
            "striped" | "linear" => self.stripes(segment),
            // Checked: the end of the volume fits into 64 bits of bytes.
            "zero" => Ok(Arc::new(Zeros::new(segment.extents * self.extent))),
            other => {
                Err(Error::new(ErrorKind::Unsupported, format!("LVM segments of type '{}'", other.escape_debug())))
            }
        }
    }

    fn stripes(&self, segment: &Segment<'_>) -> Result<Arc<dyn BlockRead>> {
        let places = segment.section.list("stripes")?;
        let width = places.len() as u64 / 2;
        let count = segment.section.number("stripe_count")?;
        if count != width || places.len() % 2 != 0 || !(1..=MAX_STRIPES).contains(&width) {
            return Err(corrupt(format!("{count} stripes with {} values for their places", places.len())));
        }
        if !segment.extents.is_multiple_of(width) {
            return Err(corrupt(format!("{} extents in {width} stripes", segment.extents)));
        }
        let extents = segment.extents / width;
        let part = |pair: &[Value]| match pair {
            [Value::Text(name), Value::Number(first)] => self.area(name, *first, extents),
            _ => Err(corrupt(String::from("the place of a stripe must be a name and a number"))),
        };
        let mut parts = places.chunks_exact(2).map(part).collect::<Result<Vec<_>>>()?;
        if width == 1 {
            return parts.pop().ok_or_else(|| corrupt(String::from("a segment without a place")));
        }
        let sectors = segment.section.number("stripe_size")?;
        let bytes = sectors.checked_mul(SECTOR).unwrap_or(0);
        if !bytes.is_power_of_two() || !self.extent.saturating_mul(extents).is_multiple_of(bytes) {
            return Err(corrupt(format!("stripes of {sectors} sectors in areas of {extents} extents")));
        }
        Ok(Arc::new(Striped::new(parts, bytes)?))
    }

    /// The extents from `first` on of the physical volume that the text calls `name`.
    fn area(&self, name: &str, first: i64, extents: u64) -> Result<Arc<dyn BlockRead>> {
        let Some(place) = self.physical.get(name) else {
            // The parts of stacked volumes are volumes themselves.
            let text = format!("LVM segments that stand on '{}', which is no physical volume", name.escape_debug());
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        let reaches = || {
            corrupt(format!("{extents} extents from {first} of physical volume {name}, which has {}", place.extents))
        };
        let first = u64::try_from(first).map_err(|_| reaches())?;
        first.checked_add(extents).filter(|end| *end <= place.extents).ok_or_else(reaches)?;
        let Some(device) = &place.device else {
            let text = format!("physical volume {} of the group is on none of the disks", dashed_once(&place.uuid));
            return Err(
                Error::new(ErrorKind::InvalidInput, text).with_remedy("name the disk that has it with --with-disk")
            );
        };
        let start = first.checked_mul(self.extent).and_then(|at| at.checked_add(place.start));
        let end = start.and_then(|start| extents.checked_mul(self.extent)?.checked_add(start));
        let (Some(start), Some(end)) = (start, end) else { return Err(reaches()) };
        if end > device.size() {
            let text = format!("extents of physical volume {name} reach to byte {end}, and it has {}", device.size());
            return Err(corrupt(text));
        }
        Ok(Arc::new(Slice::new(Arc::clone(device), start..end)?))
    }
}

/// A UUID with dashes, whether the text has them or not.
fn dashed_once(uuid: &str) -> String {
    if uuid.contains('-') { uuid.to_owned() } else { dashed(uuid.as_bytes()) }
}

/// The name that people have for a segment's kind: a striped one of one stripe is linear.
fn kind_name<'a>(segment: &Segment<'a>) -> &'a str {
    let is_linear = segment.kind == "striped" && segment.section.number("stripe_count").is_ok_and(|count| count == 1);
    if is_linear { "linear" } else { segment.kind }
}
