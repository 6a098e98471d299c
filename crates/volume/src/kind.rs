//! What a partition is for: the types that tables write down, with the names that people have for them.

use std::fmt;

use transload_block::{Error, ErrorKind, Result};

use crate::{Guid, Scheme};

/// The type of a partition, as its table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The byte of an MBR entry.
    Mbr(u8),
    /// The GUID of a GPT entry.
    Gpt(Guid),
}

/// A type by its name on the command line, its code in an MBR and its GUID in a GPT.
struct Named {
    /// Short names; the first one is printed.
    short: &'static [&'static str],
    /// For people.
    title: &'static str,
    /// The bytes that mean it; the first one is written.
    mbr: &'static [u8],
    gpt: Option<Guid>,
}

const fn both(short: &'static [&'static str], title: &'static str, mbr: &'static [u8], gpt: &str) -> Named {
    Named { short, title, mbr, gpt: Some(Guid::constant(gpt)) }
}

const fn only_gpt(short: &'static [&'static str], title: &'static str, gpt: &str) -> Named {
    both(short, title, &[], gpt)
}

const fn only_mbr(short: &'static [&'static str], title: &'static str, mbr: &'static [u8]) -> Named {
    Named { short, title, mbr, gpt: None }
}

/// Sources: UEFI 2.10 table 5.7, the Discoverable Partitions Specification, Microsoft's `PARTITION_INFORMATION_GPT`, the
/// lists of util-linux and gdisk.
const NAMES: &[Named] = &[
    both(&["linux"], "Linux filesystem", &[0x83], "0fc63daf-8483-4772-8e79-3d69d8477de4"),
    both(&["swap"], "Linux swap", &[0x82], "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"),
    both(&["lvm"], "Linux LVM", &[0x8e], "e6d6d379-f507-44c2-a23c-238f2a3df928"),
    both(&["raid"], "Linux RAID", &[0xfd], "a19d880f-05fc-4d3b-a006-743f0f84911e"),
    both(&["esp", "uefi", "efi"], "EFI system", &[0xef], "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
    both(&["xbootldr"], "extended boot loader", &[0xea], "bc13c2ff-59e6-4262-a352-b275fd6f7172"),
    only_gpt(&["bios", "biosboot"], "BIOS boot", "21686148-6449-6e6f-744e-656564454649"),
    both(&["windows", "ntfs", "basic"], "Microsoft basic data", &[0x07], "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"),
    only_gpt(&["msr"], "Microsoft reserved", "e3c9e316-0b5c-4db8-817d-f92df00215ae"),
    both(&["recovery"], "Windows recovery", &[0x27], "de94bba4-06d1-4d40-a16a-bfd50179d6ac"),
    only_gpt(&["ldm-metadata"], "Windows LDM metadata", "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3"),
    both(&["ldm", "ldm-data"], "Windows LDM data", &[0x42], "af9b60a0-1431-4f62-bc68-3311714a69ad"),
    only_gpt(&["storage-spaces"], "Windows Storage Spaces", "e75caf8f-f680-4cee-afa3-b001e56efc2d"),
    only_gpt(&["home"], "Linux home", "933ac7e1-2eb4-4f13-b844-0e14e2aef915"),
    only_gpt(&["srv"], "Linux server data", "3b8f8425-20e0-4f3b-907f-1a25a76f98e8"),
    only_gpt(&["var"], "Linux variable data", "4d21b016-b534-45c2-a9fb-5c16e091fd2d"),
    only_gpt(&["luks"], "Linux LUKS", "ca7d7ccb-63ed-4c53-861c-1742536059cc"),
    only_gpt(&["dm-crypt"], "Linux dm-crypt", "7ffec5c9-2d00-49b7-8941-3ea10a5586b7"),
    only_gpt(&["root-x86"], "Linux root (x86)", "44479540-f297-41b2-9af7-d131d5f0458a"),
    only_gpt(&["root-x86-64"], "Linux root (x86-64)", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
    only_gpt(&["root-arm64"], "Linux root (ARM64)", "b921b045-1df0-41c3-af44-4c6f280d3fae"),
    only_gpt(&["root-arm"], "Linux root (ARM)", "69dad710-2ce4-4e3c-b16c-21a1d49abed3"),
    only_gpt(&["root-riscv64"], "Linux root (RISC-V 64)", "72ec70a6-cf74-40e6-bd49-4bda08e8f224"),
    only_gpt(&["usr-x86-64"], "Linux /usr (x86-64)", "8484680c-9521-48c6-9c11-b0720656f69e"),
    only_gpt(&["verity-x86-64"], "Linux root verity (x86-64)", "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"),
    only_gpt(&["linux-reserved"], "Linux reserved", "8da63339-0007-60c0-c436-083ac8230908"),
    only_gpt(&["ceph-osd"], "Ceph OSD", "4fbd7e29-9d25-41b8-afd0-062c0ceff05d"),
    both(&["prep"], "PowerPC PReP boot", &[0x41], "9e1a2d38-c612-4316-aa26-8b49521e5a8b"),
    only_gpt(&["chromeos-kernel"], "ChromeOS kernel", "fe3a2a5d-4f32-41a7-b725-accc3285a309"),
    only_gpt(&["chromeos-root"], "ChromeOS root", "3cb8e202-3b7e-47dd-8a3c-7ff2a13cfcec"),
    only_gpt(&["freebsd-boot"], "FreeBSD boot", "83bd6b9d-7f41-11dc-be0b-001560b84f0f"),
    only_gpt(&["freebsd-ufs"], "FreeBSD UFS", "516e7cb6-6ecf-11d6-8ff8-00022d09712b"),
    only_gpt(&["freebsd-swap"], "FreeBSD swap", "516e7cb5-6ecf-11d6-8ff8-00022d09712b"),
    only_gpt(&["freebsd-zfs"], "FreeBSD ZFS", "516e7cba-6ecf-11d6-8ff8-00022d09712b"),
    both(&["freebsd"], "FreeBSD", &[0xa5], "516e7cb4-6ecf-11d6-8ff8-00022d09712b"),
    only_mbr(&["openbsd"], "OpenBSD", &[0xa6]),
    only_mbr(&["netbsd"], "NetBSD", &[0xa9]),
    only_gpt(&["zfs"], "ZFS (Solaris /usr, Apple)", "6a898cc3-1dd2-11b2-99a6-080020736631"),
    only_gpt(&["solaris-root"], "Solaris root", "6a85cf4d-1dd2-11b2-99a6-080020736631"),
    only_gpt(&["solaris-reserved"], "Solaris reserved", "6a945a3b-1dd2-11b2-99a6-080020736631"),
    both(&["hfs"], "Apple HFS or HFS+", &[0xaf], "48465300-0000-11aa-aa11-00306543ecac"),
    only_gpt(&["apfs"], "Apple APFS", "7c3457ef-0000-11aa-aa11-00306543ecac"),
    only_gpt(&["apple-boot"], "Apple boot", "426f6f74-0000-11aa-aa11-00306543ecac"),
    both(&["vmfs"], "VMware VMFS", &[0xfb], "aa31e02a-400f-11db-9590-000c2911d1b8"),
    only_gpt(&["vmware-reserved"], "VMware reserved", "9198effc-31c0-11db-8f78-000c2911d1b8"),
    both(&["vmkcore"], "VMware core dump", &[0xfc], "9d275380-40ad-11db-bf97-000c2911d1b8"),
    only_gpt(&["hybrid"], "MBR partition scheme", "024dee41-33e7-11d3-9d69-0008c781f39f"),
    only_mbr(&["extended"], "extended", &[0x0f, 0x05, 0x85]),
    only_mbr(&["fat12"], "FAT12", &[0x01]),
    only_mbr(&["fat16"], "FAT16", &[0x0e, 0x06, 0x04]),
    only_mbr(&["fat32", "fat"], "FAT32", &[0x0c, 0x0b]),
    only_mbr(&["hidden-fat"], "hidden FAT", &[0x1c, 0x11, 0x14, 0x16, 0x1b, 0x1e]),
    only_mbr(&["hidden-ntfs"], "hidden NTFS", &[0x17]),
    only_mbr(&["protective"], "GPT protective", &[0xee]),
    only_mbr(&["minix"], "Minix", &[0x81, 0x80]),
    only_mbr(&["solaris"], "Solaris", &[0xbf]),
    only_mbr(&["beos"], "BeOS", &[0xeb]),
    only_mbr(&["plan9"], "Plan 9", &[0x39]),
    only_mbr(&["diagnostics"], "diagnostics", &[0x12]),
    only_mbr(&["non-fs-data"], "data without a filesystem", &[0xda]),
];

impl Kind {
    /// The type that `text` means in a table of `scheme`: a short name such as `linux`, or the code or GUID itself.
    ///
    /// # Errors
    /// `InvalidInput` when it means none there.
    pub fn parse(text: &str, scheme: Scheme) -> Result<Self> {
        let lower = text.to_ascii_lowercase();
        let named = NAMES.iter().find(|named| named.short.contains(&lower.as_str()));
        let in_scheme = |named: &Named| match scheme {
            Scheme::Mbr => named.mbr.first().copied().map(Self::Mbr),
            // The filesystems of Microsoft share one GUID.
            Scheme::Gpt if named.short[0].starts_with("fat") => Some(Self::BASIC_DATA),
            Scheme::Gpt => named.gpt.map(Self::Gpt),
        };
        let literal = || match scheme {
            Scheme::Gpt => lower.parse().ok().filter(|guid| *guid != Guid::NIL).map(Self::Gpt),
            Scheme::Mbr => {
                let digits = lower.strip_prefix("0x").unwrap_or(&lower);
                let code = (1..=2).contains(&digits.len()).then(|| u8::from_str_radix(digits, 16).ok()).flatten();
                code.filter(|code| *code != 0).map(Self::Mbr)
            }
        };
        named.map_or_else(literal, in_scheme).ok_or_else(|| {
            let literal = match scheme {
                Scheme::Mbr => "two hexadecimal digits",
                Scheme::Gpt => "a GUID",
            };
            Error::new(ErrorKind::InvalidInput, format!("'{text}' is no type of partition in {scheme}"))
                .with_remedy(format!("give {literal}, or a name such as {}", short_names(scheme).join(", ")))
        })
    }

    const BASIC_DATA: Self = Self::Gpt(Guid::constant("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"));
    /// The EFI system partition in a GPT.
    pub const ESP: Self = Self::Gpt(Guid::constant("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"));

    fn named(self) -> Option<&'static Named> {
        NAMES.iter().find(|named| match self {
            Self::Mbr(code) => named.mbr.contains(&code),
            Self::Gpt(guid) => named.gpt == Some(guid),
        })
    }

    /// The name for people, where the type is known.
    #[must_use]
    pub fn title(self) -> Option<&'static str> {
        self.named().map(|named| named.title)
    }

    /// The short name, which [`parse`](Self::parse) understands, where the type is known.
    #[must_use]
    pub fn short_name(self) -> Option<&'static str> {
        self.named().map(|named| named.short[0])
    }
}

/// The short names that a table of `scheme` has types for.
#[must_use]
pub fn short_names(scheme: Scheme) -> Vec<&'static str> {
    let known = |named: &&Named| match scheme {
        Scheme::Mbr => !named.mbr.is_empty(),
        Scheme::Gpt => named.gpt.is_some(),
    };
    NAMES.iter().filter(known).map(|named| named.short[0]).collect()
}

impl fmt::Display for Kind {
    /// The code or GUID as the table has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr(code) => write!(f, "{code:02x}"),
            Self::Gpt(guid) => guid.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Kind, NAMES, short_names};
    use crate::Scheme;

    #[test]
    fn every_name_is_parsed_into_the_type_that_has_it() {
        for scheme in [Scheme::Mbr, Scheme::Gpt] {
            for name in short_names(scheme) {
                let kind = Kind::parse(name, scheme).unwrap();
                assert_eq!(kind.short_name(), Some(name));
                assert_eq!(Kind::parse(&kind.to_string(), scheme).unwrap(), kind);
            }
        }
        assert_eq!(Kind::parse("fat32", Scheme::Gpt).unwrap().short_name(), Some("windows"));
        for (text, scheme) in [("msr", Scheme::Mbr), ("extended", Scheme::Gpt), ("00", Scheme::Mbr), ("x", Scheme::Gpt)]
        {
            assert!(Kind::parse(text, scheme).is_err(), "{text}");
        }
    }

    #[test]
    fn no_name_code_or_guid_is_there_twice() {
        let mut seen = BTreeSet::new();
        for named in NAMES {
            let codes = named.mbr.iter().map(|code| Kind::Mbr(*code).to_string());
            let guid = named.gpt.map(|guid| guid.to_string());
            for text in named.short.iter().map(|name| (*name).to_owned()).chain(codes).chain(guid) {
                assert!(seen.insert(text.clone()), "{text}");
            }
        }
    }
}
