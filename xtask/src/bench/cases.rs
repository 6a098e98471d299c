//! The conversions that are measured, and who takes part.

use std::ffi::OsString;
use std::path::Path;

/// One conversion of one disk.
pub(crate) struct Case {
    pub name: &'static str,
    /// A disk of [`super::disks`], and the format it is converted to beforehand, with qemu-img's own options.
    pub disk: &'static str,
    pub source_format: &'static str,
    pub source_options: &'static [&'static str],
    pub target_format: &'static str,
    pub target_extension: &'static str,
    /// Options that both programs understand alike.
    pub options: &'static [&'static str],
    /// How many times as fast as the best peer it has to be on a memory filesystem.
    pub goal: Option<f64>,
    /// Seconds that it may take at the most.
    pub limit: Option<f64>,
    /// Measured on the disk, too.
    pub on_disk: bool,
}

const PLAIN: Case = Case {
    name: "",
    disk: "real",
    source_format: "raw",
    source_options: &[],
    target_format: "raw",
    target_extension: "raw",
    options: &[],
    goal: None,
    limit: None,
    on_disk: false,
};

/// The real disk from one format to another, which is also the ending of its file.
const fn pair(name: &'static str, source_format: &'static str, target_format: &'static str, goal: f64) -> Case {
    Case { name, source_format, target_format, target_extension: target_format, goal: Some(goal), ..PLAIN }
}

/// What QEMU has to be told so that a VHD has the size of its source.
const WHOLE_SIZE: &[&str] = &["-o", "force_size=on"];

/// What is as fast as QEMU where QEMU copies in the kernel.
const LEVEL: f64 = 1.0;
/// What is to be reached where QEMU copies through its own buffers.
const AHEAD: f64 = 1.5;

/// In the order of the report.
pub(crate) static CASES: &[Case] = &[
    Case {
        name: "real raw→qcow2",
        target_format: "qcow2",
        target_extension: "qcow2",
        goal: Some(1.4),
        on_disk: true,
        ..PLAIN
    },
    Case { name: "real qcow2→raw", source_format: "qcow2", goal: Some(1.2), on_disk: true, ..PLAIN },
    Case {
        name: "real raw→vmdk",
        target_format: "vmdk",
        target_extension: "vmdk",
        goal: Some(4.0),
        on_disk: true,
        ..PLAIN
    },
    Case {
        name: "real qcow2→vmdk",
        source_format: "qcow2",
        target_format: "vmdk",
        target_extension: "vmdk",
        goal: Some(4.0),
        on_disk: true,
        ..PLAIN
    },
    Case {
        name: "real vmdk→qcow2",
        source_format: "vmdk",
        target_format: "qcow2",
        target_extension: "qcow2",
        goal: Some(2.5),
        on_disk: true,
        ..PLAIN
    },
    Case { name: "real vmdk→raw", source_format: "vmdk", goal: Some(2.5), on_disk: true, ..PLAIN },
    Case { name: "real raw→raw", ..PLAIN },
    Case {
        name: "real qcow2→qcow2",
        source_format: "qcow2",
        target_format: "qcow2",
        target_extension: "qcow2",
        ..PLAIN
    },
    Case { name: "random raw→qcow2", disk: "random", target_format: "qcow2", target_extension: "qcow2", ..PLAIN },
    Case {
        name: "alternating raw→qcow2",
        disk: "alternating",
        target_format: "qcow2",
        target_extension: "qcow2",
        ..PLAIN
    },
    Case {
        name: "64 TiB hole raw→qcow2",
        disk: "hole",
        target_format: "qcow2",
        target_extension: "qcow2",
        limit: Some(1.0),
        ..PLAIN
    },
    Case { options: WHOLE_SIZE, on_disk: true, ..pair("real raw→vhd", "raw", "vpc", LEVEL) },
    Case { options: &["-o", "subformat=fixed,force_size=on"], ..pair("real raw→vhd fixed", "raw", "vpc", LEVEL) },
    Case { on_disk: true, ..pair("real raw→vhdx", "raw", "vhdx", LEVEL) },
    Case { on_disk: true, ..pair("real raw→vdi", "raw", "vdi", LEVEL) },
    Case { source_options: WHOLE_SIZE, ..pair("real vhd→raw", "vpc", "raw", LEVEL) },
    pair("real vhdx→raw", "vhdx", "raw", LEVEL),
    pair("real vdi→raw", "vdi", "raw", LEVEL),
    pair("real qcow2→vhdx", "qcow2", "vhdx", LEVEL),
    pair("real vhdx→qcow2", "vhdx", "qcow2", LEVEL),
    Case { options: WHOLE_SIZE, ..pair("real vmdk→vhd", "vmdk", "vpc", AHEAD) },
    pair("real vmdk→vhdx", "vmdk", "vhdx", AHEAD),
    pair("real vmdk→vdi", "vmdk", "vdi", AHEAD),
    Case { source_options: WHOLE_SIZE, ..pair("real vhd→vmdk", "vpc", "vmdk", AHEAD) },
    pair("real vhdx→vmdk", "vhdx", "vmdk", AHEAD),
    pair("real vdi→vmdk", "vdi", "vmdk", AHEAD),
    Case {
        name: "real raw→qcow2 zlib", target_format: "qcow2", target_extension: "qcow2", options: &["-c"], ..PLAIN
    },
    Case {
        name: "real raw→streamOptimized",
        target_format: "vmdk",
        target_extension: "vmdk",
        options: &["-o", "subformat=streamOptimized"],
        ..PLAIN
    },
    Case { name: "real qcow2 zlib→raw", source_format: "qcow2", source_options: &["-c"], ..PLAIN },
    Case {
        name: "real streamOptimized→raw",
        source_format: "vmdk",
        source_options: &["-o", "subformat=streamOptimized"],
        ..PLAIN
    },
];

/// One command line that takes part: everything but the names of source and target, which stand last.
pub(crate) struct Contender {
    pub name: String,
    pub program: OsString,
    pub arguments: Vec<OsString>,
    /// A plain copy is shown beside the rest and is no peer.
    pub is_peer: bool,
}

impl Case {
    /// Transload with all its threads and with one, qemu-img with each set of flags, and a plain copy for scale.
    pub(crate) fn contenders(&self, transload: &Path) -> Vec<Contender> {
        let formats = ["-f", self.source_format, "-O", self.target_format];
        let ours = |name: &str, extra: &[&str]| Contender {
            name: name.to_owned(),
            program: transload.into(),
            arguments: strings(&[&["convert", "-q", "--force"], &formats[..], self.options, extra]),
            is_peer: false,
        };
        let qemu = |name: &str, flags: &[&str]| Contender {
            name: name.to_owned(),
            program: "qemu-img".into(),
            arguments: strings(&[&["convert"], &formats[..], self.options, flags]),
            is_peer: true,
        };
        vec![
            ours("transload", &[]),
            qemu("qemu-img", &[]),
            qemu("qemu-img -W -m 16", &["-W", "-m", "16"]),
            qemu("qemu-img -W -m 16 -T none -t none", &["-W", "-m", "16", "-T", "none", "-t", "none"]),
            ours("transload --threads 1", &["--threads", "1"]),
            Contender {
                name: "cp --sparse=auto".to_owned(),
                program: "cp".into(),
                arguments: strings(&[&["--sparse=auto"]]),
                is_peer: false,
            },
        ]
    }
}

fn strings(groups: &[&[&str]]) -> Vec<OsString> {
    groups.iter().flat_map(|group| group.iter().map(OsString::from)).collect()
}
