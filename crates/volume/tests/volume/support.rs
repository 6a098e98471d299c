//! What the tests have in common: files as disks, and what `sfdisk` says of them.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use transload_block::{BlockRead, BlockWrite, FileBlock};
use transload_testkit::witness;
use transload_volume::{Contents, Kind, ReadSettings, Severity, Table};

/// A file of zeroes that is a disk.
pub(crate) struct Disk {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Disk {
    pub(crate) fn new(size: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk.raw");
        File::create(&path).and_then(|file| file.set_len(size)).expect("a sparse file");
        Self { folder, path }
    }

    pub(crate) fn resize(&self, size: u64) {
        File::options().write(true).open(&self.path).and_then(|file| file.set_len(size)).expect("a sparse file");
    }

    pub(crate) fn writer(&self) -> Arc<dyn BlockWrite> {
        Arc::new(FileBlock::open(&self.path, true).expect("the disk"))
    }

    pub(crate) fn reader(&self) -> Arc<dyn BlockRead> {
        reader(&self.path)
    }

    /// Has `sfdisk` make a table from its script.
    pub(crate) fn sfdisk(&self, script: &str) {
        let program = "/usr/sbin/sfdisk";
        let mut child = Command::new(program)
            .args(["--quiet", "--no-reread", "--no-tell-kernel"])
            .arg(&self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("sfdisk is a witness of these tests: install fdisk");
        child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("a script");
        assert!(child.wait().expect("sfdisk ends").success(), "{script}");
    }
}

pub(crate) fn reader(path: &Path) -> Arc<dyn BlockRead> {
    Arc::new(FileBlock::open(path, false).expect("the image"))
}

/// The table on a disk.
#[track_caller]
pub(crate) fn table(device: &dyn BlockRead) -> Table {
    let contents = Contents::read(device, ReadSettings::default()).expect("a disk that can be read");
    let table = match contents {
        Contents::Table(table) => Some(table),
        Contents::Whole(_) => None,
    };
    table.expect("a disk with a table")
}

/// The texts of what was found wrong.
pub(crate) fn findings(table: &Table, severity: Severity) -> Vec<String> {
    table.findings().iter().filter(|finding| finding.severity == severity).map(|finding| finding.text.clone()).collect()
}

/// What both readers can say of a partition: number, start and length in sectors, type, name, active.
pub(crate) type Row = (u32, u64, u64, String, String, bool);

/// The table as we read it.
pub(crate) fn rows(table: &Table) -> Vec<Row> {
    let unit = u64::from(table.sector_size());
    let row = |partition: transload_volume::Partition| {
        let kind = match partition.kind {
            // sfdisk prints a byte without the zero in front.
            Kind::Mbr(byte) => format!("{byte:x}"),
            Kind::Gpt(guid) => guid.to_string().to_uppercase(),
        };
        let (start, size) = (partition.range.start / unit, partition.size() / unit);
        (partition.number, start, size, kind, partition.name, partition.active)
    };
    table.partitions().into_iter().map(row).collect()
}

/// The table as `sfdisk` reads it.
pub(crate) fn sfdisk_rows(path: &Path) -> Vec<Row> {
    let output = witness::must("sfdisk", [std::ffi::OsStr::new("--json"), path.as_os_str()]);
    // A message about an empty link of a chain may stand in front.
    let output = output.find('{').map_or("", |at| &output[at..]);
    let document: Value = serde_json::from_str(output).expect("sfdisk writes JSON");
    let name = path.to_str().expect("a name in UTF-8");
    let partitions = document["partitiontable"]["partitions"].as_array().cloned().unwrap_or_default();
    let row = |partition: &Value| {
        let node = partition["node"].as_str().expect("a node");
        // A name that ends with a digit has a p between it and the number.
        let number = node.strip_prefix(name).expect("the file's name").trim_start_matches('p');
        let attributes = partition["attrs"].as_str().unwrap_or_default();
        (
            number.parse().expect("a number"),
            partition["start"].as_u64().expect("a start"),
            partition["size"].as_u64().expect("a size"),
            partition["type"].as_str().expect("a type").to_owned(),
            partition["name"].as_str().unwrap_or_default().to_owned(),
            partition["bootable"].as_bool().unwrap_or(false) || attributes.contains("LegacyBIOSBootable"),
        )
    };
    partitions.iter().map(row).collect()
}
