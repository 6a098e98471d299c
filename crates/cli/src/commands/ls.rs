//! `transload ls`: what is in a folder of an image.

use clap::Args;
use serde::Serialize;
use transload::block::{Error, Result};
use transload::filesystem::{FileId, FileKind, FileSystemExt, Follow, Metadata};

use crate::address::{self, Address};
use crate::failure::Verdict;
use crate::files::{self, FileArgs, Place, show};
use crate::text::{self, Text};

/// List files and folders in an image
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload ls disk.qcow2:/etc\n  transload ls -lR disk.vmdk#2:/boot\n  transload ls --json disk.raw#1:/ | jq '.files[].path'"
)]
pub(crate) struct Arguments {
    /// What to list: IMG[#VOLUME]:/PATH
    #[arg(value_name = "IMG[#VOLUME]:/PATH", value_parser = address::parser())]
    address: Address,
    /// Show modes, owners, sizes and times
    #[arg(short = 'l', long)]
    long: bool,
    /// List what is in folders as well, all the way down
    #[arg(short = 'R', long)]
    recursive: bool,
    /// List folders themselves, not what is in them
    #[arg(short = 'd', long)]
    directory: bool,
    #[command(flatten)]
    files: FileArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Document {
    files: Vec<show::FileDocument>,
}

/// A file that is to be shown.
struct Row {
    /// The path from the root.
    path: Vec<u8>,
    id: FileId,
    metadata: Metadata,
}

/// How files are listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) long: bool,
    pub(super) recursive: bool,
    pub(super) directory: bool,
    pub(super) json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let place = files::open(&arguments.address, &arguments.files)?;
    let Arguments { long, recursive, directory, json, .. } = *arguments;
    list(&place, arguments.address.path.as_deref().unwrap_or(b"/"), Style { long, recursive, directory, json })
}

/// Lists what stands at a path.
pub(super) fn list(place: &Place, path: &[u8], style: Style) -> Result<Verdict> {
    let follow = if style.long || style.directory { Follow::AllButLast } else { Follow::All };
    let found = place.filesystem.resolve(path, follow).map_err(|error| error.context(&place.name))?;
    let metadata = place.filesystem.stat(found.id).map_err(|error| place.context(error, &found.path))?;
    let start = Row { path: found.path, id: found.id, metadata };
    let mut list = List { place, style, text: Text::new(), documents: Vec::new(), failure: None };
    if style.directory || start.metadata.kind != FileKind::Directory {
        list.rows(&[start])?;
    } else {
        list.folder(&start)?;
    }
    list.finish()
}

struct List<'a> {
    place: &'a Place,
    style: Style,
    text: Text,
    documents: Vec<show::FileDocument>,
    /// The first folder that could not be read; the others are listed all the same.
    failure: Option<Error>,
}

impl List<'_> {
    /// Lists a folder, and with `-R` those in it, one after another.
    fn folder(&mut self, start: &Row) -> Result<()> {
        if !self.style.recursive {
            let rows = self.children(start)?;
            return self.rows(&rows);
        }
        // Folders in the order of `ls -R`: each before those below it. The walk catches circles.
        let mut folder: Option<Vec<u8>> = None;
        let mut rows = Vec::new();
        let mut pending = vec![(start.path.clone(), start.id)];
        let mut seen = std::collections::HashSet::new();
        while let Some((path, id)) = pending.pop() {
            if !seen.insert(id) {
                let error = Error::new(transload::block::ErrorKind::Corrupt, "a folder that is in two places");
                self.fail(self.place.context(error, &path));
                continue;
            }
            let row = Row { path, id, metadata: start.metadata.clone() };
            rows.clear();
            match self.children(&row) {
                Ok(found) => rows.extend(found),
                Err(error) => {
                    self.fail(error);
                    continue;
                }
            }
            if !self.style.json {
                let blank = if folder.is_some() { "\n" } else { "" };
                self.text.line(format_args!("{blank}{}:", show::name(&row.path)))?;
            }
            self.rows(&rows)?;
            let below = rows.iter().rev().filter(|row| row.metadata.kind == FileKind::Directory);
            pending.extend(below.map(|row| (row.path.clone(), row.id)));
            folder = Some(row.path);
            if self.text.is_closed() {
                break;
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: Error) {
        eprintln!("transload: {error}");
        self.failure.get_or_insert(error);
    }

    fn children(&self, folder: &Row) -> Result<Vec<Row>> {
        let filesystem = &self.place.filesystem;
        let within = |error| self.place.context(error, &folder.path);
        let mut rows = Vec::new();
        for entry in filesystem.entries(folder.id).map_err(within)? {
            let mut path = folder.path.clone();
            if path != b"/" {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            let metadata = filesystem.stat(entry.id).map_err(|error| self.place.context(error, &path))?;
            rows.push(Row { path, id: entry.id, metadata });
        }
        Ok(rows)
    }

    fn rows(&mut self, rows: &[Row]) -> Result<()> {
        let target = |row: &Row| match row.metadata.kind {
            FileKind::Symlink => {
                self.place.filesystem.read_link(row.id).map(Some).map_err(|error| self.place.context(error, &row.path))
            }
            _ => Ok(None),
        };
        if self.style.json {
            for row in rows {
                let target = target(row)?;
                self.documents.push(show::FileDocument::new(&row.path, row.id.0, &row.metadata, target.as_deref()));
            }
            return Ok(());
        }
        if !self.style.long {
            for row in rows {
                self.text.line(show::name(last(&row.path)))?;
            }
            return Ok(());
        }
        let width = |of: &dyn Fn(&Row) -> String| rows.iter().map(|row| of(row).len()).max().unwrap_or(0);
        let size = |row: &Row| match row.metadata.device {
            Some((major, minor)) => format!("{major}, {minor}"),
            None => row.metadata.size.to_string(),
        };
        let links = |row: &Row| row.metadata.links.to_string();
        let uid = |row: &Row| row.metadata.owner.uid.to_string();
        let gid = |row: &Row| row.metadata.owner.gid.to_string();
        let (a, b, c, d) = (width(&links), width(&uid), width(&gid), width(&size));
        for row in rows {
            let arrow = target(row)?.map(|target| format!(" -> {}", show::name(&target))).unwrap_or_default();
            self.text.line(format_args!(
                "{} {:>a$} {:>b$} {:>c$} {:>d$} {} {}{arrow}",
                show::mode(&row.metadata),
                links(row),
                uid(row),
                gid(row),
                size(row),
                show::time(row.metadata.modified),
                show::name(last(&row.path)),
            ))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Verdict> {
        self.text.finish()?;
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if self.style.json {
            text::json(&Document { files: self.documents })?;
        }
        Ok(Verdict::Done)
    }
}

/// The last name of a path.
fn last(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) if slash + 1 < path.len() => &path[slash + 1..],
        _ => path,
    }
}
