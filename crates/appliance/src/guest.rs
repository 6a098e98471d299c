//! The operating system inside a machine, under the names that VMware, CIM, VirtualBox, libosinfo and Proxmox have for it.

use serde::Serialize;

mod table;

pub use table::{Family, KNOWN_GUESTS, KnownGuest};

/// The guest's operating system as writings name it. Each has a naming of its own; [`GuestOs::known`] joins them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestOs {
    /// VMware's name as a VMX has it, such as `debian12-64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmware: Option<String>,
    /// The number in CIM's list of operating systems, as an OVF has it: 96 is 64-bit Debian.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cim: Option<u32>,
    /// The version, where an OVF says it beside the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// VirtualBox's name, such as `Debian_64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtualbox: Option<String>,
    /// libosinfo's address, such as `http://debian.org/debian/12`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub libosinfo: Option<String>,
    /// A description for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl GuestOs {
    /// The guest of this name in a VMX, such as `debian12-64`.
    #[must_use]
    pub fn from_vmx(name: impl Into<String>) -> Self {
        Self { vmware: Some(name.into()), ..Self::default() }
    }

    /// The row of the table that these names lead to: the most exact name first.
    #[must_use]
    pub fn known(&self) -> Option<&'static KnownGuest> {
        let by = |name: &Option<String>, of: fn(&KnownGuest) -> &'static str| {
            let name = name.as_deref()?;
            KNOWN_GUESTS.iter().find(|guest| !of(guest).is_empty() && of(guest).eq_ignore_ascii_case(name))
        };
        by(&self.vmware, |guest| guest.vmware)
            .or_else(|| by(&self.libosinfo, |guest| guest.libosinfo))
            .or_else(|| by(&self.virtualbox, |guest| guest.virtualbox))
            .or_else(|| KNOWN_GUESTS.iter().find(|guest| self.cim.is_some_and(|cim| cim > 1 && guest.cim == cim)))
    }

    /// What kind it is, as far as any of its names tells.
    #[must_use]
    pub fn family(&self) -> Family {
        if let Some(guest) = self.known() {
            return guest.family;
        }
        let names = [&self.vmware, &self.virtualbox, &self.libosinfo, &self.description];
        let text = names.into_iter().flatten().map(|name| name.to_ascii_lowercase()).collect::<Vec<_>>().join(" ");
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if has(&["darwin", "macos", "mac os"]) {
            Family::MacOs
        } else if has(&["windows", "winxp", "winnet", "winvista", "win2000", "longhorn", "microsoft.com"]) {
            Family::Windows
        } else if has(&["bsd"]) {
            Family::Bsd
        } else if has(&["solaris"]) {
            Family::Solaris
        } else if has(&[
            "linux", "ubuntu", "debian", "centos", "rhel", "red hat", "fedora", "suse", "sles", "photon", "coreos",
        ]) {
            Family::Linux
        } else {
            Family::Other
        }
    }

    /// The name for a VMX.
    #[must_use]
    pub fn vmware_name(&self) -> Option<String> {
        self.vmware.clone().or_else(|| Some(self.known()?.vmware.to_owned()))
    }

    /// The name that vSphere's API and OVFs of VMware have for it, such as `debian12_64Guest`.
    #[must_use]
    pub fn vim_name(&self) -> Option<String> {
        let name = self.vmware_name()?;
        Some(match KNOWN_GUESTS.iter().find(|guest| guest.vmware.eq_ignore_ascii_case(&name)) {
            Some(guest) => guest.vim.to_owned(),
            None => vim_by_rule(&name),
        })
    }

    /// The name for a VMX that stands for a name of vSphere's API.
    #[must_use]
    pub fn vmware_of_vim(vim: &str) -> String {
        match KNOWN_GUESTS.iter().find(|guest| guest.vim.eq_ignore_ascii_case(vim)) {
            Some(guest) => guest.vmware.to_owned(),
            None => {
                let stem = vim.strip_suffix("Guest").unwrap_or(vim);
                stem.strip_suffix("_64")
                    .or_else(|| stem.strip_suffix("64"))
                    .map_or_else(|| stem.to_owned(), |stem| format!("{stem}-64"))
            }
        }
    }

    /// The number in CIM's list: 1, "other", where none is known.
    #[must_use]
    pub fn cim_number(&self) -> u32 {
        self.cim.or_else(|| self.known().map(|guest| guest.cim)).unwrap_or(1)
    }

    /// A name for people.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        self.description.as_deref().or_else(|| self.known().map(|guest| guest.title)).or(self.vmware.as_deref())
    }
}

/// VMware's API puts an underscore between a version and `64`, and nothing behind a bare name.
fn vim_by_rule(vmware: &str) -> String {
    match vmware.strip_suffix("-64") {
        Some(stem) if stem.ends_with(|character: char| character.is_ascii_digit()) => format!("{stem}_64Guest"),
        Some(stem) => format!("{stem}64Guest"),
        None => format!("{vmware}Guest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_in_the_table_once() {
        for (row, guest) in KNOWN_GUESTS.iter().enumerate() {
            let later = &KNOWN_GUESTS[row + 1..];
            assert!(later.iter().all(|other| !other.vmware.eq_ignore_ascii_case(guest.vmware)), "{}", guest.vmware);
            assert!(later.iter().all(|other| !other.vim.eq_ignore_ascii_case(guest.vim)), "{}", guest.vim);
        }
    }

    #[test]
    fn names_lead_to_each_other() {
        let vmware = |name: &str| GuestOs { vmware: Some(name.to_owned()), ..GuestOs::default() };
        for (vmx, vim) in [
            ("debian12-64", "debian12_64Guest"),
            ("ubuntu-64", "ubuntu64Guest"),
            ("winxppro", "winXPProGuest"),
            ("other3xlinux-64", "other3xLinux64Guest"),
            ("windows2019srvNext-64", "windows2019srvNext_64Guest"),
            // Not in the table.
            ("debian99-64", "debian99_64Guest"),
            ("plan9", "plan9Guest"),
        ] {
            assert_eq!(vmware(vmx).vim_name().as_deref(), Some(vim));
            assert_eq!(GuestOs::vmware_of_vim(vim).to_lowercase(), vmx.to_lowercase());
        }
        let debian = GuestOs { cim: Some(96), ..GuestOs::default() };
        assert_eq!(debian.family(), Family::Linux);
        assert_eq!(debian.known().map(|guest| guest.virtualbox), Some("Debian_64"));
        assert_eq!(vmware("windows11-64").cim_number(), 122);
        assert_eq!((vmware("nonsense").cim_number(), vmware("nonsense").family()), (1, Family::Other));
        assert_eq!(vmware("windowsNew-64").family(), Family::Windows);
    }
}
