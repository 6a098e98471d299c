//! The conversions that are measured, and who takes part.

use std::ffi::OsString;
use std::path::Path;

use crate::process::is_installed;

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
    /// Ways in which Transload does it, each with goals of its own.
    pub ways: &'static [Way],
    /// The sets of flags with which qemu-img does it.
    pub qemu: &'static [&'static [&'static str]],
    /// Other programs that do it, where they are installed.
    pub others: &'static [Other],
    /// Seconds that it may take at the most.
    pub limit: Option<f64>,
    /// Measured on the disk, too.
    pub on_disk: bool,
    /// The target is a whole package, which qemu-img, sha256sum and tar make together.
    pub package: bool,
}

/// A way in which Transload does a conversion.
pub(crate) struct Way {
    pub flags: &'static [&'static str],
    /// How many times as fast as qemu-img at its best it has to be on a memory filesystem.
    pub goal: Option<f64>,
    /// How large the result may be, in parts of the smallest of qemu-img.
    pub size: Option<f64>,
}

/// A program beside qemu-img: its name, what it is called with before source and target, and how many times as fast as
/// it the first way has to be.
pub(crate) struct Other {
    pub program: &'static str,
    pub flags: &'static [&'static str],
    pub target_first: bool,
    pub goal: f64,
}

const AS_IT_IS: &[Way] = &[Way { flags: &[], goal: None, size: None }];
const ORDINARY_QEMU: &[&[&str]] = &[&[], &["-W", "-m", "16"], &["-W", "-m", "16", "-T", "none", "-t", "none"]];
/// With coroutines that write out of order, qemu-img makes a streamOptimized VMDK that is none.
const ORDERED_QEMU: &[&[&str]] = &[&[]];
const COMPRESSING_QEMU: &[&[&str]] = &[&["-W", "-m", "16"]];
const STREAM_OPTIMIZED: &[&str] = &["-o", "subformat=streamOptimized"];

const PLAIN: Case = Case {
    name: "",
    disk: "real",
    source_format: "raw",
    source_options: &[],
    target_format: "raw",
    target_extension: "raw",
    options: &[],
    ways: AS_IT_IS,
    qemu: ORDINARY_QEMU,
    others: &[],
    limit: None,
    on_disk: false,
    package: false,
};
const TO_QCOW2: Case = Case { target_format: "qcow2", target_extension: "qcow2", ..PLAIN };
const TO_VMDK: Case = Case { target_format: "vmdk", target_extension: "vmdk", ..PLAIN };

/// Transload as it is, that many times as fast as qemu-img.
macro_rules! goal {
    ($times:expr) => {
        &[Way { flags: &[], goal: Some($times), size: None }]
    };
}

/// The real disk from one format to another, which is also the ending of its file.
const fn pair(
    name: &'static str,
    source_format: &'static str,
    target_format: &'static str,
    ways: &'static [Way],
) -> Case {
    Case { name, source_format, target_format, target_extension: target_format, ways, ..PLAIN }
}

/// What QEMU has to be told so that a VHD has the size of its source.
const WHOLE_SIZE: &[&str] = &["-o", "force_size=on"];

/// What is as fast as QEMU where QEMU copies in the kernel.
const LEVEL: &[Way] = goal!(1.0);
/// What is to be reached where QEMU copies through its own buffers.
const AHEAD: &[Way] = goal!(1.5);

/// In the order of the report.
pub(crate) static CASES: &[Case] = &[
    Case { name: "real raw→qcow2", ways: goal!(1.4), on_disk: true, ..TO_QCOW2 },
    Case { name: "real qcow2→raw", source_format: "qcow2", ways: goal!(1.2), on_disk: true, ..PLAIN },
    Case { name: "real raw→vmdk", ways: goal!(4.0), on_disk: true, ..TO_VMDK },
    Case { name: "real qcow2→vmdk", source_format: "qcow2", ways: goal!(4.0), on_disk: true, ..TO_VMDK },
    Case { name: "real vmdk→qcow2", source_format: "vmdk", ways: goal!(2.5), on_disk: true, ..TO_QCOW2 },
    Case { name: "real vmdk→raw", source_format: "vmdk", ways: goal!(2.5), on_disk: true, ..PLAIN },
    Case { name: "real raw→raw", ..PLAIN },
    Case { name: "real qcow2→qcow2", source_format: "qcow2", ..TO_QCOW2 },
    Case { name: "random raw→qcow2", disk: "random", ..TO_QCOW2 },
    Case { name: "alternating raw→qcow2", disk: "alternating", ..TO_QCOW2 },
    Case { name: "64 TiB hole raw→qcow2", disk: "hole", limit: Some(1.0), ..TO_QCOW2 },
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
        name: "real raw→streamOptimized",
        options: STREAM_OPTIMIZED,
        ways: &[
            Way { flags: &[], goal: Some(7.0), size: Some(1.0) },
            Way { flags: &["--level", "fast"], goal: Some(25.0), size: Some(1.08) },
        ],
        qemu: ORDERED_QEMU,
        others: &[
            Other { program: "vmdk-convert", flags: &["-c", "6"], target_first: false, goal: 3.5 },
            Other { program: "vmdk-convert", flags: &[], target_first: false, goal: 15.0 },
        ],
        ..TO_VMDK
    },
    Case {
        name: "real raw→qcow2 zlib",
        options: &["-c"],
        ways: &[
            Way { flags: &[], goal: Some(8.0), size: Some(1.02) },
            Way { flags: &["--level", "fast"], goal: Some(13.0), size: Some(1.04) },
        ],
        qemu: COMPRESSING_QEMU,
        ..TO_QCOW2
    },
    Case {
        name: "real raw→qcow2 zstd",
        options: &["-c", "-o", "compression_type=zstd"],
        ways: &[Way { flags: &[], goal: Some(2.0), size: Some(1.0) }],
        qemu: COMPRESSING_QEMU,
        ..TO_QCOW2
    },
    Case {
        name: "real raw→ova",
        target_format: "ova",
        target_extension: "ova",
        ways: &[Way { flags: &["export"], goal: Some(6.0), size: Some(1.03) }],
        package: true,
        ..PLAIN
    },
    Case {
        name: "real streamOptimized→raw",
        source_format: "vmdk",
        source_options: STREAM_OPTIMIZED,
        ways: goal!(5.0),
        qemu: &[&[], &["-W", "-m", "16"]],
        others: &[
            Other { program: "vmdktool", flags: &["-r"], target_first: true, goal: 3.5 },
            Other { program: "vmdk-convert", flags: &[], target_first: false, goal: 3.5 },
        ],
        ..PLAIN
    },
    Case {
        name: "real qcow2 zlib→raw",
        source_format: "qcow2",
        source_options: &["-c"],
        ways: goal!(2.8),
        qemu: &[&[], &["-W", "-m", "16"]],
        ..PLAIN
    },
    Case {
        name: "real qcow2 zstd→raw",
        source_format: "qcow2",
        source_options: &["-c", "-o", "compression_type=zstd"],
        ways: goal!(2.3),
        qemu: &[&[], &["-W", "-m", "16"]],
        ..PLAIN
    },
    Case {
        name: "real streamOptimized→qcow2 zlib",
        source_format: "vmdk",
        source_options: STREAM_OPTIMIZED,
        options: &["-c"],
        ways: &[
            Way { flags: &[], goal: Some(18.0), size: None },
            Way { flags: &["--trust-source"], goal: None, size: None },
        ],
        qemu: COMPRESSING_QEMU,
        ..TO_QCOW2
    },
    Case {
        name: "real qcow2 zlib→streamOptimized",
        source_format: "qcow2",
        source_options: &["-c"],
        options: STREAM_OPTIMIZED,
        ways: goal!(18.0),
        qemu: ORDERED_QEMU,
        ..TO_VMDK
    },
];

/// One command line that takes part: everything but the names of source and target, which stand last.
pub(crate) struct Contender {
    pub name: String,
    pub program: OsString,
    pub arguments: Vec<OsString>,
    /// A plain copy is shown beside the rest and is no peer.
    pub is_peer: bool,
    /// Whether the target is named in front of the source.
    pub target_first: bool,
}

impl Case {
    /// Transload in each of its ways and with one thread, qemu-img with each set of flags, other programs where they are
    /// installed, and a plain copy for scale.
    pub(crate) fn contenders(&self, transload: &Path) -> Vec<Contender> {
        if self.package {
            return package_contenders(transload);
        }
        let formats = ["-f", self.source_format, "-O", self.target_format];
        let ours = |flags: &[&str]| Contender {
            name: named("transload", flags),
            program: transload.into(),
            arguments: strings(&[&["convert", "-q", "--force"], &formats[..], self.options, flags]),
            is_peer: false,
            target_first: false,
        };
        let mut all: Vec<Contender> = self.ways.iter().map(|way| ours(way.flags)).collect();
        all.extend(self.qemu.iter().map(|flags| Contender {
            name: named("qemu-img", flags),
            program: "qemu-img".into(),
            arguments: strings(&[&["convert"], &formats[..], self.options, flags]),
            is_peer: true,
            target_first: false,
        }));
        all.extend(self.others.iter().filter(|other| is_installed(other.program)).map(|other| Contender {
            name: named(other.program, other.flags),
            program: other.program.into(),
            arguments: strings(&[other.flags]),
            is_peer: true,
            target_first: other.target_first,
        }));
        all.push(ours(&["--threads", "1"]));
        all.push(Contender {
            name: "cp --sparse=auto".to_owned(),
            program: "cp".into(),
            arguments: strings(&[&["--sparse=auto"]]),
            is_peer: false,
            target_first: false,
        });
        all
    }
}

/// A program with its flags, as the tables name it.
pub(crate) fn named(program: &str, flags: &[&str]) -> String {
    std::iter::once(program).chain(flags.iter().copied()).collect::<Vec<_>>().join(" ")
}

/// What others do for a package takes three programs and a second copy of the disk. The bare compression is shown beside
/// it: a package should cost hardly more.
fn package_contenders(transload: &Path) -> Vec<Contender> {
    let shell = |name: &str, script: &str, is_peer: bool| Contender {
        name: name.to_owned(),
        program: "sh".into(),
        arguments: strings(&[&["-c", script]]).into_iter().chain([transload.into()]).collect(),
        is_peer,
        target_first: false,
    };
    let peer = |flags: &str| {
        format!(
            "set -e; d=$(mktemp -d \"$2.XXXXXX\"); \
             qemu-img convert {flags} -O vmdk -o subformat=streamOptimized \"$1\" \"$d/vm-disk1.vmdk\"; \
             cd \"$d\"; echo '<Envelope/>' > vm.ovf; sha256sum --tag vm.ovf vm-disk1.vmdk > vm.mf; \
             tar --format=gnu -cf \"$2\" vm.ovf vm.mf vm-disk1.vmdk; cd /; rm -r \"$d\""
        )
    };
    let export = "exec \"$0\" export -q --force --name vm --disk \"$1\" -o \"$2\"";
    let bare = "exec \"$0\" convert -q --force -O vmdk -o subformat=streamOptimized \"$1\" \"$2\"";
    vec![
        shell("transload export", export, false),
        shell("qemu-img, sha256sum, tar", &peer(""), true),
        shell("transload convert (disk alone)", bare, false),
    ]
}

fn strings(groups: &[&[&str]]) -> Vec<OsString> {
    groups.iter().flat_map(|group| group.iter().map(OsString::from)).collect()
}
