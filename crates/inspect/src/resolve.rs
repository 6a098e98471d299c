//! Which volumes of the disk the lines of an `fstab` mean.

use serde::Serialize;
use transload_volume::{Contents, DiskId, Signature, Usage, VolumeName, Volumes};

use crate::fstab::Line;

/// A line of an `fstab`, with the volume that it means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mount {
    /// What is mounted, as the file has it.
    pub source: String,
    /// Where.
    pub mount_point: String,
    /// The type of the filesystem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The options, as the file has them.
    pub options: String,
    /// What became of it.
    pub state: MountState,
    /// The volume that is meant, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
}

/// What a line of an `fstab` leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountState {
    /// A volume of the disk.
    Resolved,
    /// A volume of the disk that is encrypted.
    Locked,
    /// Nothing that is on a disk: memory, the kernel's own, the network, a file of another mount.
    Virtual,
    /// A device that is not on these disks.
    Unresolved,
}

/// The names that volumes have besides their own.
pub(crate) struct Index {
    volumes: Vec<Known>,
}

struct Known {
    name: VolumeName,
    signature: Option<Signature>,
    partition_uuid: Option<String>,
    partition_name: Option<String>,
}

/// Types that stand on no device.
const VIRTUAL: &[&str] = &[
    "proc",
    "sysfs",
    "tmpfs",
    "devtmpfs",
    "devpts",
    "ramfs",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "efivarfs",
    "hugetlbfs",
    "mqueue",
    "configfs",
    "fusectl",
    "overlay",
    "aufs",
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "virtiofs",
    "ceph",
    "glusterfs",
    "fuse.sshfs",
    "autofs",
    "usbfs",
    "binfmt_misc",
    "none",
];

impl Index {
    pub(crate) fn new(volumes: &Volumes) -> Self {
        let id = match volumes.contents() {
            Contents::Table(table) => Some(table.id()),
            Contents::Whole(_) => None,
        };
        let known = volumes.iter().map(|volume| {
            let partition = volume.partition.as_ref();
            let partition_uuid = partition.and_then(|partition| match (partition.guid, id?) {
                (Some(guid), _) => Some(guid.to_string()),
                (None, DiskId::Signature(signature)) => Some(format!("{signature:08x}-{:02x}", partition.number)),
                (None, DiskId::Guid(_)) => None,
            });
            Known {
                name: volume.name.clone(),
                // What cannot be read has no UUID that could be asked for.
                signature: volume.signature().ok().flatten(),
                partition_uuid,
                partition_name: partition.map(|partition| partition.name.clone()).filter(|name| !name.is_empty()),
            }
        });
        Self { volumes: known.collect() }
    }

    /// What a line leads to. `crypttab` has the names of what is decrypted, with the devices.
    pub(crate) fn mount(&self, line: Line, crypttab: &[(String, String)]) -> Mount {
        let (state, volume) = self.lookup(&line, crypttab);
        let Line { source, mount_point, kind, options } = line;
        Mount { source, mount_point, kind, options, state, volume }
    }

    fn lookup(&self, line: &Line, crypttab: &[(String, String)]) -> (MountState, Option<String>) {
        let source = line.source.as_str();
        let is_bind = line.options.split(',').any(|option| matches!(option, "bind" | "rbind"));
        let is_device = source.contains('=') || source.starts_with("/dev/");
        if is_bind || VIRTUAL.contains(&line.kind.as_str()) || !is_device {
            return (MountState::Virtual, None);
        }
        if let Some(known) = self.find(source) {
            let is_locked = known.signature.as_ref().is_some_and(|found| found.format.usage() == Usage::Encrypted);
            let state = if is_locked { MountState::Locked } else { MountState::Resolved };
            return (state, Some(known.name.to_string()));
        }
        let mapped = source.strip_prefix("/dev/mapper/");
        let device = mapped.and_then(|name| crypttab.iter().find(|(known, _)| known == name));
        match device.and_then(|(_, device)| self.find(device)) {
            Some(known) => (MountState::Locked, Some(known.name.to_string())),
            None => (MountState::Unresolved, None),
        }
    }

    /// The volume that a tag or the name of a device means.
    fn find(&self, source: &str) -> Option<&Known> {
        const LINKS: [(&str, &str); 4] = [
            ("/dev/disk/by-uuid/", "UUID"),
            ("/dev/disk/by-label/", "LABEL"),
            ("/dev/disk/by-partuuid/", "PARTUUID"),
            ("/dev/disk/by-partlabel/", "PARTLABEL"),
        ];
        let link = LINKS.iter().find_map(|(folder, tag)| Some((*tag, source.strip_prefix(folder)?)));
        let (tag, value) = link.or_else(|| source.split_once('=')).unwrap_or(("", source));
        let value = value.trim_matches(['"', '\'']);
        let same = |found: Option<&String>| found.is_some_and(|found| found.eq_ignore_ascii_case(value));
        let signature = |known: &Known| known.signature.clone();
        self.volumes.iter().find(|known| match tag {
            "UUID" => same(signature(known).and_then(|found| found.uuid).as_ref()),
            "LABEL" => signature(known).and_then(|found| found.label).is_some_and(|label| label == value),
            "PARTUUID" => same(known.partition_uuid.as_ref()),
            "PARTLABEL" => known.partition_name.as_ref().is_some_and(|name| name == value),
            "" => Some(&known.name) == device_volume(value).as_ref(),
            _ => false,
        })
    }
}

/// The volume of the first disk that a device's name means. Other disks' are on other images.
fn device_volume(device: &str) -> Option<VolumeName> {
    if let Some(name) = device.strip_prefix("/dev/mapper/") {
        return mapper_volume(name);
    }
    let name = device.strip_prefix("/dev/")?;
    if name.contains('/') {
        return name.parse().ok().filter(|name| matches!(name, VolumeName::Logical { .. }));
    }
    const FIRST: [&str; 7] = ["sda", "vda", "xvda", "hda", "nvme0n1p", "mmcblk0p", "nbd0p"];
    let number = FIRST.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    number.parse().ok().filter(|name| matches!(name, VolumeName::Partition(_)))
}

/// The logical volume of a name in `/dev/mapper`, where a dash parts group and volume, and two dashes are one.
fn mapper_volume(name: &str) -> Option<VolumeName> {
    let mut parts = vec![String::new()];
    let mut characters = name.chars().peekable();
    while let Some(character) = characters.next() {
        match parts.last_mut() {
            Some(part) if character != '-' || characters.next_if_eq(&'-').is_some() => part.push(character),
            _ => parts.push(String::new()),
        }
    }
    let [group, volume] = <[String; 2]>::try_from(parts).ok()?;
    format!("{group}/{volume}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::device_volume;

    #[test]
    fn devices_have_the_names_of_volumes() {
        let cases = [
            ("/dev/sda1", Some("1")),
            ("/dev/nvme0n1p12", Some("12")),
            ("/dev/mapper/vg0-root", Some("vg0/root")),
            ("/dev/mapper/my--vg-lv--a", Some("my-vg/lv-a")),
            ("/dev/vg0/root", Some("vg0/root")),
            ("/dev/sdb1", None),
            ("/dev/sda", None),
            ("/dev/mapper/cryptroot", None),
            ("/dev/mapper/a-b-c", None),
            ("/dev/disk/by-id/x", None),
            ("tmpfs", None),
        ];
        for (device, volume) in cases {
            assert_eq!(device_volume(device).map(|name| name.to_string()).as_deref(), volume, "{device}");
        }
    }
}
