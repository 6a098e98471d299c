//! Keys that have another name elsewhere, keys that mean nothing elsewhere, and keys that are not to be taken from others.

/// How the values of a setting differ between an OVF and a VMX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueKind {
    /// The same text.
    Text,
    /// `true` there, `TRUE` here.
    Flag,
    /// `preset` there, `default` here, else the same text.
    PowerOperation,
}

/// Settings with a `vmw:Config` of their own: their name there, their key here, and how the values differ.
pub(crate) const CONFIG: &[(&str, &str, ValueKind)] = &[
    ("tools.syncTimeWithHost", "tools.syncTime", ValueKind::Flag),
    ("tools.toolsUpgradePolicy", "tools.upgrade.policy", ValueKind::Text),
    ("tools.afterPowerOn", "toolScripts.afterPowerOn", ValueKind::Flag),
    ("tools.afterResume", "toolScripts.afterResume", ValueKind::Flag),
    ("tools.beforeGuestShutdown", "toolScripts.beforePowerOff", ValueKind::Flag),
    ("tools.beforeGuestStandby", "toolScripts.beforeSuspend", ValueKind::Flag),
    ("powerOpInfo.powerOffType", "powerType.powerOff", ValueKind::PowerOperation),
    ("powerOpInfo.resetType", "powerType.reset", ValueKind::PowerOperation),
    ("powerOpInfo.suspendType", "powerType.suspend", ValueKind::PowerOperation),
    ("virtualICH7MPresent", "ich7m.present", ValueKind::Flag),
    ("virtualSMCPresent", "smc.present", ValueKind::Flag),
    ("vPMCEnabled", "vpmc.enable", ValueKind::Flag),
];

/// Keys, in lower case, about the host, the last run or the file itself.
const HOST_KEYS: &[&str] = &[
    ".encoding",
    "config.version",
    "virtualhw.productcompatibility",
    "extendedconfigfile",
    "cleanshutdown",
    "uuid.location",
    "uuid.action",
    "vc.uuid",
    "workingdir",
    "snapshot.action",
    "deploymentplatform",
    "guestosaltname",
    "guestos.detailed.data",
    "guestinfo.detailed.data",
    "numa.autosize.cookie",
    "numa.autosize.vcpu.maxpervirtualnode",
    "monitor.phys_bits_used",
    "tools.remindinstall",
    "softpoweroff",
    "ctkenabled",
    "svga.guestbackedprimaryaware",
    "encryptedvm.guid",
    "policy.vm.mvmtid",
    "invmteam",
];

/// How such keys begin.
const HOST_PREFIXES: &[&str] = &[
    "migrate.",
    "checkpoint.",
    "vmotion.",
    "sched.",
    "replay.",
    "guestcpuid.",
    "hostcpuid.",
    "usercpuid.",
    "evccompatibilitymode",
    "toolsinstallmanager.",
    "memtrimrate",
    "memallowautoscaledown",
    "vmxstats.",
    "viv.",
    "gui.",
    "unity.",
    "sharedfolder",
    "hgfs.",
];

/// How such keys end.
const HOST_SUFFIXES: &[&str] = &[
    ".redo",
    ".ctkenabled",
    ".changetrackpath",
    ".generatedaddressoffset",
    ".saswwid",
    ".pvnid",
    ".vnet",
    ".dvs.switchid",
    ".dvs.portid",
    ".dvs.portgroupid",
    ".dvs.connectionid",
];

/// Whether a key, in lower case, speaks of the host, the last run or the file itself, and means nothing anywhere else.
pub(super) fn is_of_host(key: &str) -> bool {
    HOST_KEYS.contains(&key)
        || HOST_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
        || HOST_SUFFIXES.iter().any(|suffix| key.ends_with(suffix))
}

/// Beginnings of keys that name files, devices or doors of the host. A machine that came from elsewhere must not set them:
/// they would reach out of the machine.
const REACHING_PREFIXES: &[&str] = &[
    "scsi",
    "sata",
    "nvme",
    "ide",
    "floppy",
    "ethernet",
    "serial",
    "parallel",
    "usb",
    "ehci",
    "sound",
    "pcipassthru",
    "vmx.",
    "pref.",
    "log.",
    "libdir",
    "tools.script",
    "toolscripts",
    "debugstub.",
    "remotedisplay.",
    "mks.",
    "isolation.tools.hgfs",
    "snapshot.",
    "disk.locking",
    "filesearchpath",
    "nvram",
    "encryption.",
    "encryptedvm.",
    "vtpm.",
    "managedvm.",
    "monitor.virtual_exec",
    "bios.",
    "bios440.",
    "efi64.",
    "uuid.",
    "answer.",
    "msg.",
    "vprobe",
    "guestos",
    "displayname",
    "annotation",
    "memsize",
    "numvcpus",
    "firmware",
    "workingdir",
];

/// Whether a machine that came from elsewhere may set this key.
///
/// It may not where the key reaches out of the machine, or is one that a VMX is made of.
pub(crate) fn is_harmless(key: &str) -> bool {
    let lower = key.to_lowercase();
    let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | ':' | '-');
    let placed = lower.ends_with(".pcislotnumber");
    !key.is_empty()
        && key.len() <= 255
        && key.chars().all(plain)
        && !lower.ends_with(".filename")
        && !is_of_host(&lower)
        && (placed || !REACHING_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)))
}

/// Whether a value looks like a place on a host.
pub(crate) fn is_path(value: &str) -> bool {
    let bytes = value.as_bytes();
    let drive = matches!(bytes, [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic());
    drive || value.starts_with(['/', '\\', '~']) || (value.starts_with('[') && value.contains(']'))
}
