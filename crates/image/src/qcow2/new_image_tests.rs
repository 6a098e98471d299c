//! New images: created, compressed, written to a pipe, measured; with qemu-img as the judge.

use crate::codec::Level;
use std::io::Write;
use std::sync::{Arc, Mutex};

use transload_block::{BlockSink, BlockStatus, Codec, ErrorKind, Extent, Form, Memory, Storage};

use super::create::write_new_image;
use super::measure::measure;
use super::options::NewImage;
use super::stream::sink;
use super::witness::{
    OneFile, Scratch, assert_same_disk, assert_sound, fill, mixed_disk, must_run, noise, options, qemu_check, qemu_read,
};
use crate::codec::{Encoder, decode};
use crate::{IdSource, MeasureRequest, SinkOutput, SinkRequest};

const DATA: BlockStatus = BlockStatus::Data;

fn sink_into(
    output: SinkOutput<'_>,
    size: u64,
    text: &str,
    level: u32,
    extents: Option<&[Extent]>,
) -> Box<dyn BlockSink> {
    try_sink(output, size, text, level, extents).unwrap()
}

fn try_sink(
    output: SinkOutput<'_>,
    size: u64,
    text: &str,
    level: u32,
    extents: Option<&[Extent]>,
) -> transload_block::Result<Box<dyn BlockSink>> {
    let ids = IdSource::from_material(b"test");
    sink(SinkRequest {
        output,
        name: "test.qcow2",
        size,
        options: &options(text),
        level: Level::number(level).ok(),
        ids: &ids,
        extents,
    })
}

fn file_sink(target: &OneFile, size: u64, text: &str, level: u32) -> Box<dyn BlockSink> {
    sink_into(SinkOutput::Files(target), size, text, level, None)
}

/// A pipe whose bytes can be looked at afterwards.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Extents of the blocks of `granularity` bytes that are not zero.
fn extents_of(disk: &[u8], granularity: usize) -> Vec<Extent> {
    disk.chunks(granularity)
        .enumerate()
        .map(|(index, chunk)| Extent {
            offset: (index * granularity) as u64,
            length: chunk.len() as u64,
            status: if chunk.iter().all(|byte| *byte == 0) { BlockStatus::Hole } else { DATA },
        })
        .collect()
}

#[test]
fn created_images_are_sound_in_every_geometry() {
    let scratch = Scratch::new();
    let cases = [
        (0, ""),
        (1, ""),
        (1000, "compat=0.10"),
        (10 << 20, ""),
        ((10 << 20) + 777, "cluster_size=512"),
        (1 << 40, "cluster_size=2M,extended_l2=on"),
        (3 << 40, "cluster_size=2M,preallocation=metadata"),
        (10 << 20, "refcount_bits=1,lazy_refcounts=on"),
        (10 << 20, "refcount_bits=64,compression_type=zstd,cluster_size=4k"),
        (5 << 20, "preallocation=metadata"),
        (5 << 20, "preallocation=falloc,refcount_bits=2,cluster_size=1k"),
        ((5 << 20) + 512, "preallocation=full,extended_l2=on,cluster_size=16k"),
        (70 << 20, "preallocation=metadata,refcount_bits=4,cluster_size=512"),
    ];
    for (index, (size, text)) in cases.into_iter().enumerate() {
        let name = format!("{index}.qcow2");
        let target = scratch.target(&name);
        let image = NewImage::new(size, &options(text)).unwrap();
        write_new_image(&*target.0, &image).unwrap();
        let path = scratch.path(&name);
        assert_sound(&path);
        let info: serde_json::Value =
            serde_json::from_str(&must_run("qemu-img", ["info", "--output=json", path.to_str().unwrap()])).unwrap();
        assert_eq!(info["virtual-size"].as_u64(), Some(size.next_multiple_of(512)), "{text}");
        assert_eq!(info["cluster-size"].as_u64(), Some(image.geometry.cluster_size()), "{text}");
        // libqcow knows no incompatible feature.
        if !text.contains("extended_l2") && !text.contains("zstd") {
            must_run("qcowinfo", [path.to_str().unwrap()]);
        }
        if size <= 1 << 30 {
            assert!(qemu_read(&path).iter().all(|byte| *byte == 0), "{text}");
        }
    }
}

#[test]
fn a_created_overlay_shows_its_backing_file() {
    let scratch = Scratch::new();
    let disk = mixed_disk(3_000_000);
    std::fs::write(scratch.path("base.raw"), &disk).unwrap();
    for (index, text) in
        ["", "compat=0.10", "cluster_size=512", "extended_l2=on,preallocation=metadata"].iter().enumerate()
    {
        let name = format!("{index}.qcow2");
        let target = scratch.target(&name);
        let image =
            NewImage::new(3_000_000, &options(&format!("backing_file=base.raw,backing_fmt=raw,{text}"))).unwrap();
        write_new_image(&*target.0, &image).unwrap();
        assert_sound(&scratch.path(&name));
        assert_same_disk(&qemu_read(&scratch.path(&name)), &disk, text);
    }
}

#[test]
fn contradicting_options_are_refused() {
    for text in [
        "cluster_size=3000",
        "cluster_size=4M",
        "cluster_size=256",
        "refcount_bits=3",
        "refcount_bits=128",
        "refcount_bits=0",
        "compat=0.10,refcount_bits=8",
        "compat=v2,compression_type=zstd",
        "compat=0.10,extended_l2=on",
        "compat=0.10,lazy_refcounts=on",
        "extended_l2=on,cluster_size=8k",
        "backing_file=x",
        "backing_fmt=raw",
        "backing_file=x,backing_fmt=raw,preallocation=full",
    ] {
        let error = NewImage::new(1 << 20, &options(text)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}: {error}");
    }
    let error = NewImage::new(1 << 40, &options("cluster_size=512")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert_eq!(NewImage::new(u64::MAX, &options("")).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn compressed_images_hold_the_disk_in_every_geometry() {
    let scratch = Scratch::new();
    for (index, (size, level, text)) in [
        (0, 6, ""),
        (1, 6, ""),
        (5_000_001, 1, ""),
        (5_000_000, 12, "compression_type=zstd"),
        (2_000_000, 6, "cluster_size=512"),
        (2_000_000, 3, "cluster_size=4k,refcount_bits=1,compression_type=zstd"),
        (2_000_000, 6, "cluster_size=4k,refcount_bits=2"),
        (9_000_000, 6, "cluster_size=2M,refcount_bits=64"),
        (9_000_123, 6, "cluster_size=16k,extended_l2=on,refcount_bits=8"),
        (5_000_000, 6, "compat=0.10"),
    ]
    .into_iter()
    .enumerate()
    {
        let disk = mixed_disk(size);
        let name = format!("{index}.qcow2");
        let target = scratch.target(&name);
        fill(file_sink(&target, size as u64, text, level), &disk);
        assert_sound(&scratch.path(&name));
        assert_same_disk(&qemu_read(&scratch.path(&name)), &disk, text);
    }
}

#[test]
fn a_compressed_image_writes_refcount_blocks_as_it_goes() {
    let scratch = Scratch::new();
    let disk = noise(24 << 20, 7);
    let target = scratch.target("a.qcow2");
    // A block counts 256 clusters of 512 bytes: 128 KiB of the file.
    fill(file_sink(&target, disk.len() as u64, "cluster_size=512", 1), &disk);
    assert_sound(&scratch.path("a.qcow2"));
    assert_same_disk(&qemu_read(&scratch.path("a.qcow2")), &disk, "noise");
}

#[test]
fn compressed_clusters_stand_at_the_far_end_of_a_large_disk() {
    let scratch = Scratch::new();
    let target = scratch.target("far.qcow2");
    let size = 3 << 40;
    let mut sink = file_sink(&target, size, "", 6);
    let unit = vec![b'x'; 65536];
    let mut stored = Vec::new();
    for offset in [0, 5 << 30, size - 65536] {
        assert_eq!(sink.encoder().encode(&unit, &mut stored).unwrap(), Form::Encoded);
        sink.append(offset, Form::Encoded, &stored).unwrap();
    }
    sink.finish().unwrap();
    assert_sound(&scratch.path("far.qcow2"));
    assert_eq!(qemu_check(&scratch.path("far.qcow2"))["compressed-clusters"], 3);
    let read = must_run(
        "qemu-io",
        [
            "-r",
            "-f",
            "qcow2",
            "-c",
            &format!("read -P 0x78 {} 64k", size - 65536),
            scratch.path("far.qcow2").to_str().unwrap(),
        ],
    );
    assert!(!read.contains("failed"), "{read}");
}

#[test]
fn an_unfinished_image_is_no_qcow2() {
    let scratch = Scratch::new();
    let target = scratch.target("a.qcow2");
    let mut sink = file_sink(&target, 64 << 20, "", 1);
    for index in 0..200_u64 {
        sink.append(index * 65536, Form::Plain, &noise(65536, index)).unwrap();
    }
    drop(sink);
    let bytes = std::fs::read(scratch.path("a.qcow2")).unwrap();
    assert!(bytes.len() > 4 << 20);
    assert!(bytes[..4096].iter().all(|byte| *byte == 0));
}

#[test]
fn sinks_refuse_what_their_contract_forbids() {
    let scratch = Scratch::new();
    let target = scratch.target("a.qcow2");
    let mut sink = file_sink(&target, 1 << 20, "", 1);
    let unit = vec![1; 65536];
    sink.append(65536, Form::Plain, &unit).unwrap();
    for (offset, form, bytes) in [
        (65536, Form::Plain, &unit[..]),
        (0, Form::Plain, &unit[..]),
        (131_073, Form::Plain, &unit[..]),
        (1 << 20, Form::Plain, &unit[..]),
        (131_072, Form::Plain, &unit[1..]),
        (131_072, Form::Encoded, &unit[..]),
        (131_072, Form::Encoded, &[]),
    ] {
        assert_eq!(sink.append(offset, form, bytes).unwrap_err().kind(), ErrorKind::InvalidInput, "{offset} {form:?}");
    }
    for text in ["backing_file=b,backing_fmt=raw", "preallocation=full"] {
        let error = try_sink(SinkOutput::Files(&target), 1 << 20, text, 1, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let error = try_sink(SinkOutput::Pipe(Box::new(Pipe::default())), 1 << 20, "", 1, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.remedy().is_some());
}

#[test]
fn units_of_other_formats_are_adopted() {
    let scratch = Scratch::new();
    let target = scratch.target("a.qcow2");
    let unit = mixed_disk(65536);
    let mut sink = file_sink(&target, 131_072, "", 1);
    let encoder = sink.encoder();
    let (mut foreign, mut stored) = (Vec::new(), Vec::new());
    for (index, codec) in [Codec::Zlib, Codec::Deflate].into_iter().enumerate() {
        assert!(Encoder::new(codec, Level::default()).unwrap().encode(&unit, 65535, &mut foreign).unwrap());
        assert!(encoder.adopt(codec, &foreign, Some(&unit), &mut stored).unwrap());
        let mut back = vec![0; 65536];
        assert_eq!(decode(Codec::Deflate, &stored, &mut back).unwrap(), 65536);
        sink.append(index as u64 * 65536, Form::Encoded, &stored).unwrap();
    }
    assert!(!encoder.adopt(Codec::Zstd, &foreign, Some(&unit), &mut stored).unwrap());
    assert!(!encoder.adopt(Codec::Deflate, &vec![0; 65536], None, &mut stored).unwrap());
    assert!(!encoder.adopt(Codec::Zlib, &[0x78], None, &mut stored).unwrap());
    sink.finish().unwrap();
    assert_sound(&scratch.path("a.qcow2"));
    assert_same_disk(&qemu_read(&scratch.path("a.qcow2")), &[unit.clone(), unit].concat(), "adopted");
}

#[test]
fn encoders_are_shared_by_threads_and_give_the_same_bytes() {
    let scratch = Scratch::new();
    let target = scratch.target("a.qcow2");
    for text in ["", "compression_type=zstd"] {
        let encoder = file_sink(&target, 1 << 20, text, 6).encoder();
        let encode = || {
            let mut all = Vec::new();
            let mut stored = Vec::new();
            for seed in 0..40 {
                let unit = [noise(30_000, seed), vec![7; 35_536]].concat();
                assert_eq!(encoder.encode(&unit, &mut stored).unwrap(), Form::Encoded);
                all.extend_from_slice(&stored);
            }
            all
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            (0..4)
                .map(|_| scope.spawn(encode))
                .collect::<Vec<_>>()
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn a_piped_image_holds_the_disk_in_every_geometry() {
    let scratch = Scratch::new();
    for (index, (size, granularity, text)) in [
        (0, 512, ""),
        (1, 512, ""),
        (5_000_001, 4096, ""),
        (3_000_000, 512, "cluster_size=512"),
        (3_000_000, 4096, "cluster_size=2k,refcount_bits=1"),
        (3_000_000, 4096, "cluster_size=2k,refcount_bits=2"),
        (3_000_000, 4096, "cluster_size=1k,refcount_bits=4"),
        (3_000_000, 4096, "cluster_size=1k,refcount_bits=64"),
        (9_000_000, 1000, "cluster_size=2M,compat=0.10"),
        (9_000_000, 70_000, "cluster_size=16k,extended_l2=on"),
    ]
    .into_iter()
    .enumerate()
    {
        let disk = mixed_disk(size);
        let pipe = Pipe::default();
        let extents = extents_of(&disk, granularity);
        fill(sink_into(SinkOutput::Pipe(Box::new(pipe.clone())), size as u64, text, 1, Some(&extents)), &disk);
        let path = scratch.path(&format!("{index}.qcow2"));
        std::fs::write(&path, &*pipe.0.lock().unwrap()).unwrap();
        assert_sound(&path);
        assert_same_disk(&qemu_read(&path), &disk, text);
    }
}

#[test]
fn announced_clusters_that_do_not_come_are_zeroes() {
    let scratch = Scratch::new();
    let pipe = Pipe::default();
    let extents = [
        Extent { offset: 0, length: 65536, status: DATA },
        Extent { offset: 65536, length: 65536, status: BlockStatus::Zero },
        Extent { offset: 131_072, length: 1 << 20, status: DATA },
    ];
    let mut sink = sink_into(SinkOutput::Pipe(Box::new(pipe.clone())), 4 << 20, "", 1, Some(&extents));
    let unit = noise(65536, 1);
    assert_eq!(sink.append(65536, Form::Plain, &unit).unwrap_err().kind(), ErrorKind::InvalidInput);
    sink.append(262_144, Form::Plain, &unit).unwrap();
    sink.finish().unwrap();
    std::fs::write(scratch.path("a.qcow2"), &*pipe.0.lock().unwrap()).unwrap();
    assert_sound(&scratch.path("a.qcow2"));
    let mut disk = vec![0; 4 << 20];
    disk[262_144..262_144 + 65536].copy_from_slice(&unit);
    assert_same_disk(&qemu_read(&scratch.path("a.qcow2")), &disk, "pipe");
}

#[test]
fn extents_out_of_order_are_refused() {
    let extent = |offset, length| Extent { offset, length, status: DATA };
    for extents in
        [[extent(65536, 10), extent(0, 10)], [extent(0, 10), extent(5, 10)], [extent(0, 10), extent(u64::MAX, 10)]]
    {
        let pipe = SinkOutput::Pipe(Box::new(Pipe::default()));
        let error = try_sink(pipe, 1 << 20, "", 1, Some(&extents)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn measure_agrees_with_qemu() {
    let scratch = Scratch::new();
    let mut disk = mixed_disk(20_000_256);
    disk.resize(30_000_128, 0);
    for (size, text) in [
        (20_000_256, ""),
        (30_000_128, ""),
        (30_000_128, "cluster_size=512"),
        (30_000_128, "cluster_size=2M,refcount_bits=64"),
        (30_000_128, "cluster_size=16k,extended_l2=on"),
        (30_000_128, "preallocation=falloc"),
        (30_000_128, "preallocation=metadata,refcount_bits=1,cluster_size=4k"),
        (0, ""),
    ] {
        // A qcow2 source with small clusters gives QEMU the same allocation on any filesystem.
        let disk = &disk[..size];
        std::fs::write(scratch.path("a.raw"), disk).unwrap();
        let (raw, source) = (scratch.path("a.raw"), scratch.path("a.qcow2"));
        must_run(
            "qemu-img",
            [
                "convert",
                "-S",
                "512",
                "-O",
                "qcow2",
                "-o",
                "cluster_size=512",
                raw.to_str().unwrap(),
                source.to_str().unwrap(),
            ],
        );
        let mut arguments = vec!["measure", "--output=json", "-O", "qcow2"];
        if !text.is_empty() {
            arguments.extend(["-o", text]);
        }
        arguments.push(source.to_str().unwrap());
        let answer = must_run("qemu-img", &arguments);
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let extents = extents_of(disk, 512);
        let measured =
            measure(MeasureRequest { size: size as u64, options: &options(text), extents: &extents }).unwrap();
        assert_eq!(Some(measured.required), answer["required"].as_u64(), "{size} {text}");
        assert_eq!(Some(measured.fully_allocated), answer["fully-allocated"].as_u64(), "{size} {text}");
    }
}

#[test]
fn tables_replace_what_a_block_device_held() {
    let storage = Arc::new(Memory::from(noise(8 << 20, 3)));
    let image = NewImage::new(1 << 20, &options("preallocation=metadata")).unwrap();
    write_new_image(&*storage, &image).unwrap();
    let scratch = Scratch::new();
    std::fs::write(scratch.path("a.qcow2"), storage.to_vec()).unwrap();
    assert_sound(&scratch.path("a.qcow2"));
    assert!(qemu_read(&scratch.path("a.qcow2")).iter().all(|byte| *byte == 0));
    storage.set_size(0).unwrap();
}
