//! Operating systems, one row each, under the names that products have for them.
//!
//! Where several rows have one number in CIM's list, the first of them is what that number alone stands for.

/// What kind of operating system it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Linux.
    Linux,
    /// Microsoft Windows.
    Windows,
    /// FreeBSD, NetBSD, OpenBSD.
    Bsd,
    /// Solaris and its kin.
    Solaris,
    /// Apple's.
    MacOs,
    /// Anything else, or not known.
    Other,
}

/// An operating system under its names.
#[derive(Debug, PartialEq, Eq)]
pub struct KnownGuest {
    /// VMware's name in a VMX.
    pub vmware: &'static str,
    /// VMware's name in an OVF and in vSphere's API.
    pub vim: &'static str,
    /// The number in CIM's list.
    pub cim: u32,
    /// VirtualBox's name.
    pub virtualbox: &'static str,
    /// libosinfo's address, or empty.
    pub libosinfo: &'static str,
    /// Proxmox's kind of guest.
    pub proxmox: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What kind it is.
    pub family: Family,
}

/// A row of the table: the names in the order of [`KnownGuest`].
const fn row(names: [&'static str; 6], cim: u32, family: Family) -> KnownGuest {
    let [vmware, vim, virtualbox, libosinfo, proxmox, title] = names;
    KnownGuest { vmware, vim, cim, virtualbox, libosinfo, proxmox, title, family }
}

/// All that have a row.
#[rustfmt::skip]
pub const KNOWN_GUESTS: &[KnownGuest] = &[
    row(["otherlinux-64", "otherLinux64Guest", "Linux_64", "", "l26", "Other Linux (64-bit)"], 101, Family::Linux),
    row(["otherlinux", "otherLinuxGuest", "Linux", "", "l26", "Other Linux (32-bit)"], 36, Family::Linux),
    row(["freebsd-64", "freebsd64Guest", "FreeBSD_64", "", "other", "FreeBSD (64-bit)"], 78, Family::Bsd),
    row(["centos-64", "centos64Guest", "RedHat_64", "", "l26", "CentOS 4/5 or later (64-bit)"], 107, Family::Linux),
    row(["oraclelinux-64", "oracleLinux64Guest", "Oracle_64", "", "l26", "Oracle Linux 4-6 (64-bit)"], 109, Family::Linux),
    row(["darwin-64", "darwin64Guest", "MacOS_64", "", "other", "Apple Mac OS X (64-bit)"], 2, Family::MacOs),
    row(["debian10-64", "debian10_64Guest", "Debian_64", "http://debian.org/debian/10", "l26", "Debian 10 (64-bit)"], 96, Family::Linux),
    row(["debian10", "debian10Guest", "Debian", "http://debian.org/debian/10", "l26", "Debian 10 (32-bit)"], 95, Family::Linux),
    row(["rhel7-64", "rhel7_64Guest", "RedHat7_64", "http://redhat.com/rhel/7.0", "l26", "Red Hat Enterprise Linux 7 (64-bit)"], 80, Family::Linux),
    row(["rhel6", "rhel6Guest", "RedHat6", "http://redhat.com/rhel/6.0", "l26", "Red Hat Enterprise Linux 6 (32-bit)"], 79, Family::Linux),
    row(["sles12-64", "sles12_64Guest", "SUSE_LE_64", "http://suse.com/sles/12", "l26", "SUSE Linux Enterprise 12 (64-bit)"], 85, Family::Linux),
    row(["sles11", "sles11Guest", "OpenSUSE", "http://suse.com/sles/11", "l26", "SUSE Linux Enterprise 11 (32-bit)"], 84, Family::Linux),
    row(["debian12-64", "debian12_64Guest", "Debian12_64", "http://debian.org/debian/12", "l26", "Debian 12 (64-bit)"], 96, Family::Linux),
    row(["debian13-64", "debian13_64Guest", "Debian_64", "http://debian.org/debian/13", "l26", "Debian 13 (64-bit)"], 96, Family::Linux),
    row(["debian11-64", "debian11_64Guest", "Debian11_64", "http://debian.org/debian/11", "l26", "Debian 11 (64-bit)"], 96, Family::Linux),
    row(["debian9-64", "debian9_64Guest", "Debian9_64", "http://debian.org/debian/9", "l26", "Debian 9 (64-bit)"], 96, Family::Linux),
    row(["debian8-64", "debian8_64Guest", "Debian8_64", "http://debian.org/debian/8", "l26", "Debian 8 (64-bit)"], 96, Family::Linux),
    row(["debian7-64", "debian7_64Guest", "Debian7_64", "http://debian.org/debian/7", "l26", "Debian 7 (64-bit)"], 96, Family::Linux),
    row(["debian6-64", "debian6_64Guest", "Debian6_64", "http://debian.org/debian/6", "l26", "Debian 6 (64-bit)"], 96, Family::Linux),
    row(["debian5-64", "debian5_64Guest", "Debian_64", "http://debian.org/debian/5", "l26", "Debian 5 (64-bit)"], 96, Family::Linux),
    row(["debian12", "debian12Guest", "Debian12", "http://debian.org/debian/12", "l26", "Debian 12 (32-bit)"], 95, Family::Linux),
    row(["debian11", "debian11Guest", "Debian11", "http://debian.org/debian/11", "l26", "Debian 11 (32-bit)"], 95, Family::Linux),
    row(["debian6", "debian6Guest", "Debian6", "http://debian.org/debian/6", "l26", "Debian 6 (32-bit)"], 95, Family::Linux),
    row(["debian5", "debian5Guest", "Debian", "http://debian.org/debian/5", "l26", "Debian 5 (32-bit)"], 95, Family::Linux),
    row(["ubuntu-64", "ubuntu64Guest", "Ubuntu_64", "", "l26", "Ubuntu Linux (64-bit)"], 94, Family::Linux),
    row(["ubuntu", "ubuntuGuest", "Ubuntu", "", "l26", "Ubuntu Linux (32-bit)"], 93, Family::Linux),
    row(["rhel9-64", "rhel9_64Guest", "RedHat9_64", "http://redhat.com/rhel/9.0", "l26", "Red Hat Enterprise Linux 9 (64-bit)"], 80, Family::Linux),
    row(["rhel8-64", "rhel8_64Guest", "RedHat8_64", "http://redhat.com/rhel/8.0", "l26", "Red Hat Enterprise Linux 8 (64-bit)"], 80, Family::Linux),
    row(["rhel6-64", "rhel6_64Guest", "RedHat6_64", "http://redhat.com/rhel/6.0", "l26", "Red Hat Enterprise Linux 6 (64-bit)"], 80, Family::Linux),
    row(["rhel5-64", "rhel5_64Guest", "RedHat5_64", "http://redhat.com/rhel/5.0", "l26", "Red Hat Enterprise Linux 5 (64-bit)"], 80, Family::Linux),
    row(["rhel4-64", "rhel4_64Guest", "RedHat4_64", "http://redhat.com/rhel/4.0", "l26", "Red Hat Enterprise Linux 4 (64-bit)"], 80, Family::Linux),
    row(["rhel5", "rhel5Guest", "RedHat5", "http://redhat.com/rhel/5.0", "l26", "Red Hat Enterprise Linux 5 (32-bit)"], 79, Family::Linux),
    row(["rhel4", "rhel4Guest", "RedHat4", "http://redhat.com/rhel/4.0", "l26", "Red Hat Enterprise Linux 4 (32-bit)"], 79, Family::Linux),
    row(["centos", "centosGuest", "RedHat", "", "l26", "CentOS 4/5 or later (32-bit)"], 106, Family::Linux),
    row(["centos9-64", "centos9_64Guest", "RedHat9_64", "http://centos.org/centos-stream/9", "l26", "CentOS 9 (64-bit)"], 107, Family::Linux),
    row(["centos8-64", "centos8_64Guest", "RedHat8_64", "http://centos.org/centos/8", "l26", "CentOS 8 (64-bit)"], 107, Family::Linux),
    row(["centos7-64", "centos7_64Guest", "RedHat7_64", "http://centos.org/centos/7.0", "l26", "CentOS 7 (64-bit)"], 107, Family::Linux),
    row(["centos6-64", "centos6_64Guest", "RedHat6_64", "http://centos.org/centos/6.0", "l26", "CentOS 6 (64-bit)"], 107, Family::Linux),
    row(["rockylinux-64", "rockylinux_64Guest", "RedHat_64", "", "l26", "Rocky Linux (64-bit)"], 101, Family::Linux),
    row(["almalinux-64", "almalinux_64Guest", "RedHat_64", "", "l26", "AlmaLinux (64-bit)"], 101, Family::Linux),
    row(["oraclelinux9-64", "oracleLinux9_64Guest", "Oracle9_64", "http://oracle.com/ol/9.0", "l26", "Oracle Linux 9 (64-bit)"], 109, Family::Linux),
    row(["oraclelinux8-64", "oracleLinux8_64Guest", "Oracle8_64", "http://oracle.com/ol/8.0", "l26", "Oracle Linux 8 (64-bit)"], 109, Family::Linux),
    row(["oraclelinux7-64", "oracleLinux7_64Guest", "Oracle7_64", "http://oracle.com/ol/7.0", "l26", "Oracle Linux 7 (64-bit)"], 109, Family::Linux),
    row(["oraclelinux6-64", "oracleLinux6_64Guest", "Oracle6_64", "http://oracle.com/ol/6.0", "l26", "Oracle Linux 6 (64-bit)"], 109, Family::Linux),
    row(["oraclelinux", "oracleLinuxGuest", "Oracle", "", "l26", "Oracle Linux 4-6 (32-bit)"], 108, Family::Linux),
    row(["fedora-64", "fedora64Guest", "Fedora_64", "", "l26", "Fedora Linux (64-bit)"], 101, Family::Linux),
    row(["fedora", "fedoraGuest", "Fedora", "", "l26", "Fedora Linux (32-bit)"], 36, Family::Linux),
    row(["sles16-64", "sles16_64Guest", "SUSE_LE_64", "", "l26", "SUSE Linux Enterprise 16 (64-bit)"], 85, Family::Linux),
    row(["sles15-64", "sles15_64Guest", "SUSE_LE_64", "http://suse.com/sle/15", "l26", "SUSE Linux Enterprise 15 (64-bit)"], 85, Family::Linux),
    row(["sles11-64", "sles11_64Guest", "OpenSUSE_64", "http://suse.com/sles/11", "l26", "SUSE Linux Enterprise 11 (64-bit)"], 85, Family::Linux),
    row(["sles10-64", "sles10_64Guest", "OpenSUSE_64", "http://suse.com/sles/10", "l26", "SUSE Linux Enterprise 10 (64-bit)"], 85, Family::Linux),
    row(["sles-64", "sles64Guest", "OpenSUSE_64", "", "l26", "SUSE Linux Enterprise 8/9 (64-bit)"], 85, Family::Linux),
    row(["sles10", "sles10Guest", "OpenSUSE", "http://suse.com/sles/10", "l26", "SUSE Linux Enterprise 10 (32-bit)"], 84, Family::Linux),
    row(["sles", "slesGuest", "OpenSUSE", "", "l26", "SUSE Linux Enterprise 8/9 (32-bit)"], 84, Family::Linux),
    row(["opensuse-64", "opensuse64Guest", "OpenSUSE_64", "", "l26", "openSUSE (64-bit)"], 83, Family::Linux),
    row(["opensuse", "opensuseGuest", "OpenSUSE", "", "l26", "openSUSE (32-bit)"], 82, Family::Linux),
    row(["suse-64", "suse64Guest", "OpenSUSE_64", "", "l26", "SUSE Linux (64-bit)"], 83, Family::Linux),
    row(["suse", "suseGuest", "OpenSUSE", "", "l26", "SUSE Linux (32-bit)"], 82, Family::Linux),
    row(["mandriva-64", "mandriva64Guest", "Mandriva_64", "", "l26", "Mandriva Linux (64-bit)"], 90, Family::Linux),
    row(["mandriva", "mandrivaGuest", "Mandriva", "", "l26", "Mandriva Linux (32-bit)"], 89, Family::Linux),
    row(["turbolinux-64", "turboLinux64Guest", "Turbolinux_64", "", "l26", "Turbolinux (64-bit)"], 92, Family::Linux),
    row(["turbolinux", "turboLinuxGuest", "Turbolinux", "", "l26", "Turbolinux (32-bit)"], 91, Family::Linux),
    row(["amazonlinux3-64", "amazonlinux3_64Guest", "Linux_64", "", "l26", "Amazon Linux 3 (64-bit)"], 101, Family::Linux),
    row(["amazonlinux2-64", "amazonlinux2_64Guest", "Linux_64", "", "l26", "Amazon Linux 2 (64-bit)"], 101, Family::Linux),
    row(["vmware-photon-64", "vmwarePhoton64Guest", "Linux_64", "", "l26", "VMware Photon OS (64-bit)"], 101, Family::Linux),
    row(["coreos-64", "coreos64Guest", "Linux_64", "", "l26", "CoreOS Linux (64-bit)"], 101, Family::Linux),
    row(["asianux8-64", "asianux8_64Guest", "Linux_64", "", "l26", "Asianux 8 (64-bit)"], 101, Family::Linux),
    row(["other6xlinux-64", "other6xLinux64Guest", "Linux_64", "", "l26", "Other Linux 6.x and later kernel (64-bit)"], 101, Family::Linux),
    row(["other5xlinux-64", "other5xLinux64Guest", "Linux_64", "", "l26", "Other Linux 5.x kernel (64-bit)"], 101, Family::Linux),
    row(["other4xlinux-64", "other4xLinux64Guest", "Linux_64", "", "l26", "Other Linux 4.x kernel (64-bit)"], 101, Family::Linux),
    row(["other3xlinux-64", "other3xLinux64Guest", "Linux_64", "", "l26", "Other Linux 3.x kernel (64-bit)"], 101, Family::Linux),
    row(["other26xlinux-64", "other26xLinux64Guest", "Linux26_64", "", "l26", "Other Linux 2.6.x kernel (64-bit)"], 100, Family::Linux),
    row(["other24xlinux-64", "other24xLinux64Guest", "Linux24_64", "", "l24", "Other Linux 2.4.x kernel (64-bit)"], 98, Family::Linux),
    row(["other6xlinux", "other6xLinuxGuest", "Linux", "", "l26", "Other Linux 6.x and later kernel (32-bit)"], 36, Family::Linux),
    row(["other5xlinux", "other5xLinuxGuest", "Linux", "", "l26", "Other Linux 5.x kernel (32-bit)"], 36, Family::Linux),
    row(["other4xlinux", "other4xLinuxGuest", "Linux", "", "l26", "Other Linux 4.x kernel (32-bit)"], 36, Family::Linux),
    row(["other3xlinux", "other3xLinuxGuest", "Linux", "", "l26", "Other Linux 3.x kernel (32-bit)"], 36, Family::Linux),
    row(["other26xlinux", "other26xLinuxGuest", "Linux26", "", "l26", "Other Linux 2.6.x kernel (32-bit)"], 99, Family::Linux),
    row(["other24xlinux", "other24xLinuxGuest", "Linux24", "", "l24", "Other Linux 2.4.x kernel (32-bit)"], 97, Family::Linux),
    row(["windows2022srvNext-64", "windows2022srvNext_64Guest", "Windows2025_64", "http://microsoft.com/win/2k25", "win11", "Microsoft Windows Server 2025 (64-bit)"], 1, Family::Windows),
    row(["windows2019srvNext-64", "windows2019srvNext_64Guest", "Windows2022_64", "http://microsoft.com/win/2k22", "win11", "Microsoft Windows Server 2022 (64-bit)"], 123, Family::Windows),
    row(["windows2019srv-64", "windows2019srv_64Guest", "Windows2019_64", "http://microsoft.com/win/2k19", "win10", "Microsoft Windows Server 2019 (64-bit)"], 121, Family::Windows),
    row(["windows9srv-64", "windows9Server64Guest", "Windows2016_64", "http://microsoft.com/win/2k16", "win10", "Microsoft Windows Server 2016 (64-bit)"], 116, Family::Windows),
    row(["windows8srv-64", "windows8Server64Guest", "Windows2012_64", "http://microsoft.com/win/2k12", "win8", "Microsoft Windows Server 2012 (64-bit)"], 112, Family::Windows),
    row(["windows7srv-64", "windows7Server64Guest", "Windows2008_64", "http://microsoft.com/win/2k8r2", "win7", "Microsoft Windows Server 2008 R2 (64-bit)"], 103, Family::Windows),
    row(["longhorn-64", "winLonghorn64Guest", "Windows2008_64", "http://microsoft.com/win/2k8", "w2k8", "Microsoft Windows Server 2008 (64-bit)"], 77, Family::Windows),
    row(["longhorn", "winLonghornGuest", "Windows2008", "http://microsoft.com/win/2k8", "w2k8", "Microsoft Windows Server 2008 (32-bit)"], 76, Family::Windows),
    row(["windows11-64", "windows11_64Guest", "Windows11_64", "http://microsoft.com/win/11", "win11", "Microsoft Windows 11 (64-bit)"], 122, Family::Windows),
    row(["windows12-64", "windows12_64Guest", "Windows11_64", "", "win11", "Microsoft Windows 12 (64-bit)"], 1, Family::Windows),
    row(["windows9-64", "windows9_64Guest", "Windows10_64", "http://microsoft.com/win/10", "win10", "Microsoft Windows 10 (64-bit)"], 120, Family::Windows),
    row(["windows9", "windows9Guest", "Windows10", "http://microsoft.com/win/10", "win10", "Microsoft Windows 10 (32-bit)"], 119, Family::Windows),
    row(["windows8-64", "windows8_64Guest", "Windows8_64", "http://microsoft.com/win/8", "win8", "Microsoft Windows 8 (64-bit)"], 114, Family::Windows),
    row(["windows8", "windows8Guest", "Windows8", "http://microsoft.com/win/8", "win8", "Microsoft Windows 8 (32-bit)"], 113, Family::Windows),
    row(["windows7-64", "windows7_64Guest", "Windows7_64", "http://microsoft.com/win/7", "win7", "Microsoft Windows 7 (64-bit)"], 105, Family::Windows),
    row(["windows7", "windows7Guest", "Windows7", "http://microsoft.com/win/7", "win7", "Microsoft Windows 7 (32-bit)"], 105, Family::Windows),
    row(["winvista-64", "winVista64Guest", "WindowsVista_64", "http://microsoft.com/win/vista", "wvista", "Microsoft Windows Vista (64-bit)"], 74, Family::Windows),
    row(["winvista", "winVistaGuest", "WindowsVista", "http://microsoft.com/win/vista", "wvista", "Microsoft Windows Vista (32-bit)"], 73, Family::Windows),
    row(["winnetstandard-64", "winNetStandard64Guest", "Windows2003_64", "http://microsoft.com/win/2k3", "w2k3", "Microsoft Windows Server 2003 (64-bit)"], 70, Family::Windows),
    row(["winnetstandard", "winNetStandardGuest", "Windows2003", "http://microsoft.com/win/2k3", "w2k3", "Microsoft Windows Server 2003 (32-bit)"], 69, Family::Windows),
    row(["winnetenterprise-64", "winNetEnterprise64Guest", "Windows2003_64", "http://microsoft.com/win/2k3", "w2k3", "Microsoft Windows Server 2003 Enterprise (64-bit)"], 70, Family::Windows),
    row(["winnetenterprise", "winNetEnterpriseGuest", "Windows2003", "http://microsoft.com/win/2k3", "w2k3", "Microsoft Windows Server 2003 Enterprise (32-bit)"], 69, Family::Windows),
    row(["winxppro-64", "winXPPro64Guest", "WindowsXP_64", "http://microsoft.com/win/xp", "wxp", "Microsoft Windows XP Professional (64-bit)"], 71, Family::Windows),
    row(["winxppro", "winXPProGuest", "WindowsXP", "http://microsoft.com/win/xp", "wxp", "Microsoft Windows XP Professional (32-bit)"], 67, Family::Windows),
    row(["winxphome", "winXPHomeGuest", "WindowsXP", "http://microsoft.com/win/xp", "wxp", "Microsoft Windows XP Home (32-bit)"], 67, Family::Windows),
    row(["win2000pro", "win2000ProGuest", "Windows2000", "http://microsoft.com/win/2k", "w2k", "Microsoft Windows 2000 Professional"], 58, Family::Windows),
    row(["win2000serv", "win2000ServGuest", "Windows2000", "http://microsoft.com/win/2k", "w2k", "Microsoft Windows 2000 Server"], 58, Family::Windows),
    row(["winnt", "winNTGuest", "WindowsNT4", "http://microsoft.com/winnt/4.0", "other", "Microsoft Windows NT"], 18, Family::Windows),
    row(["win98", "win98Guest", "Windows98", "http://microsoft.com/win/98", "other", "Microsoft Windows 98"], 17, Family::Windows),
    row(["win95", "win95Guest", "Windows95", "http://microsoft.com/win/95", "other", "Microsoft Windows 95"], 16, Family::Windows),
    row(["freebsd14-64", "freebsd14_64Guest", "FreeBSD_64", "http://freebsd.org/freebsd/14.0", "other", "FreeBSD 14 (64-bit)"], 78, Family::Bsd),
    row(["freebsd13-64", "freebsd13_64Guest", "FreeBSD_64", "http://freebsd.org/freebsd/13.0", "other", "FreeBSD 13 (64-bit)"], 78, Family::Bsd),
    row(["freebsd12-64", "freebsd12_64Guest", "FreeBSD_64", "http://freebsd.org/freebsd/12.0", "other", "FreeBSD 12 (64-bit)"], 78, Family::Bsd),
    row(["freebsd11-64", "freebsd11_64Guest", "FreeBSD_64", "http://freebsd.org/freebsd/11.0", "other", "FreeBSD 11 (64-bit)"], 78, Family::Bsd),
    row(["freebsd", "freebsdGuest", "FreeBSD", "", "other", "FreeBSD (32-bit)"], 42, Family::Bsd),
    row(["solaris11-64", "solaris11_64Guest", "Solaris11_64", "http://oracle.com/solaris/11", "solaris", "Oracle Solaris 11 (64-bit)"], 81, Family::Solaris),
    row(["solaris10-64", "solaris10_64Guest", "Solaris_64", "", "solaris", "Oracle Solaris 10 (64-bit)"], 81, Family::Solaris),
    row(["solaris10", "solaris10Guest", "Solaris", "", "solaris", "Oracle Solaris 10 (32-bit)"], 29, Family::Solaris),
    row(["darwin", "darwinGuest", "MacOS", "", "other", "Apple Mac OS X (32-bit)"], 2, Family::MacOs),
    row(["vmkernel8", "vmkernel8Guest", "Linux_64", "", "other", "VMware ESXi 8"], 104, Family::Other),
    row(["vmkernel7", "vmkernel7Guest", "Linux_64", "", "other", "VMware ESXi 7"], 104, Family::Other),
    row(["vmkernel65", "vmkernel65Guest", "Linux_64", "", "other", "VMware ESXi 6.5"], 104, Family::Other),
    row(["vmkernel6", "vmkernel6Guest", "Linux_64", "", "other", "VMware ESXi 6"], 104, Family::Other),
    row(["dos", "dosGuest", "DOS", "", "other", "MS-DOS"], 14, Family::Other),
    row(["other-64", "otherGuest64", "Other_64", "", "other", "Other (64-bit)"], 102, Family::Other),
    row(["other", "otherGuest", "Other", "", "other", "Other (32-bit)"], 1, Family::Other),
];
