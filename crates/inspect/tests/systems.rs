//! Disks with systems on them, made by the filesystems' own tools, and what is found there.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use transload_block::{BlockRead, FileBlock};
use transload_inspect::{Family, Inspection, MountState, inspect};
use transload_testkit::witness;
use transload_volume::{ReadSettings, Volumes};

const MIB: u64 = 1 << 20;

/// A disk of 96 MiB with a GPT of three partitions: 32 MiB for `/boot`, 40 MiB for `/`, and the rest.
struct Disk {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a disk for the test");
        let path = folder.path().join("disk.raw");
        fs::File::create(&path).and_then(|file| file.set_len(96 * MIB)).expect("a disk for the test");
        let mut child = Command::new("/usr/sbin/sfdisk")
            .arg("--quiet")
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("sfdisk is a witness of these tests: install fdisk");
        let script = b"label: gpt\nsize=32M, name=boot\nsize=40M, name=root\nname=data\n";
        child.stdin.take().expect("a disk for the test").write_all(script).expect("a disk for the test");
        assert!(child.wait().expect("a disk for the test").success());
        Self { folder, path }
    }

    /// Makes an ext4 filesystem of a tree on a partition, which begins at `start` MiB.
    fn put(&self, start: u64, size: u64, uuid: &str, files: &[(&str, &str)]) {
        let tree = self.folder.path().join(format!("tree{start}"));
        for (path, text) in files {
            let path = tree.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().expect("a disk for the test")).expect("a disk for the test");
            match text.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, path).expect("a disk for the test"),
                None => fs::write(path, text).expect("a disk for the test"),
            }
        }
        let offset = format!("offset={}", start * MIB);
        let (tree, disk, size) = (
            tree.to_str().expect("a disk for the test"),
            self.path.to_str().expect("a disk for the test"),
            format!("{size}M"),
        );
        witness::must("mkfs.ext4", ["-q", "-U", uuid, "-E", &offset, "-d", tree, disk, &size]);
    }

    fn inspect(&self) -> Inspection {
        look_at(&self.path)
    }
}

fn look_at(path: &Path) -> Inspection {
    let device: Arc<dyn BlockRead> = Arc::new(FileBlock::open(path, false).expect("a disk for the test"));
    let volumes = Volumes::scan(&device, &[], ReadSettings::default()).expect("a disk for the test");
    inspect(device.as_ref(), &volumes).expect("a disk for the test")
}

const BOOT: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const ROOT: &str = "aaaaaaaa-0000-4000-8000-000000000002";

#[test]
fn a_linux_system_tells_its_version_its_kernels_and_its_mounts() {
    let disk = Disk::new();
    let fstab = format!(
        "# made by an installer\nUUID={ROOT} / ext4 errors=remount-ro 0 1\nUUID={BOOT} /boot ext4 defaults 0 2\n\
         PARTLABEL=data /srv xfs defaults 0 0\n/dev/mapper/secret /secret ext4 defaults 0 0\n\
         UUID=dead-beef /lost vfat defaults 0 0\ntmpfs /tmp tmpfs defaults 0 0\nserver:/x /net nfs ro 0 0\n\
         /srv/a /srv/b none bind 0 0\n"
    );
    let release = "PRETTY_NAME=\"AlmaLinux 9.4 (Seafoam Ocelot)\"\nID=\"almalinux\"\nVERSION_ID=\"9.4\"\n";
    disk.put(
        33,
        40,
        ROOT,
        &[
            ("/etc/os-release", "-> ../usr/lib/os-release"),
            ("/usr/lib/os-release", release),
            ("/etc/hostname", "web1.example.org\n"),
            ("/etc/fstab", &fstab),
            ("/etc/crypttab", "secret PARTLABEL=data none luks\n"),
            ("/lib", "-> usr/lib"),
            ("/usr/lib/modules/5.14.0-427.el9.x86_64/modules.dep", ""),
            ("/usr/lib/modules/leftover/empty", ""),
        ],
    );
    disk.put(
        1,
        32,
        BOOT,
        &[("/vmlinuz-5.14.0-362.el9.x86_64", ""), ("/vmlinuz-0-rescue-abc", ""), ("/grub2/grub.cfg", "")],
    );
    let found = disk.inspect();
    let [system] = found.systems.as_slice() else { panic!("one system: {found:?}") };
    assert_eq!((system.family, system.volume.as_str(), system.root.as_str()), (Family::Linux, "2", "/"));
    assert_eq!(system.name.as_deref(), Some("AlmaLinux 9.4 (Seafoam Ocelot)"));
    assert_eq!((system.id.as_deref(), system.version.as_deref()), (Some("almalinux"), Some("9.4")));
    assert_eq!(system.hostname.as_deref(), Some("web1.example.org"));
    assert_eq!(system.kernels, ["5.14.0-362.el9.x86_64", "5.14.0-427.el9.x86_64"]);
    let mounts: Vec<_> =
        system.mounts.iter().map(|mount| (mount.mount_point.as_str(), mount.state, mount.volume.as_deref())).collect();
    use MountState::{Locked, Resolved, Unresolved, Virtual};
    assert_eq!(
        mounts,
        [
            ("/", Resolved, Some("2")),
            ("/boot", Resolved, Some("1")),
            ("/srv", Resolved, Some("3")),
            ("/secret", Locked, Some("3")),
            ("/lost", Unresolved, None),
            ("/tmp", Virtual, None),
            ("/net", Virtual, None),
            ("/srv/b", Virtual, None),
        ]
    );
    let loaders: Vec<_> =
        found.boot_loaders.iter().map(|loader| (loader.name.as_str(), loader.volume.as_str())).collect();
    assert_eq!(loaders, [("GRUB", "1")]);
    assert!(found.notes.is_empty() && found.unreadable.is_empty(), "{found:?}");
}

#[test]
fn old_systems_have_a_line_instead_of_a_file_of_fields() {
    let disk = Disk::new();
    disk.put(1, 32, BOOT, &[("/etc/redhat-release", "CentOS release 6.10 (Final)\n")]);
    disk.put(33, 40, ROOT, &[("/etc/alpine-release", "3.1.4\n")]);
    let systems = disk.inspect().systems;
    let told: Vec<_> = systems.iter().map(|system| (system.name.as_deref(), system.version.as_deref())).collect();
    assert_eq!(
        told,
        [(Some("CentOS release 6.10 (Final)"), Some("6.10")), (Some("Alpine Linux 3.1.4"), Some("3.1.4"))]
    );
}

#[test]
fn links_that_run_in_circles_are_a_note() {
    let disk = Disk::new();
    disk.put(1, 32, BOOT, &[("/etc/os-release", "-> os-release"), ("/etc/debian_version", "12.5\n")]);
    let found = disk.inspect();
    assert_eq!(found.systems[0].name.as_deref(), Some("Debian GNU/Linux 12.5"));
    assert!(found.notes.iter().any(|note| note.contains("symbolic links")), "{found:?}");
}

/// The head of a program for x86-64, and behind it resources with a version.
fn kernel() -> Vec<u8> {
    let mut program = vec![0; 4096];
    program[..2].copy_from_slice(b"MZ");
    program[0x3c] = 0x80;
    program[0x80..0x88].copy_from_slice(b"PE\0\0\x64\x86\x01\0");
    program[0x94] = 0xf0;
    let section = 0x80 + 24 + 0xf0;
    program[section..section + 5].copy_from_slice(b".rsrc");
    program[section + 16..section + 24].copy_from_slice(&[0, 4, 0, 0, 0, 8, 0, 0]);
    program[2048 + 64..2048 + 72].copy_from_slice(&[0xbd, 4, 0xef, 0xfe, 0, 0, 1, 0]);
    program[2048 + 80..2048 + 88].copy_from_slice(&[0, 0, 10, 0, 0x01, 0x00, 0x7c, 0x4f]);
    program
}

#[test]
fn a_windows_system_is_told_by_its_kernel_and_its_registry() {
    let disk = Disk::new();
    let folder = disk.folder.path();
    let image = folder.join("windows.raw");
    fs::File::create(&image).and_then(|file| file.set_len(16 * MIB)).unwrap();
    // NTFS cannot be filled without mounting it: what counts here are the names.
    let tree = folder.join("windows");
    let config = tree.join("Windows/System32/config");
    fs::create_dir_all(&config).unwrap();
    for hive in ["SAM", "SECURITY", "SOFTWARE", "SYSTEM", "SYSTEM.LOG1"] {
        fs::write(config.join(hive), "regf").unwrap();
    }
    fs::write(tree.join("Windows/System32/ntoskrnl.exe"), kernel()).unwrap();
    fs::write(tree.join("bootmgr"), "").unwrap();
    witness::must("mkfs.ext4", ["-q", "-F", "-d", tree.to_str().unwrap(), image.to_str().unwrap()]);
    let found = look_at(&image);
    let [system] = found.systems.as_slice() else { panic!("one system: {found:?}") };
    assert_eq!(system.family, Family::Windows);
    assert_eq!(system.version.as_deref(), Some("10.0.20348.1"));
    assert_eq!((system.name.as_deref(), system.architecture.as_deref()), (Some("Windows Server 2022"), Some("x86_64")));
    assert_eq!(system.registry.len(), 4);
    assert_eq!(found.boot_loaders[0].name, "Windows Boot Manager");
}
