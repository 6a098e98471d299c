//! `transload digest`: the digest of what a guest sees, whatever the format it is in.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use transload::block::Result;
use transload::convert::{GuestDigest, Progress, ScanSettings, digest};

use crate::args::{self, Digest, ProgressArgs, ReadArgs};
use crate::failure::Verdict;
use crate::text::{self, Text};
use crate::{input, interrupt, progress};

/// Print the digest of the bytes that a guest sees
///
/// The same disk has the same digest in every format, and a raw image has the one that sha256sum or b3sum prints. A
/// line is as theirs: the digest in hexadecimal, two spaces, the name.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload digest disk.vmdk disk.qcow2\n  transload digest --algorithm blake3 disk.qcow2"
)]
pub(crate) struct Arguments {
    /// The images
    #[arg(value_name = "IMG", required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
    /// Which function
    #[arg(long, value_name = "ALGORITHM", value_enum, default_value = "sha256")]
    algorithm: Digest,
    /// Worker threads; as many as there are cores when not given
    #[arg(long, value_name = "N", value_parser = args::threads())]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Document {
    images: Vec<ImageDocument>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ImageDocument {
    image: String,
    virtual_size: u64,
    #[serde(flatten)]
    digest: GuestDigest,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let cancel = interrupt::install()?;
    let mut text = Text::new();
    let mut images = Vec::new();
    for path in &arguments.images {
        let opened = input::open(path, &arguments.read)?;
        let display = progress::start(arguments.progress.when());
        let settings = ScanSettings {
            threads: arguments.threads,
            progress: display.as_ref().map(|(meter, _)| Arc::clone(meter) as Arc<dyn Progress>),
            cancel: cancel.clone(),
        };
        let digests = digest(&opened.device, &[arguments.algorithm.into()], &settings);
        drop(display);
        for digest in digests? {
            let image = path.display().to_string();
            if arguments.json {
                images.push(ImageDocument { image, virtual_size: opened.device.size(), digest });
            } else {
                text.bytes(&text::digest_line(&digest.hex, path))?;
            }
        }
    }
    text.finish()?;
    if arguments.json {
        text::json(&Document { images })?;
    }
    Ok(Verdict::Done)
}
