//! Boot loaders: in the disk's first sector, and by the files that they keep.

use transload_block::{BlockRead, BlockReadExt, Result};

use crate::BootLoader;
use crate::files::Files;

/// What the code in a first sector says of itself, in the order in which it is asked for.
const CODES: [(&[u8], &str); 7] = [
    (b"GRUB ", "GRUB"),
    (b"LILO", "LILO"),
    (b"SYSLINUX", "SYSLINUX"),
    (b"Operating system load error", "SYSLINUX"),
    (b"Missing OS", "SYSLINUX"),
    (b"Missing operating system", "Windows"),
    (b"BTX", "FreeBSD boot manager"),
];

/// The loader that a BIOS starts from the first sector of the disk.
pub(crate) fn first_sector(disk: &dyn BlockRead) -> Result<Option<BootLoader>> {
    const CODE: u64 = 440;
    if disk.size() < CODE {
        return Ok(None);
    }
    let code = disk.read_vec(0, CODE)?;
    let says = |text: &[u8]| code.windows(text.len()).any(|window| window == text);
    let found = CODES.iter().find(|(text, _)| says(text));
    Ok(found.map(|(_, name)| BootLoader {
        name: (*name).to_owned(),
        firmware: Some("bios"),
        volume: String::from("whole"),
        path: None,
    }))
}

/// Files that belong to one loader each: where, whose, and what starts it.
const FILES: [(&str, &str, Option<&str>); 11] = [
    ("/EFI/Microsoft/Boot/bootmgfw.efi", "Windows Boot Manager", Some("uefi")),
    ("/EFI/systemd/systemd-bootx64.efi", "systemd-boot", Some("uefi")),
    ("/EFI/systemd/systemd-bootaa64.efi", "systemd-boot", Some("uefi")),
    ("/EFI/refind/refind_x64.efi", "rEFInd", Some("uefi")),
    ("/bootmgr", "Windows Boot Manager", Some("bios")),
    ("/ntldr", "Windows NT loader", Some("bios")),
    ("/syslinux.cfg", "SYSLINUX", None),
    ("/syslinux/syslinux.cfg", "SYSLINUX", None),
    ("/extlinux/extlinux.conf", "EXTLINUX", None),
    ("/boot/extlinux/extlinux.conf", "EXTLINUX", None),
    ("/isolinux/isolinux.cfg", "ISOLINUX", Some("bios")),
];
/// GRUB's own configuration, on the root or on a volume for `/boot`.
const GRUB: [&str; 4] = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/grub/grub.cfg", "/grub2/grub.cfg"];
/// The programs that a firmware starts where nothing else is said.
const FALLBACKS: [&str; 4] =
    ["/EFI/BOOT/BOOTX64.EFI", "/EFI/BOOT/BOOTAA64.EFI", "/EFI/BOOT/BOOTIA32.EFI", "/EFI/BOOT/BOOTRISCV64.EFI"];

/// The loaders that a volume has files of.
pub(crate) fn loaders(files: &Files<'_>) -> Vec<BootLoader> {
    let loader = |name: &str, firmware, path: &str| BootLoader {
        name: name.to_owned(),
        firmware,
        volume: files.volume.to_owned(),
        path: Some(path.to_owned()),
    };
    let known = FILES.iter().filter(|(path, _, _)| files.has_file(path));
    let mut found: Vec<_> = known.map(|(path, name, firmware)| loader(name, *firmware, path)).collect();
    found.extend(GRUB.iter().filter(|path| files.has_file(path)).map(|path| loader("GRUB", None, path)));
    for vendor in files.names("/EFI") {
        let folder = format!("/EFI/{vendor}");
        // Distributions have GRUB, and in front of it a loader that the firmware trusts, in a folder of their own.
        for name in files.names(&folder) {
            let lower = name.to_ascii_lowercase();
            let known = match lower.strip_suffix(".efi") {
                Some(stem) if stem.starts_with("grub") => "GRUB",
                Some(stem) if stem.starts_with("shim") => "shim",
                _ => continue,
            };
            found.push(loader(known, Some("uefi"), &format!("{folder}/{name}")));
        }
    }
    if found.iter().all(|loader| loader.firmware != Some("uefi")) {
        let fallback = FALLBACKS.iter().find(|path| files.has_file(path));
        found.extend(fallback.map(|path| loader("default UEFI program", Some("uefi"), path)));
    }
    found
}
