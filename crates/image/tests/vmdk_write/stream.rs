//! streamOptimized, in both layouts.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use transload_image::codec::Level;

use transload_block::{BlockStatus, ErrorKind, Extent, Payload};
use transload_image::{
    Access, CheckRequest, IdSource, OpenSettings, ReferenceGate, SinkOutput, SinkRequest, Source, StreamRequest,
    open_path,
};

use crate::folder::{Folder, VMDK, parse, write_stream};
use crate::{strict, witness};

/// A pipe whose bytes can be looked at.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // Pipes take what they have room for.
        let length = buf.len().min(65_536);
        self.0.lock().unwrap().extend_from_slice(&buf[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Content by place: text-like, noise, zeroes, and a hole of more than a group of grains.
fn content(offset: u64, grain: &mut [u8]) -> bool {
    let number = offset / 65536;
    // Zeroes that the writer is told of and zeroes that it has to find.
    if (70..1800).contains(&number) || number % 7 == 3 {
        return number % 14 == 3 && number.is_multiple_of(5);
    }
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for (place, byte) in grain.iter_mut().enumerate() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = if number.is_multiple_of(3) { state.to_le_bytes()[2] } else { (place / 97 % 251).to_le_bytes()[0] };
    }
    true
}

fn raw_of(folder: &Folder, size: u64) -> std::path::PathBuf {
    let path = folder.folder().join("expected.raw");
    let file = fs::File::create(&path).unwrap();
    file.set_len(size.next_multiple_of(512)).unwrap();
    let mut grain = vec![0; 65536];
    for offset in (0..size).step_by(65536) {
        grain.fill(0);
        let length = usize::try_from((size - offset).min(65536)).unwrap();
        content(offset, &mut grain[..length]);
        file.write_all_at(&grain[..length], offset).unwrap();
    }
    path
}

const SIZES: [u64; 9] = [1, 511, 512, 65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 513, (120 << 20) + 70_001];

#[test]
fn every_size_in_both_layouts_passes_the_strictest_readers() {
    for size in SIZES {
        for layout in ["front", "footer"] {
            let folder = Folder::new("disk.vmdk");
            folder.stream(&content, size, &format!("layout={layout}")).unwrap();
            let file = fs::read(folder.path()).unwrap();
            let stream = strict::read(&file);
            assert_eq!((stream.footer, stream.sectors), (layout == "footer", size.div_ceil(512)), "{size}");
            witness::judge(&folder.path(), &raw_of(&folder, size), size);
            let verdict = witness::openstack(&folder.path());
            // Before release 10 the inspector does not look for a footer, and refuses.
            let safe = verdict == format!("safe vmdk {}", size.next_multiple_of(512));
            assert!(safe || layout == "footer" && verdict.starts_with("refused"), "{size} {layout}: {verdict}");
        }
    }
}

#[test]
fn a_pipe_gets_the_footer_layout_and_the_bytes_of_a_file() {
    let size = (70 << 20) + 1234;
    let pipe = Pipe::default();
    write_stream(SinkOutput::Pipe(Box::new(pipe.clone())), "disk.vmdk", &content, size, "").unwrap();
    let bytes = pipe.0.lock().unwrap().clone();
    assert!(strict::read(&bytes).footer);
    let folder = Folder::new("disk.vmdk");
    folder.stream(&content, size, "layout=footer").unwrap();
    assert_eq!(fs::read(folder.path()).unwrap(), bytes);
}

#[test]
fn an_empty_disk_ends_with_one_sector_of_zeroes() {
    for layout in ["front", "footer"] {
        for size in [0, 1 << 30, 3 << 40] {
            let folder = Folder::new("empty.vmdk");
            sink(&folder, size, &format!("layout={layout}"), Some(&[])).finish().unwrap();
            let file = fs::read(folder.path()).unwrap();
            assert!(strict::read(&file).grains.is_empty(), "{layout} {size}");
            if size == 3 << 40 {
                witness::judge_metadata(&folder.path(), size);
            } else if size > 0 {
                let raw = folder.folder().join("raw");
                fs::File::create(&raw).unwrap().set_len(size).unwrap();
                witness::judge(&folder.path(), &raw, size);
            }
        }
    }
}

fn sink(folder: &Folder, size: u64, options: &str, extents: Option<&[Extent]>) -> Box<dyn transload_block::BlockSink> {
    VMDK.sink.unwrap()(SinkRequest {
        output: SinkOutput::Files(folder),
        name: "empty.vmdk",
        size,
        options: &parse(options),
        level: Some(Level::FAST),
        ids: &IdSource::from_material(b"test"),
        extents,
    })
    .unwrap()
}

#[test]
fn a_hole_of_64_tib_costs_neither_time_nor_space() {
    for layout in ["front", "footer"] {
        let started = Instant::now();
        let folder = Folder::new("hole.vmdk");
        let extent = Extent { offset: 63 << 40, length: 65536, status: BlockStatus::Data };
        let mut sink = sink(&folder, 64 << 40, &format!("layout={layout}"), Some(&[extent]));
        let mut stored = Vec::new();
        let form = sink.encoder().encode(&[7; 65536], &mut stored).unwrap();
        sink.append(63 << 40, form, &stored).unwrap();
        sink.finish().unwrap();
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        let file = fs::read(folder.path()).unwrap();
        assert!(file.len() < 10 << 20, "{}", file.len());
        assert_eq!(strict::read(&file).grains[0].0, 63 << 31);
    }
}

#[test]
fn room_for_tables_is_left_only_where_the_source_has_data() {
    let data = |offset: u64, length: u64| Extent { offset, length, status: BlockStatus::Data };
    let group = 32 << 20;
    // Two in the first group, one across the border of the third and fourth.
    let extents = [data(0, 65536), data(1 << 20, 512), data(4 * group - 65536, 131_072)];
    let folder = Folder::new("t.vmdk");
    let mut sink = sink(&folder, 10 * group, "", Some(&extents));
    let mut stored = Vec::new();
    let form = sink.encoder().encode(&[7; 65536], &mut stored).unwrap();
    for offset in [0, 1 << 20, 4 * group - 65536, 4 * group] {
        sink.append(offset, form, &stored).unwrap();
    }
    // Where none was announced there is no room.
    let mut other = stored.clone();
    other[..stored.len()].copy_from_slice(&stored);
    sink.append(8 * group, form, &other).unwrap();
    assert_eq!(sink.finish().unwrap_err().kind(), ErrorKind::InvalidInput);

    let folder = Folder::new("t.vmdk");
    let mut sink = self::sink(&folder, 10 * group, "", Some(&extents));
    for offset in [0, 1 << 20, 4 * group - 65536, 4 * group] {
        sink.append(offset, form, &stored).unwrap();
    }
    sink.finish().unwrap();
    let file = fs::read(folder.path()).unwrap();
    assert_eq!(strict::read(&file).grains.len(), 4);
    assert_eq!(u64::from_le_bytes(file[64..72].try_into().unwrap()), 22 + 3 * 4);
}

#[test]
fn a_file_that_is_not_finished_is_no_vmdk() {
    for layout in ["front", "footer"] {
        let folder = Folder::new("t.vmdk");
        let mut sink = sink(&folder, 64 << 20, &format!("layout={layout}"), None);
        let mut stored = Vec::new();
        let form = sink.encoder().encode(&[7; 65536], &mut stored).unwrap();
        for grain in 0..600 {
            sink.append(grain << 16, form, &stored).unwrap();
        }
        drop(sink);
        let file = fs::read(folder.path()).unwrap();
        assert!(!file.starts_with(b"KDMV"));
    }
}

#[test]
fn zero_grains_are_left_out_and_order_is_kept() {
    let folder = Folder::new("t.vmdk");
    let mut sink = sink(&folder, 1 << 20, "", None);
    let encoder = sink.encoder();
    let mut stored = Vec::new();
    let form = encoder.encode(&[0; 65536], &mut stored).unwrap();
    sink.append(0, form, &stored).unwrap();
    let form = encoder.encode(&[1; 65536], &mut stored).unwrap();
    sink.append(65536, form, &stored).unwrap();
    for offset in [0, 65536, 65537, 1 << 20] {
        assert_eq!(sink.append(offset, form, &stored).unwrap_err().kind(), ErrorKind::InvalidInput, "{offset}");
    }
    sink.append(131_072, transload_block::Form::Plain, &[2; 65536]).unwrap();
    sink.finish().unwrap();
    assert_eq!(strict::read(&fs::read(folder.path()).unwrap()).grains.len(), 2);
}

#[test]
fn the_descriptor_says_what_the_options_ask() {
    let folder = Folder::new("dürer \"x\".vmdk");
    let options = "adapter_type=ide,hwversion=13,toolsversion=7,round_up=1M";
    folder.stream(&content, 5_000_000, options).unwrap();
    let descriptor = strict::read(&fs::read(folder.path()).unwrap()).descriptor;
    let cid = descriptor.lines().find_map(|line| line.strip_prefix("CID=")).unwrap();
    let expected = format!(
        "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID={cid}\nparentCID=ffffffff\n\
         createType=\"streamOptimized\"\n\n# Extent description\nRW 10240 SPARSE \"d_rer _x_.vmdk\"\n\n\
         # The Disk Data Base\n#DDB\n\nddb.longContentID = \"LONG\"\nddb.virtualHWVersion = \"13\"\n\
         ddb.geometry.cylinders = \"11\"\nddb.geometry.heads = \"16\"\nddb.geometry.sectors = \"63\"\n\
         ddb.adapterType = \"ide\"\nddb.toolsVersion = \"7\"\n"
    );
    let long = descriptor.lines().find_map(|line| line.strip_prefix("ddb.longContentID = ")).unwrap().trim_matches('"');
    assert!(long.len() == 32 && long.ends_with(cid) && !["ffffffff", "fffffffe"].contains(&cid));
    assert_eq!(descriptor, expected.replace("LONG", long));
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let refused = |options: &str| {
        let pipe = SinkOutput::Pipe(Box::new(io::sink()));
        write_stream(pipe, "t.vmdk", &content, 512, options).unwrap_err().kind()
    };
    assert_eq!(refused("layout=front"), ErrorKind::InvalidInput);
    assert_eq!(refused("zeroed_grain=on"), ErrorKind::InvalidInput);
    assert_eq!(refused("backing_file=x"), ErrorKind::InvalidInput);
    assert_eq!(refused("round_up=100"), ErrorKind::InvalidInput);
    assert_eq!(refused("subformat=monolithicSparse"), ErrorKind::Unsupported);
}

/// Reads all of the disk in `file`, and all of what comes when it is a stream.
fn read_both(path: &std::path::Path) -> [transload_block::Result<Vec<u8>>; 2] {
    let settings = OpenSettings { format: Some(VMDK), ..OpenSettings::default() };
    let random = open_path(path, &settings).and_then(|opened| {
        let mut bytes = vec![0; usize::try_from(opened.device.size()).unwrap()];
        opened.device.read_at(&mut bytes, 0)?;
        Ok(bytes)
    });
    let input = Box::new(fs::File::open(path).unwrap());
    let stream = VMDK.stream.unwrap()(StreamRequest { input, options: &parse("") });
    let streamed = stream.and_then(|mut stream| {
        let mut bytes = vec![0; usize::try_from(stream.size().unwrap()).unwrap()];
        while let Some(unit) = stream.next_unit(Vec::new())? {
            let place = usize::try_from(unit.offset).unwrap();
            let place = &mut bytes[place..place + usize::try_from(unit.length).unwrap()];
            match unit.payload {
                Payload::Zero => {}
                Payload::Plain(plain) => place.copy_from_slice(&plain),
                Payload::Encoded { codec, bytes } => {
                    transload_image::codec::decode(codec, &bytes, place)?;
                }
            }
        }
        Ok(bytes)
    });
    [random, streamed]
}

/// What `check` says: the number of corruptions, or the kind of the error.
fn check(path: &std::path::Path) -> Result<u64, ErrorKind> {
    let source = Source::from_path(path, Access::ReadOnly).unwrap();
    let request = CheckRequest { source, gate: &ReferenceGate::SameDirectory, repair: false };
    VMDK.check.unwrap()(request).map(|report| report.corruptions).map_err(|error| error.kind())
}

#[test]
fn a_file_that_is_cut_off_in_its_last_bytes_is_never_read_as_whole() {
    let size = 65_536 + 1000;
    for layout in ["front", "footer", "qemu-img"] {
        let folder = Folder::new("disk.vmdk");
        if layout == "qemu-img" {
            let raw = raw_of(&folder, size);
            transload_testkit::witness::convert(&raw, "raw", &folder.path(), "vmdk", "subformat=streamOptimized");
        } else {
            folder.stream(&content, size, &format!("layout={layout}")).unwrap();
        }
        let file = fs::read(folder.path()).unwrap();
        let [whole, streamed] = read_both(&folder.path());
        let whole = whole.unwrap();
        assert!(streamed.unwrap() == whole, "{layout}");
        assert_eq!(check(&folder.path()), Ok(u64::from(layout == "qemu-img")), "QEMU's padding is no end of a stream");

        let cut = folder.folder().join("cut.vmdk");
        let (mut read, mut refused) = (0, 0);
        // QEMU pads the file behind its last grain.
        let used = file.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let end = file.len().min(used.next_multiple_of(512) + 512);
        fs::write(&cut, &file).unwrap();
        for keep in (end - 2048..end).rev() {
            let what = format!("{layout}, {} of {} bytes", keep, file.len());
            fs::File::options().write(true).open(&cut).unwrap().set_len(keep as u64).unwrap();
            for outcome in read_both(&cut) {
                match outcome {
                    Ok(bytes) => {
                        assert!(layout != "footer", "{what}: a file that needs its footer was read");
                        assert!(bytes == whole, "{what}: other bytes were read");
                        read += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
                        refused += 1;
                    }
                }
            }
            assert!(!matches!(check(&cut), Ok(0)), "{what}: nothing is found");
        }
        assert!(refused > 0 && (layout == "footer" || read > 0), "{layout}: {read} read, {refused} refused");
    }
}
