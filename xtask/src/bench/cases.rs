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
    /// The target is a whole package, which qemu-img, sha256sum and tar make together.
    pub package: bool,
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
    package: false,
};

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
    Case {
        name: "real raw→ova",
        target_format: "ova",
        target_extension: "ova",
        goal: Some(6.0),
        package: true,
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
        if self.package {
            return package_contenders(transload);
        }
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

/// What others do for a package takes three programs and a second copy of the disk. The bare compression is shown beside
/// it: a package should cost hardly more.
fn package_contenders(transload: &Path) -> Vec<Contender> {
    let shell = |name: &str, script: &str, is_peer: bool| Contender {
        name: name.to_owned(),
        program: "sh".into(),
        arguments: strings(&[&["-c", script]]).into_iter().chain([transload.into()]).collect(),
        is_peer,
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
