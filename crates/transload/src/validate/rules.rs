//! The rules about a package's container: archive, manifest, and the disks' own bytes. Those about the descriptor and its
//! machines are in `transload_appliance::profile`.
//!
//! Where a rule comes from is said in each; where nothing but a report by users is known, that is what is said.

use transload_appliance::profile::{Importer, Kind, Rule, Severity};

/// A rule, and who minds.
#[derive(Debug)]
pub(crate) struct ContainerRule {
    pub(crate) rule: Rule,
    /// How an importer takes it; `None` where it does not mind.
    pub(crate) minds: fn(&Importer) -> Option<Severity>,
    /// What breaks it is broken for everybody.
    pub(crate) soundness: Soundness,
}

/// What a broken rule says of the package as such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Soundness {
    /// It is what it says.
    #[default]
    Sound,
    /// A digest or the signature is not of what is there.
    Mismatch,
    /// A structure is broken, or something is missing.
    Corrupt,
}

impl ContainerRule {
    /// Whether what breaks it is a choice of the writer's, which most importers welcome, and no mistake.
    pub(super) fn is_choice(&self) -> bool {
        [&MANIFEST_ALGORITHM, &MANIFEST_SHA512, &DISK_FOOTER].iter().any(|choice| choice.rule.id == self.rule.id)
    }
}

const REFUSES: Option<Severity> = Some(Severity::Refusal);
const WARNS: Option<Severity> = Some(Severity::Warning);

/// Those who use VMware's own code.
fn vmware(importer: &Importer) -> bool {
    matches!(importer.kind, Kind::Esxi | Kind::Workstation)
}

fn everybody(_: &Importer) -> Option<Severity> {
    REFUSES
}

fn all_warn(_: &Importer) -> Option<Severity> {
    WARNS
}

fn only_vmware(importer: &Importer) -> Option<Severity> {
    if vmware(importer) { REFUSES } else { None }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = {
        $id:literal, $title:literal, $source:literal, $remedy:literal, $repairable:literal, $soundness:ident, $minds:expr
    };)+) => {
        $($(#[$doc])*
        pub(super) static $name: ContainerRule = ContainerRule {
            rule: Rule { id: $id, title: $title, source: $source, remedy: $remedy, repairable: $repairable },
            minds: $minds,
            soundness: Soundness::$soundness,
        };)+
    };
}

rules! {
    DESCRIPTOR = {
        "ova-descriptor", "there is a descriptor, and it can be read", "DSP0243 2.1.1, section 5.1",
        "have the package made anew", false, Corrupt, everybody
    };
    DESCRIPTOR_FIRST = {
        "ova-descriptor-first", "the descriptor is the first file of the archive",
        "DSP0243 2.1.1, section 5.3; coreos-assembler#1141, osbuild#431, vagrant#1741",
        "put it first with `transload repack`", true, Sound,
        |importer| match importer.kind {
            Kind::Esxi | Kind::Workstation | Kind::VirtualBox | Kind::OpenStack | Kind::Aws => REFUSES,
            _ => None,
        }
    };
    ORDER = {
        "ova-order", "the manifest follows the descriptor or the last file, the files come as they are listed",
        "DSP0243 2.1.1, section 5.3", "put them in order with `transload repack`", true, Sound,
        |importer| if vmware(importer) { WARNS } else { None }
    };
    PAX = {
        "tar-pax", "no pax headers", "open-vmdk#65: not supported by vSphere",
        "rewrite the archive with `transload repack`", true, Sound, only_vmware
    };
    NAME = {
        "tar-name", "names without a folder, and of at most 100 bytes", "DSP0243 2.1.1, section 5.3",
        "rewrite the archive with `transload repack`", true, Sound,
        |importer| if vmware(importer) || importer.kind == Kind::VirtualBox { WARNS } else { None }
    };
    ARCHIVE_END = {
        "tar-end", "two blocks of zeroes at the end, and nothing behind them", "POSIX.1-1988, tar",
        "rewrite the archive with `transload repack`", true, Sound, all_warn
    };
    FILE_MISSING = {
        "ovf-file-missing", "every file that the descriptor lists is in the archive", "DSP0243 2.1.1, section 7.1",
        "have the package made anew", false, Corrupt, everybody
    };
    FILE_SIZE = {
        "ovf-file-size", "files have the size that the descriptor says",
        "delphix/appliance-build#732, coreos-assembler#1141", "correct it with `transload repack`", true, Sound,
        |importer| if vmware(importer) { REFUSES } else { WARNS }
    };
    FILE_UNLISTED = {
        "ovf-file-unlisted", "every file of the archive is listed in the descriptor", "DSP0243 2.1.1, section 5.1",
        "leave it out with `transload repack`", true, Sound,
        |importer| if importer.kind == Kind::Aws { REFUSES } else { WARNS }
    };
    MANIFEST_SYNTAX = {
        "manifest-syntax", "lines of the manifest are `ALGORITHM(name)= digest`",
        "DSP0243 2.1.1, section 6.2; operating-system#826, #1674, #3654, nextcloud/vm#2607",
        "rewrite it with `transload repack`", true, Sound,
        only_vmware
    };
    MANIFEST_STYLE = {
        "manifest-style", "the manifest has no blank lines, carriage returns or upper-case digits",
        "DSP0243 2.1.1, section 6.2", "rewrite it with `transload repack`", true, Sound,
        |importer| if vmware(importer) { WARNS } else { None }
    };
    MANIFEST_UNREADABLE = {
        "manifest-unreadable", "the manifest can be read", "DSP0243 2.1.1, section 6.2",
        "make it anew with `transload repack`", true, Corrupt,
        |importer| if importer.kind == Kind::Proxmox || importer.kind == Kind::OpenStack { None } else { REFUSES }
    };
    MANIFEST_ALGORITHM = {
        "manifest-algorithm", "an algorithm that the importer knows",
        "ESXi and vCenter to 6.0 know SHA1 alone: turnkeylinux/tracker#827, #851",
        "rewrite it with `transload repack --manifest sha1`", true, Sound,
        |importer| {
            let old = importer.kind == Kind::Esxi && importer.hardware_version.is_some_and(|version| version <= 11);
            if old { REFUSES } else { None }
        }
    };
    MANIFEST_SHA512 = {
        "manifest-sha512", "SHA1 or SHA256, which every reader of manifests knows", "not known to be read by it",
        "rewrite it with `transload repack --manifest sha256`", true, Sound,
        |importer| match importer.kind {
            Kind::Esxi if importer.hardware_version.is_some_and(|version| version <= 11) => REFUSES,
            Kind::Esxi if importer.hardware_version.is_some_and(|version| version < 20) => WARNS,
            Kind::VirtualBox | Kind::Workstation => WARNS,
            _ => None,
        }
    };
    DIGEST = {
        "manifest-digest", "files have the digest that the manifest says", "DSP0243 2.1.1, section 6.2",
        "fetch the package again; if it is meant to be so, `transload repack --force` makes a new manifest", false, Mismatch,
        |importer| match importer.kind {
            Kind::Proxmox | Kind::OpenStack => WARNS,
            _ => REFUSES,
        }
    };
    MANIFEST_ABSENT_FILE = {
        "manifest-absent-file", "the manifest names no file that is not there", "RHBZ#1570407: VMware writes such",
        "rewrite it with `transload repack`", true, Sound, all_warn
    };
    MANIFEST_INCOMPLETE = {
        "manifest-incomplete", "the manifest has a line for every file", "DSP0243 2.1.1, section 6.2",
        "rewrite it with `transload repack`", true, Sound, |importer| if vmware(importer) { WARNS } else { None }
    };
    SIGNATURE = {
        "signature", "the signature is of the manifest", "DSP0243 2.1.1, section 6.4",
        "have it signed again, or drop the signature with `transload repack`", true, Mismatch, only_vmware
    };
    DISK_FORMAT = {
        "disk-format", "disks are streamOptimized VMDKs",
        "govmomi ovf/importer; AWS VM Import prerequisites; qemu gitlab#2086, lp#1828508",
        "convert them with `transload repack`", true, Sound,
        |importer| match importer.kind {
            Kind::Esxi | Kind::Workstation | Kind::VirtualBox | Kind::Aws => REFUSES,
            _ => None,
        }
    };
    DISK_CORRUPT = {
        "disk-corrupt", "every grain of a disk can be read, and its tables name all of them",
        "Virtual Disk Format 5.0", "have the package made anew", false, Corrupt, everybody
    };
    DISK_END = {
        "vmdk-end-marker", "a streamOptimized VMDK ends in its end-of-stream marker",
        "Virtual Disk Format 5.0; qemu gitlab#1357, #2532", "rewrite the disk with `transload repack`", true, Sound, only_vmware
    };
    DISK_TRAILING = {
        "vmdk-trailing", "nothing follows the end-of-stream marker",
        "VMware's readers stop there, and compute another digest: coreos-assembler#1156, operating-system#2121",
        "rewrite the disk with `transload repack`", true, Sound, only_vmware
    };
    DISK_STRUCTURE = {
        "vmdk-structure", "grains ascend, fit the readers' buffers and are where the tables say",
        "VirtualBox VMDK.cpp, open-vmdk sparse.c", "rewrite the disk with `transload repack`", true, Sound,
        |importer| if vmware(importer) || importer.kind == Kind::VirtualBox { REFUSES } else { WARNS }
    };
    DISK_VERSION = {
        "vmdk-version", "a streamOptimized VMDK has version 3 in its header",
        "cot#65: \"sparse VMDK version too old\"", "rewrite the disk with `transload repack`", true, Sound,
        |importer| if importer.kind == Kind::Esxi { REFUSES } else { None }
    };
    DISK_GRAIN = {
        "vmdk-grain", "grains of 64 KiB, 512 to a table", "open-vmdk sparse.c, VirtualBox VMDK.cpp",
        "rewrite the disk with `transload repack`", true, Sound,
        |importer| if vmware(importer) || importer.kind == Kind::VirtualBox { REFUSES } else { None }
    };
    DISK_LAST_GRAIN = {
        "vmdk-last-grain", "the last grain inflates to a whole one", "VirtualBox VMDK.cpp: VERR_VD_VMDK_INVALID_FORMAT",
        "rewrite the disk with `transload repack`", true, Sound,
        |importer| if importer.kind == Kind::VirtualBox { REFUSES } else { None }
    };
    DISK_FOOTER = {
        "vmdk-footer", "the grain directory is in front",
        "oslo.utils format_inspector: \"Unsupported VMDK footer\"",
        "give OpenStack the disk alone: `transload convert -O vmdk -o subformat=streamOptimized`, or a qcow2", false, Sound,
        |importer| if importer.kind == Kind::OpenStack { REFUSES } else { None }
    };
    DISK_CAPACITY = {
        "disk-capacity", "the disk's own size is the one that the descriptor says",
        "xen-orchestra#6824, talos#7627", "correct it with `transload repack`", true, Sound,
        |importer| if vmware(importer) { REFUSES } else { WARNS }
    };
    UNSAFE_MEMBER = {
        "tar-unsafe", "nothing but files that stay in their folder",
        "CVE-2022-47951 and its like", "do not use the package, or have it made anew", false, Corrupt, everybody
    };
}
