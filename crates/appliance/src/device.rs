//! The devices beside processors, memory and drives: network adapters, USB, video, sound, serial and parallel ports.

use std::fmt;

use serde::Serialize;

use crate::spelling::spelled;

spelled! {
    /// The kind of a network adapter, spelled as VMX does where VMX knows it.
    NicModel {
        /// AMD PCnet/PCI II, and what VMware's flexible adapter begins as.
        PcNet = "vlance",
        /// Intel 82545EM.
        E1000 = "e1000",
        /// Intel 82574L.
        E1000e = "e1000e",
        /// VMware's first paravirtual adapter.
        VmxNet = "vmxnet",
        /// VMware's second one.
        VmxNet2 = "vmxnet2",
        /// VMware's third one.
        VmxNet3 = "vmxnet3",
        /// KVM's paravirtual adapter.
        Virtio = "virtio",
        /// Realtek 8139.
        Rtl8139 = "rtl8139",
        /// A function of a physical adapter.
        SrIov = "sriov",
    }
}

/// An Ethernet address. Displayed as `00:0c:29:3b:64:ea`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Reads six bytes of two hexadecimal digits, with colons, hyphens or nothing between them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b':' | b'-')).collect();
        let separators = text.len() - digits.len();
        if digits.len() != 12 || !matches!(separators, 0 | 5) || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = [0; 6];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The twelve digits in upper case without anything between them, as VirtualBox and Hyper-V write it.
    #[must_use]
    pub fn bare(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02X}")).collect()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Who chooses a network adapter's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "policy", content = "address", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MacPolicy {
    /// The hypervisor does. What it has chosen is known where the machine has run; another host may choose anew.
    Generated(Option<Mac>),
    /// The user did: it goes with the machine.
    Fixed(Mac),
}

impl MacPolicy {
    /// The address that the guest has seen, whoever chose it.
    #[must_use]
    pub const fn address(self) -> Option<Mac> {
        match self {
            Self::Generated(address) => address,
            Self::Fixed(address) => Some(address),
        }
    }
}

/// What a network adapter is plugged into.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", content = "name", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Network {
    /// Nothing.
    None,
    /// The host's own network.
    Bridged,
    /// The host's address, translated.
    Nat,
    /// The host alone.
    HostOnly,
    /// A network of this name: a port group, a virtual network, a bridge, the name in an OVF.
    Named(String),
}

/// A network adapter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Nic {
    /// Its number, from 0; in a VMX the `0` of `ethernet0`. Unique in a machine.
    pub number: u32,
    /// Its kind; `None` leaves it to the hypervisor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<NicModel>,
    /// What it is plugged into.
    pub network: Network,
    /// Who chooses its address.
    pub mac: MacPolicy,
    /// It is plugged in when the machine starts.
    pub connected: bool,
    /// A packet may wake the guest, where the writing says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake_on_lan: Option<bool>,
}

/// A USB controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum UsbController {
    /// USB 1.1 (UHCI, OHCI).
    Usb1,
    /// USB 2.0 (EHCI), with USB 1.1.
    Usb2,
    /// USB 3 (xHCI).
    Usb3,
}

/// The graphics adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Video {
    /// Video memory in KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_kib: Option<u64>,
    /// How many screens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub displays: Option<u32>,
    /// 3D is drawn by the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerated_3d: Option<bool>,
    /// Memory and screens are the hypervisor's choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automatic: Option<bool>,
}

spelled! {
    /// The kind of a sound card, spelled as an OVF of VMware does behind `vmware.soundcard.`.
    Sound {
        /// Ensoniq AudioPCI 1371.
        Ensoniq1371 = "ensoniq1371",
        /// Intel High Definition Audio.
        HdAudio = "hdaudio",
        /// Sound Blaster 16.
        Sb16 = "sb16",
        /// Intel AC'97.
        Ac97 = "ac97",
    }
}

/// Where the bytes of a serial or parallel port go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", content = "target", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PortBacking {
    /// Nowhere.
    None,
    /// A device of the host.
    Device(String),
    /// A file.
    File(String),
    /// A named pipe or socket of the host.
    #[serde(rename_all = "kebab-case")]
    Pipe {
        /// Its name.
        name: String,
        /// The machine makes the pipe and waits.
        server: bool,
    },
    /// An address, such as `telnet://:1234`.
    #[serde(rename_all = "kebab-case")]
    Network {
        /// The address.
        uri: String,
        /// The machine waits to be called.
        server: bool,
    },
}

/// A serial or parallel port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Port {
    /// Its number, from 0. Unique among the ports of its kind.
    pub number: u32,
    /// Where its bytes go.
    pub backing: PortBacking,
}
