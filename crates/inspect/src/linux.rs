//! Linux systems: what they call themselves, their kernels, and what they mount.

use std::collections::BTreeSet;

use crate::files::Files;
use crate::resolve::{Index, MountState};
use crate::{Family, Opened, System, fields, fstab};

/// Where a system says what it is, in the order of os-release(5).
const RELEASES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
/// The files of systems from before that, which have their name and version in a line, or their version alone.
const OLD_RELEASES: [(&str, &str, Option<&str>); 6] = [
    ("/etc/redhat-release", "redhat", None),
    ("/etc/SuSE-release", "suse", None),
    ("/etc/alpine-release", "alpine", Some("Alpine Linux")),
    ("/etc/gentoo-release", "gentoo", None),
    ("/etc/slackware-version", "slackware", None),
    ("/etc/debian_version", "debian", Some("Debian GNU/Linux")),
];
/// Subvolumes of btrfs that installers put the root into.
const SUBVOLUMES: [&str; 3] = ["/@", "/root", "/@rootfs"];
/// Programs that every system has one of, and that are for its own processor.
const PROGRAMS: [&str; 5] = ["/bin/sh", "/usr/bin/env", "/sbin/init", "/bin/busybox", "/usr/lib/systemd/systemd"];
/// Deployments of one image that are looked at.
const MOST_DEPLOYMENTS: usize = 16;

/// The systems on a volume: one at its root, or those in subvolumes and deployments.
pub(crate) fn systems(files: &Files<'_>, is_btrfs: bool, index: &Index) -> Vec<System> {
    let mut roots = vec![String::new()];
    if is_btrfs && !files.has_folder("/etc") {
        roots.extend(SUBVOLUMES.map(String::from));
    }
    for name in files.names("/ostree/deploy") {
        let folder = format!("/ostree/deploy/{name}/deploy");
        let deployments = files.names(&folder).into_iter().filter(|name| !name.ends_with(".origin"));
        roots.extend(deployments.take(MOST_DEPLOYMENTS).map(|deployment| format!("{folder}/{deployment}")));
    }
    roots.iter().filter_map(|root| system(files, root, index)).collect()
}

/// The system whose root is the folder `root`, which is empty for the volume's own.
fn system(files: &Files<'_>, root: &str, index: &Index) -> Option<System> {
    let at = |path: &str| format!("{root}{path}");
    let release = RELEASES.iter().find_map(|path| files.text(&at(path)));
    let (name, id, version) = match &release {
        Some(text) => {
            let field = |key| fields::assignment(text, key);
            (field("PRETTY_NAME").or_else(|| field("NAME")), field("ID"), field("VERSION_ID"))
        }
        None => old_release(files, root)?,
    };
    let crypttab = files.text(&at("/etc/crypttab")).map(|text| fstab::parse_crypttab(&text)).unwrap_or_default();
    let lines = files.text(&at("/etc/fstab")).map(|text| fstab::parse(&text)).unwrap_or_default();
    let program = PROGRAMS.iter().find_map(|path| fields::elf_machine(&files.head(&at(path), 64)?));
    let mut kernels: BTreeSet<String> = module_folders(files, root).into_iter().collect();
    kernels.extend(started(&files.names(&at("/boot"))));
    Some(System {
        volume: files.volume.to_owned(),
        root: if root.is_empty() { String::from("/") } else { root.to_owned() },
        family: Family::Linux,
        name,
        id,
        // Debian's own version says more than the number of its release.
        version: files.line(&at("/etc/debian_version")).filter(|_| is_debian(release.as_deref())).or(version),
        architecture: program.map(String::from),
        hostname: files.line(&at("/etc/hostname")),
        kernels: kernels.into_iter().collect(),
        registry: Vec::new(),
        mounts: lines.into_iter().map(|line| index.mount(line, &crypttab)).collect(),
    })
}

fn is_debian(release: Option<&str>) -> bool {
    release.and_then(|text| fields::assignment(text, "ID")).is_some_and(|id| id == "debian")
}

type Release = (Option<String>, Option<String>, Option<String>);

fn old_release(files: &Files<'_>, root: &str) -> Option<Release> {
    OLD_RELEASES.iter().find_map(|(path, id, name)| {
        let line = files.line(&format!("{root}{path}"))?;
        let id = Some((*id).to_owned());
        Some(match name {
            Some(name) => (Some(format!("{name} {line}")), id, Some(line)),
            None => {
                let version =
                    line.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
                (Some(line.clone()), id, version.map(str::to_owned))
            }
        })
    })
}

/// The versions that there are modules for.
fn module_folders(files: &Files<'_>, root: &str) -> Vec<String> {
    let mut names = Vec::new();
    for folder in ["/usr/lib/modules", "/lib/modules"] {
        let path = format!("{root}{folder}");
        let has_modules = |name: &String| {
            files.has_file(&format!("{path}/{name}/modules.dep")) || files.has_folder(&format!("{path}/{name}/kernel"))
        };
        names.extend(files.names(&path).into_iter().filter(has_modules));
    }
    names
}

/// The versions in the names of kernels.
fn started(names: &[String]) -> Vec<String> {
    const PREFIXES: [&str; 5] = ["vmlinuz-", "vmlinux-", "Image-", "kernel-", "bzImage-"];
    let version = |name: &String| PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).map(str::to_owned);
    // A rescue kernel has the machine's id instead of a version.
    let is_version = |version: &String| {
        version.starts_with(|first: char| first.is_ascii_digit()) && !version.starts_with("0-rescue")
    };
    names.iter().filter_map(version).filter(is_version).collect()
}

/// Adds the kernels that stand on the volume that a system mounts as `/boot`.
pub(crate) fn add_kernels_of_boot(system: &mut System, opened: &[Opened], notes: &mut Vec<String>) {
    let is_boot = |mount: &&crate::Mount| mount.mount_point == "/boot" && mount.state == MountState::Resolved;
    let Some(volume) = system.mounts.iter().find(is_boot).and_then(|mount| mount.volume.as_ref()) else { return };
    let Some(place) = opened.iter().find(|place| place.volume == *volume) else { return };
    let files = Files::new(place.filesystem.as_ref(), &place.volume);
    let mut kernels: BTreeSet<String> = system.kernels.drain(..).collect();
    kernels.extend(started(&files.names("/")));
    system.kernels = kernels.into_iter().collect();
    notes.extend(files.into_notes());
}

#[cfg(test)]
mod tests {
    use super::started;

    #[test]
    fn kernels_are_told_by_their_names() {
        let names = [
            "vmlinuz-6.1.0-18-amd64",
            "initrd.img-6.1.0-18-amd64",
            "vmlinuz-0-rescue-0f3c",
            "vmlinuz",
            "kernel-6.6",
            "vmlinuz-linux",
        ];
        let names = names.map(String::from);
        assert_eq!(started(&names), ["6.1.0-18-amd64", "6.6"]);
    }
}
