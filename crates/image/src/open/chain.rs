//! Walks from an image down to the last layer it hangs from.

use std::time::SystemTime;

use transload_block::{Error, ErrorKind, Result};

use super::{Access, ContentId, Layer, OpenSettings, ParentReference};
use crate::{FileIdentity, Format, OpenRequest, OptionValues, ReferenceGate, Source, detect, known};

/// How many files of a folder are looked at for a parent that is known only by its identifier.
const SIBLINGS_MAX: usize = 512;
/// What a candidate for a parent may keep in memory while it is asked for its identifier.
const CANDIDATE_CACHE: usize = 1 << 20;

/// Opens the layer in `source` and those below it, the top one first.
pub(super) fn open_layers(source: Source, settings: &OpenSettings) -> Result<Vec<Layer>> {
    let mut walk = Walk { settings, layers: Vec::new(), seen: Vec::new() };
    let mut next = Some((source, settings.format));
    while let Some((source, format)) = next {
        next = walk.descend(&source, format)?;
    }
    Ok(walk.layers)
}

struct Walk<'a> {
    settings: &'a OpenSettings,
    layers: Vec<Layer>,
    /// The files of `layers`, those that have an identity.
    seen: Vec<FileIdentity>,
}

/// A file to go on with, and its format where that is known.
type Next = (Source, Option<&'static Format>);

impl Walk<'_> {
    /// Opens one layer and answers what it hangs from.
    fn descend(&mut self, source: &Source, format: Option<&'static Format>) -> Result<Option<Next>> {
        let name = source.display_name();
        self.seen.extend(source.identity());
        let (depth, total) = (self.layers.len(), self.settings.cache_bytes);
        let top = depth == 0;
        let none = OptionValues::default();
        let request = OpenRequest {
            source: source.clone(),
            gate: &self.settings.gate,
            options: if top { &self.settings.options } else { &none },
            access: if top { self.settings.access } else { Access::ReadOnly },
            cache_bytes: if self.settings.chain { cache_share(depth, total) } else { total },
        };
        let layer = open_layer(request, format).map_err(|error| named(error, &name))?;
        if let Some(child) = self.layers.last_mut() {
            check_identity(child, &layer)?;
            child.info.warnings.extend(other_time(child, &layer));
        }
        let next = match &layer.parent {
            Some(parent) if self.settings.chain => Some(self.parent(&layer, parent)?),
            _ => None,
        };
        self.layers.push(layer);
        Ok(next)
    }

    fn parent(&self, child: &Layer, reference: &ParentReference) -> Result<Next> {
        let name = child.source.display_name();
        if self.layers.len() >= ReferenceGate::MAX_DEPTH {
            let depth = ReferenceGate::MAX_DEPTH;
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("{name}: more than {depth} images on top of each other"),
            ));
        }
        let format = reference.format.as_deref().map(|format| declared(format, &name)).transpose()?;
        let source = match reference.content_id {
            // The state it is in is looked at once it is open, to say so when it is another.
            Some(wanted) if reference.names.is_empty() => self.search(child, wanted.disk()),
            Some(wanted @ ContentId::Uuid(_)) => self.first_of_or_search(child, &reference.names, wanted),
            _ => self.first_of(child, &reference.names),
        };
        let source = source.map_err(|error| named(error, &name))?;
        match source.identity() {
            Some(identity) if self.seen.contains(&identity) => {
                let names: Vec<_> = self.layers.iter().map(|layer| layer.source.display_name()).collect();
                let path = [names.as_slice(), &[name, source.display_name()]].concat().join(" -> ");
                Err(Error::new(ErrorKind::Corrupt, format!("the references form a cycle: {path}")))
            }
            _ => Ok((source, format)),
        }
    }

    /// Opens the first of `names` that can be opened; when none can, the first one's error is the one to report.
    fn first_of(&self, child: &Layer, names: &[String]) -> Result<Source> {
        let mut first = None;
        for name in names {
            match self.settings.gate.open(&child.source, name, Access::ReadOnly) {
                Ok(source) => return Ok(source),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::new(ErrorKind::Corrupt, "the image has a parent and does not say which")))
    }

    /// Opens the first of `names` that is there, or else what answers to `wanted`: a parent that was renamed.
    fn first_of_or_search(&self, child: &Layer, names: &[String], wanted: ContentId) -> Result<Source> {
        let missing = match self.first_of(child, names) {
            Err(error) if error.kind() == ErrorKind::Io && child.source.path().is_some() => error,
            answer => return answer,
        };
        match self.search(child, wanted) {
            // Where nothing answers to it either, the name is what a person can do something about.
            Err(error) if error.kind() == ErrorKind::Io => Err(missing),
            answer => answer,
        }
    }

    /// Looks for the parent that answers to `wanted` among the files that stand beside the child.
    fn search(&self, child: &Layer, wanted: ContentId) -> Result<Source> {
        let gate = &self.settings.gate;
        let path = child.source.path().ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                format!("the parent is known only as {wanted}, and the image is in no folder"),
            )
        })?;
        let names = gate.siblings(path, SIBLINGS_MAX)?;
        let mut found: Option<Source> = None;
        for name in &names {
            let Ok(source) = gate.open(&child.source, name, Access::ReadOnly) else { continue };
            if source.identity() == child.source.identity() || !self.answers(&source, child.format, wanted) {
                continue;
            }
            if let Some(other) = found {
                let names = format!("{} and {}", other.display_name(), source.display_name());
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("the parent is known only as {wanted}, and both {names} answer to it"),
                )
                .with_remedy("move all but the right one to another folder"));
            }
            found = Some(source);
        }
        found.ok_or_else(|| {
            let count = names.len();
            Error::new(
                ErrorKind::Io,
                format!(
                    "the parent is known only as {wanted}, and none of the {count} files beside the image answers to it"
                ),
            )
            .with_remedy("put the parent into the folder of the image")
        })
    }

    /// Whether the image in `source` goes by `wanted`, and is of the child's format or known by a UUID, which VirtualBox
    /// gives disks of several formats. Files that cannot be opened are other people's business.
    fn answers(&self, source: &Source, format: &'static Format, wanted: ContentId) -> bool {
        let sure = detect(source.bytes()).and_then(|detection| detection.unambiguous());
        let Ok(found) = sure else { return false };
        if found != format && !matches!(wanted, ContentId::Uuid(_)) {
            return false;
        }
        let request = OpenRequest {
            source: source.clone(),
            gate: &self.settings.gate,
            options: &OptionValues::default(),
            access: Access::ReadOnly,
            cache_bytes: CANDIDATE_CACHE,
        };
        open_layer(request, Some(found)).is_ok_and(|layer| layer.content_ids.contains(&wanted))
    }
}

fn open_layer(request: OpenRequest<'_>, format: Option<&'static Format>) -> Result<Layer> {
    let format = match format {
        Some(format) => format,
        None => detect(request.source.bytes())?.unambiguous()?,
    };
    let Some(open) = format.open else {
        let what = format!("this is {} ({}), which is recognised and cannot be read", format.title, format.name);
        let error = Error::new(ErrorKind::Unsupported, what);
        return Err(match known::advice(format) {
            Some(advice) => error.with_remedy(advice),
            None => error,
        });
    };
    let source = request.source.clone();
    let mut layer = open(request)?;
    let info = &mut layer.info;
    if info.data_file.is_none() && info.extents.iter().all(|extent| extent.file.is_none()) {
        // All that there is stands in the one file; a driver that opens more knows better and says so itself.
        info.file_size = info.file_size.or(Some(source.bytes().size()));
        info.allocated_size = info.allocated_size.or(source.allocated_size());
    }
    Ok(layer)
}

/// The format that an image declares for its parent.
fn declared(format: &str, child: &str) -> Result<&'static Format> {
    Format::by_name(format).ok_or_else(|| {
        let format = format.escape_debug();
        Error::new(
            ErrorKind::Unsupported,
            format!("{child}: its parent is declared to be of format '{format}', which is not known"),
        )
    })
}

/// Refuses a parent that is not what the child was made on: reading through it would give a disk that never was.
fn check_identity(child: &Layer, parent: &Layer) -> Result<()> {
    let Some(wanted) = child.parent.as_ref().and_then(|reference| reference.content_id) else { return Ok(()) };
    if parent.content_ids.contains(&wanted) {
        return Ok(());
    }
    let has: Vec<_> = parent.content_ids.iter().map(ToString::to_string).collect();
    let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
    let (child, parent) = (child.source.display_name(), parent.source.display_name());
    Err(Error::new(
        ErrorKind::Corrupt,
        format!(
            "{child}: its parent {parent} was changed after the snapshot was taken, or is another disk: the child was made \
             on {wanted}, the parent has {has}"
        ),
    ))
}

/// What there is to say where the parent's file has another time than the child took note of. Nothing when either is not
/// known.
fn other_time(child: &Layer, parent: &Layer) -> Option<String> {
    let noted = child.parent.as_ref()?.modified?;
    let found = std::fs::metadata(parent.source.path()?).and_then(|metadata| metadata.modified()).ok()?;
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    (seconds(noted) != seconds(found)).then(|| {
        let (noted, found) = (seconds(noted), seconds(found));
        format!(
            "the parent was last changed at {found} seconds since 1970, and the child noted {noted}: it was copied since, or \
             written to behind its child's back"
        )
    })
}

/// Puts the file's name in front, unless it stands there already.
fn named(error: Error, name: &str) -> Error {
    let text = error.to_string();
    let context = text.strip_prefix(error.kind().as_str()).and_then(|rest| rest.strip_prefix(": "));
    let rest = context.and_then(|context| context.strip_prefix(name));
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':')) { error } else { error.context(name) }
}

/// What the layer at `depth` may keep in memory: most for the upper ones, which are asked most, and for all that there
/// may be no more than `total`.
fn cache_share(depth: usize, total: usize) -> usize {
    match depth {
        0 => total / 2,
        1 => total / 4,
        _ => total / 4 / (ReferenceGate::MAX_DEPTH - 1),
    }
}
