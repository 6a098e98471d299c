//! Measures every codec that could do the work, at every level, on units of a real disk: speed on one core, and size.
//!
//! ```text
//! codecs DISK [EVERY]        every EVERYth unit of 64 KiB that is not zero, 16 when it is not said
//! ```
//!
//! A unit that does not shrink counts as it is. Every result is decoded by another library than the one that made it
//! and compared, so that a row cannot be fast by being wrong.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use transload_block::Codec;
use transload_image::codec::{Encoder, Level};

const UNIT: usize = 64 << 10;
/// Each codec goes over the units this many times; the fastest counts.
const ROUNDS: usize = 3;

/// A codec at one level: a unit into the buffer, and its length there.
struct Candidate {
    name: String,
    kind: Kind,
    encode: Box<dyn FnMut(&[u8], &mut [u8]) -> Option<usize>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Deflate,
    Zlib,
    Zstd,
}

type Decode = Box<dyn FnMut(&[u8], &mut [u8]) -> Option<usize>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let disk = arguments.next().context("which disk?")?;
    let every = arguments.next().map_or(Ok(16), |every| every.parse())?;
    let units = sample(&disk, every)?;
    let total = units.len() * UNIT;
    println!("{} units of 64 KiB, one core, the fastest of {ROUNDS} rounds.\n", units.len());
    println!("| compress | MB/s | ratio | units that do not shrink |\n|---|--:|--:|--:|");
    let mut samples = Vec::new();
    for mut candidate in candidates()? {
        let (time, stored) = compress(&mut candidate, &units)?;
        let kept = stored.iter().filter(|unit| unit.is_none()).count();
        let size: usize = stored.iter().map(|unit| unit.as_ref().map_or(UNIT, Vec::len)).sum();
        println!(
            "| {} | {:.0} | {:.4} | {:.1} % |",
            candidate.name,
            rate(total, time),
            part(size, total),
            100.0 * part(kept, units.len())
        );
        if ["libdeflate 6", "zstd 3", "**VMDK `balanced`**"].contains(&candidate.name.as_str()) {
            samples.push((candidate.kind, stored));
        }
    }
    println!("\n| decompress | MB/s |\n|---|--:|");
    for (name, kind, mut decode) in decoders()? {
        let Some((_, stored)) = samples.iter().find(|(of, _)| *of == kind) else {
            bail!("nothing to decode for {name}")
        };
        let mut fastest = Duration::MAX;
        let mut room = vec![0; UNIT];
        let mut bytes = 0;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            bytes = 0;
            for unit in stored.iter().flatten() {
                ensure!(decode(unit, &mut room) == Some(UNIT), "{name} does not decode");
                bytes += UNIT;
            }
            fastest = fastest.min(start.elapsed());
        }
        println!("| {name} | {:.0} |", rate(bytes, fastest));
    }
    Ok(())
}

/// Every `every`th unit of the disk that is not zero.
fn sample(path: &str, every: usize) -> Result<Vec<Vec<u8>>> {
    let mut disk = File::open(path).with_context(|| path.to_owned())?;
    let size = disk.seek(SeekFrom::End(0))?;
    disk.rewind()?;
    let (mut units, mut found) = (Vec::new(), 0);
    let mut unit = vec![0; UNIT];
    for _ in 0..size / UNIT as u64 {
        disk.read_exact(&mut unit)?;
        if unit.iter().any(|byte| *byte != 0) {
            if found % every == 0 {
                units.push(unit.clone());
            }
            found += 1;
        }
    }
    ensure!(!units.is_empty(), "{path} is all zeroes");
    Ok(units)
}

/// Compresses all units several times, checks what became of them, and answers the best time and the results: `None`
/// for a unit that does not shrink.
fn compress(candidate: &mut Candidate, units: &[Vec<u8>]) -> Result<(Duration, Vec<Option<Vec<u8>>>)> {
    let mut room = vec![0; 2 * UNIT];
    let mut fastest = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for unit in units {
            std::hint::black_box((candidate.encode)(unit, &mut room));
        }
        fastest = fastest.min(start.elapsed());
        // The slow ones say enough in one round.
        if fastest > Duration::from_secs(4) {
            break;
        }
    }
    let mut check = checker(candidate.kind)?;
    let mut stored = Vec::new();
    let mut back = vec![0; UNIT];
    for unit in units {
        let length = (candidate.encode)(unit, &mut room).with_context(|| format!("{} fails", candidate.name))?;
        let same = length >= UNIT || check(&room[..length], &mut back) == Some(UNIT) && back == *unit;
        ensure!(same, "{} makes another unit of one", candidate.name);
        stored.push((length < UNIT).then(|| room[..length].to_vec()));
    }
    Ok((fastest, stored))
}

fn checker(kind: Kind) -> Result<Decode> {
    let found = decoders()?.into_iter().find(|(name, of, _)| *of == kind && !name.starts_with("libdeflate"));
    Ok(found.context("no decoder")?.2)
}

fn candidates() -> Result<Vec<Candidate>> {
    let mut found = transload()?;
    for level in 1..=12 {
        let level_of = libdeflater::CompressionLvl::new(level).map_err(|_| anyhow::anyhow!("libdeflate {level}"))?;
        let mut compressor = libdeflater::Compressor::new(level_of);
        found.push(Candidate {
            name: format!("libdeflate {level}"),
            kind: Kind::Deflate,
            encode: Box::new(move |unit, room| compressor.deflate_compress(unit, room).ok()),
        });
    }
    #[cfg(feature = "igzip")]
    for level in transload_igzip::LEVELS {
        let mut compressor =
            transload_igzip::Compressor::new(level, transload_igzip::Wrapper::Bare).context("no such level")?;
        found.push(Candidate {
            name: format!("ISA-L igzip {level}"),
            kind: Kind::Deflate,
            encode: Box::new(move |unit, room| compressor.compress(unit, room)),
        });
    }
    for level in 1..=9 {
        let mut compressor = zlib_rs::Deflate::new(level, false, 15);
        found.push(Candidate {
            name: format!("zlib-rs {level}"),
            kind: Kind::Deflate,
            encode: Box::new(move |unit, room| {
                compressor.reset();
                let done = compressor.compress(unit, room, zlib_rs::DeflateFlush::Finish).ok()?;
                (done == zlib_rs::Status::StreamEnd).then(|| usize::try_from(compressor.total_out()).ok()).flatten()
            }),
        });
        let mut compressor = flate2::Compress::new(flate2::Compression::new(u32::try_from(level)?), false);
        found.push(Candidate {
            name: format!("zlib-ng {level}"),
            kind: Kind::Deflate,
            encode: Box::new(move |unit, room| {
                compressor.reset();
                let done = compressor.compress(unit, room, flate2::FlushCompress::Finish).ok()?;
                (done == flate2::Status::StreamEnd).then(|| usize::try_from(compressor.total_out()).ok()).flatten()
            }),
        });
    }
    for level in [-5, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 17, 19] {
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        found.push(Candidate {
            name: format!("zstd {level}"),
            kind: Kind::Zstd,
            encode: Box::new(move |unit, room| compressor.compress_to_buffer(unit, room).ok()),
        });
    }
    Ok(found)
}

/// What the product makes of its named levels: one of the others, with a look at the unit beforehand where that pays.
fn transload() -> Result<Vec<Candidate>> {
    let kinds = [
        ("qcow2 zlib", Codec::Deflate, Kind::Deflate),
        ("VMDK", Codec::Zlib, Kind::Zlib),
        ("qcow2 zstd", Codec::Zstd, Kind::Zstd),
    ];
    let mut found = Vec::new();
    for (format, codec, kind) in kinds {
        for name in Level::NAMES {
            let mut encoder = Encoder::new(codec, name.parse()?)?;
            let mut stored = Vec::new();
            let encode = move |unit: &[u8], room: &mut [u8]| {
                // A unit that would not shrink comes back as it is; it counts as that, and must not count as an error.
                if !encoder.encode(unit, UNIT - 1, &mut stored).ok()? {
                    return Some(UNIT);
                }
                room[..stored.len()].copy_from_slice(&stored);
                Some(stored.len())
            };
            found.push(Candidate { name: format!("**{format} `{name}`**"), kind, encode: Box::new(encode) });
        }
    }
    Ok(found)
}

fn decoders() -> Result<Vec<(&'static str, Kind, Decode)>> {
    let mut libdeflate = libdeflater::Decompressor::new();
    let mut zlib_ng = flate2::Decompress::new(false);
    let mut zlib = flate2::Decompress::new(true);
    let mut zlib_rs = zlib_rs::Inflate::new(false, 15);
    let mut zstd = zstd::bulk::Decompressor::new()?;
    Ok(vec![
        ("libdeflate", Kind::Deflate, Box::new(move |stored, unit| libdeflate.deflate_decompress(stored, unit).ok())),
        (
            "zlib-ng",
            Kind::Deflate,
            Box::new(move |stored, unit| {
                zlib_ng.reset(false);
                zlib_ng.decompress(stored, unit, flate2::FlushDecompress::Finish).ok()?;
                usize::try_from(zlib_ng.total_out()).ok()
            }),
        ),
        (
            "zlib-rs",
            Kind::Deflate,
            Box::new(move |stored, unit| {
                zlib_rs.reset(false);
                zlib_rs.decompress(stored, unit, zlib_rs::InflateFlush::Finish).ok()?;
                usize::try_from(zlib_rs.total_out()).ok()
            }),
        ),
        (
            "zlib-ng with its checksum",
            Kind::Zlib,
            Box::new(move |stored, unit| {
                zlib.reset(true);
                zlib.decompress(stored, unit, flate2::FlushDecompress::Finish).ok()?;
                usize::try_from(zlib.total_out()).ok()
            }),
        ),
        ("zstd", Kind::Zstd, Box::new(move |stored, unit| zstd.decompress_to_buffer(stored, unit).ok())),
    ])
}

fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e6
}

fn part(of: usize, whole: usize) -> f64 {
    of as f64 / whole as f64
}
