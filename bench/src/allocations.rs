//! Counts the allocations of conversions of compressed images: in the steady state there is none for a unit.
//!
//! Every conversion runs on a disk and on one of twice its size, in this process, under an allocator that counts. What the larger
//! one allocates beyond the smaller one, divided by the units it has more, is the cost of a unit: set-up falls out. More than
//! [`MOST_PER_UNIT`] is an error; what remains is tables, of which there is one for hundreds of units.

use std::alloc::System;
use std::fs::File;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use transload_block::{Error, ErrorKind};
use transload_convert::{Compression, Input, Output, Settings, convert};
use transload_image::codec::Level;
use transload_image::{Format, OpenSettings, OptionValues, StreamRequest, open_path};

// The counting is the crate's, unsafe code included: a global allocator cannot be written without.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const UNIT: u64 = 64 << 10;
/// Enough that every buffer has met its largest unit.
const UNITS: u64 = 4096;
/// A grain table for 512 grains, a block of a channel for 31 tasks, a doubled vector: well below one in a hundred units.
const MOST_PER_UNIT: f64 = 0.02;

/// One conversion: from a format with its options, by a stream or not, to another.
struct Case {
    source: Kind,
    streamed: bool,
    target: Kind,
    trusted: bool,
}

#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    format: &'static str,
    options: &'static str,
    compressed: bool,
}

const RAW: Kind = Kind { name: "raw", format: "raw", options: "", compressed: false };
const VMDK: Kind =
    Kind { name: "streamOptimized", format: "vmdk", options: "subformat=streamOptimized", compressed: true };
const ZLIB: Kind = Kind { name: "qcow2 zlib", format: "qcow2", options: "compression_type=zlib", compressed: true };
const ZSTD: Kind = Kind { name: "qcow2 zstd", format: "qcow2", options: "compression_type=zstd", compressed: true };

const PLAIN: Case = Case { source: RAW, streamed: false, target: RAW, trusted: false };
const CASES: &[Case] = &[
    Case { target: VMDK, ..PLAIN },
    Case { target: ZLIB, ..PLAIN },
    Case { target: ZSTD, ..PLAIN },
    Case { source: VMDK, ..PLAIN },
    Case { source: VMDK, streamed: true, ..PLAIN },
    Case { source: ZLIB, ..PLAIN },
    Case { source: ZSTD, ..PLAIN },
    Case { source: VMDK, target: ZLIB, ..PLAIN },
    Case { source: VMDK, target: ZLIB, streamed: true, ..PLAIN },
    Case { source: VMDK, target: ZLIB, trusted: true, ..PLAIN },
    Case { source: ZLIB, target: VMDK, ..PLAIN },
    Case { source: ZLIB, target: ZLIB, ..PLAIN },
    Case { source: ZSTD, target: ZSTD, ..PLAIN },
];

fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("transload-allocations-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let outcome = measure_all(&folder);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn measure_all(folder: &Path) -> Result<()> {
    println!("| conversion | allocations for {UNITS} units | for {} | for each more |\n|---|--:|--:|--:|", 2 * UNITS);
    let mut wrong = Vec::new();
    for case in CASES {
        // The first run has every thread's own state made.
        let small = allocations(case, folder, UNITS)?;
        let large = allocations(case, folder, 2 * UNITS)?;
        let each = (large as f64 - small as f64) / UNITS as f64;
        let name = format!(
            "{}{} → {}{}",
            if case.streamed { "streamed " } else { "" },
            case.source.name,
            case.target.name,
            if case.trusted { ", trusted" } else { "" }
        );
        println!("| {name} | {small} | {large} | {each:.4} |");
        if each > MOST_PER_UNIT {
            wrong.push(name);
        }
    }
    if !wrong.is_empty() {
        bail!("more than {MOST_PER_UNIT} allocations for a unit: {}", wrong.join(", "));
    }
    Ok(())
}

/// How often memory was asked for while a disk of `units` was converted.
fn allocations(case: &Case, folder: &Path, units: u64) -> Result<usize> {
    let raw = folder.join(format!("{units}.raw"));
    if !raw.exists() {
        write_disk(&raw, units)?;
    }
    let source = folder.join("source");
    if case.source.format == "raw" {
        std::fs::copy(&raw, &source)?;
    } else {
        run(Input::Image(open_path(&raw, &OpenSettings::default())?), &source, case.source, false)?;
    }
    let input = if case.streamed {
        let format = Format::by_name(case.source.format).context("no such format")?;
        let stream = format.stream.context("not read as a stream")?;
        let input = Box::new(File::open(&source)?);
        Input::Stream { format, stream: stream(StreamRequest { input, options: &OptionValues::default() })? }
    } else {
        Input::Image(open_path(&source, &OpenSettings::default())?)
    };
    let region = Region::new(ALLOCATOR);
    run(input, &folder.join("target"), case.target, case.trusted)?;
    let change = region.change();
    Ok(change.allocations + change.reallocations)
}

fn run(input: Input, target: &Path, kind: Kind, trusted: bool) -> Result<(), Error> {
    let format = Format::by_name(kind.format).ok_or_else(|| Error::new(ErrorKind::InvalidInput, "no such format"))?;
    let words = kind.options.split(',').filter(|word| !word.is_empty());
    let settings = Settings {
        options: OptionValues::parse(format.create_options, words)?,
        compression: kind.compressed.then_some(Compression { kind: None, level: Level::FAST }),
        threads: NonZeroUsize::new(2),
        force: true,
        trust_source: trusted,
        ..Settings::new(format)
    };
    convert(input, Output::Path(target.to_owned()), &settings).map(drop)
}

/// A disk in which every unit is compressible and no two are the same.
fn write_disk(path: &Path, units: u64) -> Result<()> {
    let mut file = File::create(path)?;
    let mut state = 1_u64;
    let mut unit = vec![0; usize::try_from(UNIT)?];
    for _ in 0..units {
        for byte in &mut unit {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = b"a disk of words "[(state >> 60) as usize];
        }
        file.write_all(&unit)?;
    }
    Ok(())
}
