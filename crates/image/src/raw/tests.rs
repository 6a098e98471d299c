//! Raw both ways, at odd sizes, on files, devices and pipes.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use transload_block::{
    BlockLimits, BlockRead, BlockStream, BlockWrite, Capabilities, ErrorKind, Extent, Form, Memory, Payload, Storage,
    ZeroMode,
};

use super::*;
use crate::{
    Access, CreateRequest, IdSource, OpenSettings, OptionValues, ResizeRequest, SinkOutput, SinkRequest, Source,
    StreamRequest, TargetFiles, open, open_path,
};

const ODD_SIZES: [usize; 9] = [0, 1, 511, 512, 513, UNIT - 1, UNIT, UNIT + 1, 3 * UNIT + 12_345];

/// Bytes that differ from place to place, with a unit of zeroes where there is room for one.
fn pattern(size: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..size).map(|at| u8::try_from((at + at / UNIT) % 251).unwrap() | 1).collect();
    if let Some(unit) = bytes.get_mut(UNIT..2 * UNIT) {
        unit.fill(0);
    }
    bytes
}

/// A target in memory: a file that grows, or a device of fixed size full of old bytes.
#[derive(Debug)]
struct Target {
    memory: Memory,
    fixed: bool,
    calls: Mutex<Vec<String>>,
}

impl Target {
    fn file() -> Arc<Self> {
        Arc::new(Self { memory: Memory::new(0), fixed: false, calls: Mutex::default() })
    }

    fn device(size: usize) -> Arc<Self> {
        Arc::new(Self { memory: Memory::from(vec![0xee; size]), fixed: true, calls: Mutex::default() })
    }

    fn called(&self, call: impl Into<String>) {
        self.calls.lock().unwrap().push(call.into());
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl BlockRead for Target {
    fn size(&self) -> u64 {
        self.memory.size()
    }

    fn limits(&self) -> BlockLimits {
        self.memory.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.memory.read_at(buf, offset)
    }

    fn block_status(&self, range: std::ops::Range<u64>) -> Result<Extent> {
        self.memory.block_status(range)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        self.memory.capabilities()
    }
}

impl BlockWrite for Target {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.called(format!("write {}+{}", offset, buf.len()));
        self.memory.write_at(buf, offset)
    }

    fn write_zeroes_at(&self, range: std::ops::Range<u64>, mode: ZeroMode) -> Result<()> {
        self.called(format!("zero {}..{}", range.start, range.end));
        self.memory.write_zeroes_at(range, mode)
    }

    fn flush(&self) -> Result<()> {
        self.called("flush");
        Ok(())
    }
}

impl Storage for Target {
    fn set_size(&self, size: u64) -> Result<()> {
        self.called(format!("size {size}"));
        match self.fixed {
            true if size > self.size() => Err(transload_block::Error::new(ErrorKind::Unsupported, "fixed")),
            true => Ok(()),
            false => self.memory.set_size(size),
        }
    }

    fn allocate(&self, range: std::ops::Range<u64>) -> Result<()> {
        self.called(format!("allocate {}..{}", range.start, range.end));
        self.memory.allocate(range)
    }
}

#[derive(Debug)]
struct Files(Arc<Target>);

impl TargetFiles for Files {
    fn name(&self) -> &'static str {
        "disk.raw"
    }

    fn primary(&self) -> Result<Arc<dyn Storage>> {
        Ok(Arc::clone(&self.0) as Arc<dyn Storage>)
    }

    fn sibling(&self, name: &str) -> Result<Arc<dyn Storage>> {
        Err(transload_block::Error::new(ErrorKind::Unsupported, name))
    }
}

fn options(text: &str) -> OptionValues {
    OptionValues::parse(FORMAT.create_options, [text]).unwrap()
}

fn create(target: &Arc<Target>, size: u64, text: &str) -> Result<Arc<dyn crate::ImageWrite>> {
    let ids = IdSource::from_material(b"");
    let files = Files(Arc::clone(target));
    (FORMAT.create.unwrap())(CreateRequest {
        files: &files,
        size,
        options: &options(text),
        ids: &ids,
        cache_bytes: 0,
        backing: None,
    })
}

fn sink(output: SinkOutput<'_>, size: u64, text: &str) -> Result<Box<dyn transload_block::BlockSink>> {
    let ids = IdSource::from_material(b"");
    let options = options(text);
    (FORMAT.sink.unwrap())(SinkRequest {
        output,
        name: "",
        size,
        options: &options,
        level: None,
        ids: &ids,
        extents: None,
    })
}

fn stream(input: impl Read + Send + 'static) -> Box<dyn BlockStream> {
    let options = OptionValues::default();
    (FORMAT.stream.unwrap())(StreamRequest { input: Box::new(input), options: &options }).unwrap()
}

/// A pipe whose other end can be looked at.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends everything but zeroes through a sink.
fn pour(mut sink: Box<dyn transload_block::BlockSink>, bytes: &[u8]) {
    assert_eq!(sink.encoder().unit_size(), UNIT as u64);
    for (index, unit) in bytes.chunks(UNIT).enumerate().filter(|(_, unit)| unit.iter().any(|byte| *byte != 0)) {
        let mut unit = unit.to_vec();
        unit.resize(UNIT, 0);
        assert_eq!(sink.encoder().encode(&unit, &mut Vec::new()).unwrap(), Form::Plain);
        sink.append((index * UNIT) as u64, Form::Plain, &unit).unwrap();
    }
    sink.finish().unwrap();
}

#[test]
fn a_sink_writes_files_devices_and_pipes_of_any_size() {
    for size in ODD_SIZES {
        let bytes = pattern(size);
        let file = Target::file();
        pour(sink(SinkOutput::Files(&Files(Arc::clone(&file))), size as u64, "").unwrap(), &bytes);
        assert!(file.memory.to_vec() == bytes, "file of {size}");
        assert_eq!(file.calls().last().unwrap(), "flush");
        let pipe = Pipe::default();
        pour(sink(SinkOutput::Pipe(Box::new(pipe.clone())), size as u64, "").unwrap(), &bytes);
        assert!(*pipe.0.lock().unwrap() == bytes, "pipe of {size}");
        let device = Target::device(size + 700);
        pour(sink(SinkOutput::Files(&Files(Arc::clone(&device))), size as u64, "").unwrap(), &bytes);
        let written = device.memory.to_vec();
        assert!(written[..size] == bytes && written[size..].iter().all(|byte| *byte == 0xee), "device of {size}");
    }
}

#[test]
fn a_sink_without_units_is_a_disk_of_zeroes() {
    let size = 2 * UNIT + 5;
    let pipe = Pipe::default();
    sink(SinkOutput::Pipe(Box::new(pipe.clone())), size as u64, "").unwrap().finish().unwrap();
    assert!(*pipe.0.lock().unwrap() == vec![0; size]);
    let file = Target::file();
    sink(SinkOutput::Files(&Files(Arc::clone(&file))), size as u64, "").unwrap().finish().unwrap();
    assert_eq!(file.calls(), [format!("size {size}"), "flush".to_owned()]);
}

#[test]
fn a_sink_refuses_what_breaks_its_contract() {
    let unit = vec![1; UNIT];
    let file = Files(Target::file());
    let mut sink = sink(SinkOutput::Files(&file), 3 * UNIT as u64 + 1, "").unwrap();
    let mut refused = |offset: usize, form, bytes: &[u8], kind| {
        assert_eq!(sink.append(offset as u64, form, bytes).unwrap_err().kind(), kind, "at {offset}");
    };
    refused(1, Form::Plain, &unit, ErrorKind::InvalidInput);
    refused(0, Form::Encoded, &unit, ErrorKind::InvalidInput);
    refused(0, Form::Plain, &unit[1..], ErrorKind::InvalidInput);
    refused(4 * UNIT, Form::Plain, &unit, ErrorKind::OutOfRange);
    sink.append(UNIT as u64, Form::Plain, &unit).unwrap();
    assert_eq!(sink.append(0, Form::Plain, &unit).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(sink.append(UNIT as u64, Form::Plain, &unit).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_broken_pipe_is_an_error() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _buf: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let sink = sink(SinkOutput::Pipe(Box::new(Broken)), 10, "").unwrap();
    assert_eq!(sink.finish().unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn preallocation_makes_length_room_or_zeroes() {
    let size = UNIT as u64 + 7;
    let cases: [(&str, &[&str]); 4] = [
        ("", &["size 1048583"]),
        ("preallocation=off", &["size 1048583"]),
        ("preallocation=falloc", &["size 1048583", "allocate 0..1048583"]),
        ("preallocation=full", &["size 1048583", "allocate 0..1048583", "write 0+1048576", "write 1048576+7"]),
    ];
    for (text, calls) in cases {
        let file = Target::file();
        create(&file, size, text).unwrap();
        assert_eq!(file.calls(), calls, "{text}");
        let file = Files(Target::file());
        drop(sink(SinkOutput::Files(&file), size, text).unwrap());
        assert_eq!(file.0.calls(), calls, "{text}");
    }
    let empty = Target::file();
    create(&empty, 0, "preallocation=falloc").unwrap();
    assert_eq!(empty.calls(), ["size 0"]);
    let pipe = || SinkOutput::Pipe(Box::new(io::sink()));
    assert_eq!(sink(pipe(), size, "preallocation=falloc").unwrap_err().kind(), ErrorKind::InvalidInput);
    sink(pipe(), size, "preallocation=full").unwrap().finish().unwrap();
    assert!(OptionValues::parse(FORMAT.create_options, ["preallocation=metadata"]).is_err());
}

#[test]
fn a_device_must_be_large_enough_and_keeps_its_size() {
    let device = Target::device(4096);
    assert_eq!(create(&device, 4097, "").unwrap_err().kind(), ErrorKind::NoSpace);
    let disk = create(&device, 4000, "preallocation=falloc").unwrap();
    assert_eq!(device.calls(), Vec::<String>::new());
    assert_eq!((disk.size(), device.size()), (4000, 4096));
    disk.write_at(&[1; 4000], 0).unwrap();
    assert_eq!(disk.write_at(&[1], 4000).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(disk.write_zeroes_at(3999..4001, ZeroMode::Unmap).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(disk.block_status(3999..4001).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(disk.read_at(&mut [0; 2], 3999).unwrap_err().kind(), ErrorKind::OutOfRange);
    disk.write_zeroes_at(0..10, ZeroMode::KeepAllocated).unwrap();
    disk.finish().unwrap();
    assert_eq!(device.calls(), ["write 0+4000", "zero 0..10", "flush"]);
    create(&device, 4000, "preallocation=full").unwrap();
    let bytes = device.memory.to_vec();
    assert!(bytes[..4000].iter().all(|byte| *byte == 0) && bytes[4000..].iter().all(|byte| *byte == 0xee));
}

#[test]
fn a_stream_gives_the_bytes_in_units_until_it_ends() {
    for size in ODD_SIZES {
        let bytes = pattern(size);
        let mut stream = stream(io::Cursor::new(bytes.clone()));
        assert_eq!((stream.size(), stream.unit_size()), (None, UNIT as u64));
        let (mut seen, mut buffer) = (Vec::new(), Vec::new());
        while let Some(unit) = stream.next_unit(std::mem::take(&mut buffer)).unwrap() {
            assert_eq!(unit.offset, seen.len() as u64);
            assert!(unit.length > 0 && unit.length <= UNIT as u64);
            match unit.payload {
                Payload::Plain(bytes) => {
                    assert_eq!(bytes.len() as u64, unit.length);
                    seen.extend_from_slice(&bytes);
                    buffer = bytes;
                }
                Payload::Zero => {
                    assert_eq!(unit.offset, UNIT as u64, "only the second unit is zero");
                    seen.resize(seen.len() + usize::try_from(unit.length).unwrap(), 0);
                }
                Payload::Encoded { .. } => unreachable!("raw encodes nothing"),
            }
        }
        assert!(seen == bytes, "{size}");
        assert!(stream.next_unit(Vec::new()).unwrap().is_none());
    }
}

/// Gives a few bytes at a time, is interrupted in between, and may fail at its end.
struct Trickle {
    rest: Vec<u8>,
    interrupted: bool,
    fails: bool,
}

impl Read for Trickle {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.rest.is_empty() && self.fails {
            return Err(io::Error::other("cable cut"));
        }
        let length = buf.len().min(4099).min(self.rest.len());
        buf[..length].copy_from_slice(&self.rest[..length]);
        self.rest.drain(..length);
        Ok(length)
    }
}

#[test]
fn a_stream_waits_for_whole_units_from_a_slow_pipe() {
    let mut trickle = stream(Trickle { rest: pattern(UNIT + 100), interrupted: false, fails: false });
    let lengths: Vec<_> =
        std::iter::from_fn(|| trickle.next_unit(Vec::new()).unwrap()).map(|unit| unit.length).collect();
    assert_eq!(lengths, [UNIT as u64, 100]);
}

#[test]
fn a_stream_that_breaks_is_an_error_and_then_over() {
    let mut broken = stream(Trickle { rest: pattern(UNIT + 100), interrupted: false, fails: true });
    assert!(broken.next_unit(Vec::new()).unwrap().is_some());
    let error = broken.next_unit(Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("1048576"), "{error}");
    assert!(broken.next_unit(Vec::new()).unwrap().is_none());
}

#[test]
fn a_file_of_any_size_is_a_disk_of_that_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let settings = OpenSettings { format: Some(&FORMAT), ..OpenSettings::default() };
    for size in ODD_SIZES {
        let bytes = pattern(size);
        std::fs::write(&path, &bytes).unwrap();
        let opened = open_path(&path, &settings).unwrap();
        assert_eq!(opened.device.size(), size as u64);
        let mut read = vec![0xff; size];
        opened.device.read_at(&mut read, 0).unwrap();
        assert!(read == bytes);
        assert!(opened.device.capabilities().host_extents.is_some());
        let info = &opened.layers[0].info;
        assert_eq!((info.format.as_str(), info.virtual_size, info.file_size), ("raw", size as u64, Some(size as u64)));
        assert!(info.allocated_size.is_some());
        let writable = OpenSettings { access: Access::ReadWrite, ..settings.clone() };
        let opened = open_path(&path, &writable).unwrap();
        let writer = opened.layers[0].writer.as_ref().unwrap();
        assert!(writer.capabilities().host_extents.is_some());
        writer.write_zeroes_at(0..size as u64, ZeroMode::Unmap).unwrap();
        writer.finish().unwrap();
        assert!(std::fs::read(&path).unwrap() == vec![0; size]);
    }
}

#[test]
fn resizing_grows_with_zeroes_and_shrinks_only_with_leave() {
    let resize = |target: &Arc<Target>, size, shrink| {
        let source = Source::writable(Arc::clone(target) as Arc<dyn Storage>).with_path("disk.raw");
        (FORMAT.resize.unwrap())(ResizeRequest { source, gate: &crate::ReferenceGate::Deny, size, shrink })
    };
    let file = Arc::new(Target { memory: Memory::from(vec![1; 10]), fixed: false, calls: Mutex::default() });
    resize(&file, 12, false).unwrap();
    assert_eq!(file.memory.to_vec(), [[1; 10].as_slice(), &[0; 2]].concat());
    let error = resize(&file, 5, false).unwrap_err();
    assert_eq!((error.kind(), error.remedy()), (ErrorKind::InvalidInput, Some("allow it with --shrink")));
    assert_eq!(file.size(), 12);
    resize(&file, 5, true).unwrap();
    assert_eq!(file.memory.to_vec(), [1; 5]);
    let device = Target::device(10);
    for size in [5, 11] {
        assert_eq!(resize(&device, size, true).unwrap_err().kind(), ErrorKind::Unsupported);
    }
    let source = Source::new(Arc::new(Memory::new(1)));
    let request = ResizeRequest { source, gate: &crate::ReferenceGate::Deny, size: 9, shrink: false };
    assert_eq!((FORMAT.resize.unwrap())(request).unwrap_err().kind(), ErrorKind::ReadOnly);
}

#[test]
fn measuring_is_the_length_of_the_file() {
    let options = OptionValues::default();
    let measured = (FORMAT.measure.unwrap())(MeasureRequest { size: 12345, options: &options, extents: &[] }).unwrap();
    assert_eq!((measured.required, measured.fully_allocated), (12345, 12345));
}

#[test]
fn what_the_source_cannot_do_the_disk_cannot_either() {
    let settings = OpenSettings { format: Some(&FORMAT), ..OpenSettings::default() };
    let opened = open(Source::new(Arc::new(Memory::new(3))), &settings).unwrap();
    assert!(opened.device.capabilities().host_extents.is_none());
    assert!(opened.layers[0].writer.is_none());
}
