//! `transload stat`: everything that is known of files in an image.

use clap::Args;
use serde::Serialize;
use transload::block::Result;
use transload::filesystem::{FileKind, Follow};

use crate::address::{self, Address};
use crate::failure::Verdict;
use crate::files::{self, FileArgs, show};
use crate::text::{self, Text};

/// Show everything that is known of files in an image
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  transload stat disk.qcow2:/etc/shadow\n  transload stat --json disk.vmdk#2:/")]
pub(crate) struct Arguments {
    /// The files: IMG[#VOLUME]:/PATH
    #[arg(value_name = "IMG[#VOLUME]:/PATH", required = true, value_parser = address::parser())]
    addresses: Vec<Address>,
    /// Follow a symbolic link at the end of the path
    #[arg(short = 'L', long)]
    dereference: bool,
    #[command(flatten)]
    files: FileArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Document {
    files: Vec<StatDocument>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct StatDocument {
    #[serde(flatten)]
    file: show::FileDocument,
    xattrs: Vec<XattrDocument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    streams: Vec<StreamDocument>,
    filesystem: FilesystemDocument,
}

#[derive(Serialize)]
struct XattrDocument {
    name: String,
    /// The value in hexadecimal digits.
    hex: String,
}

#[derive(Serialize)]
struct StreamDocument {
    name: String,
    size: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FilesystemDocument {
    #[serde(rename = "type")]
    kind: &'static str,
    version: String,
    label: String,
    uuid: Option<String>,
    block_size: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let mut text = Text::new();
    let mut documents = Vec::new();
    for address in &arguments.addresses {
        let document = describe(address, arguments)?;
        if arguments.json {
            documents.push(document);
        } else {
            print(&mut text, &document)?;
        }
    }
    text.finish()?;
    if arguments.json {
        text::json(&Document { files: documents })?;
    }
    Ok(Verdict::Done)
}

fn describe(address: &Address, arguments: &Arguments) -> Result<StatDocument> {
    let place = files::open(address, &arguments.files)?;
    let found = place.resolve(address, if arguments.dereference { Follow::All } else { Follow::AllButLast })?;
    let within = |error| place.context(error, &found.path);
    let filesystem = &place.filesystem;
    let metadata = filesystem.stat(found.id).map_err(within)?;
    let is_link = metadata.kind == FileKind::Symlink;
    let target = is_link.then(|| filesystem.read_link(found.id)).transpose().map_err(within)?;
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let xattrs = filesystem.xattrs(found.id).map_err(within)?;
    let streams = filesystem.streams(found.id).map_err(within)?;
    let info = filesystem.info();
    Ok(StatDocument {
        file: show::FileDocument::new(&found.path, found.id.0, &metadata, target.as_deref()),
        xattrs: xattrs
            .iter()
            .map(|xattr| XattrDocument {
                name: lossy(&xattr.name),
                hex: xattr.value.iter().map(|byte| format!("{byte:02x}")).collect(),
            })
            .collect(),
        streams: streams.iter().map(|one| StreamDocument { name: lossy(&one.name), size: one.size }).collect(),
        filesystem: FilesystemDocument {
            kind: info.kind.name(),
            version: info.version.clone(),
            label: info.label.clone(),
            uuid: info.uuid.clone(),
            block_size: info.block_size,
        },
    })
}

fn print(text: &mut Text, document: &StatDocument) -> Result<()> {
    // The JSON has the fields already in the words that people read; one list serves both.
    let fields = serde_json::to_value(&document.file)
        .map_err(|error| transload::block::Error::io("the description of a file", error.into()))?;
    for name in [
        "path",
        "kind",
        "mode",
        "uid",
        "gid",
        "size",
        "allocated",
        "links",
        "inode",
        "modified",
        "accessed",
        "changed",
        "created",
        "target",
        "device",
    ] {
        match fields.get(name) {
            Some(serde_json::Value::String(value)) => text.field(name, show::name(value.as_bytes()))?,
            Some(value) => text.field(name, value)?,
            None => {}
        }
    }
    for xattr in &document.xattrs {
        text.field("xattr", format_args!("{}=0x{}", show::name(xattr.name.as_bytes()), xattr.hex))?;
    }
    for stream in &document.streams {
        text.field("stream", format_args!("{} ({} bytes)", show::name(stream.name.as_bytes()), stream.size))?;
    }
    let filesystem = &document.filesystem;
    text.field("filesystem", &filesystem.version)?;
    if !filesystem.label.is_empty() {
        text.field("label", show::name(filesystem.label.as_bytes()))?;
    }
    if let Some(uuid) = &filesystem.uuid {
        text.field("uuid", uuid)?;
    }
    Ok(())
}
