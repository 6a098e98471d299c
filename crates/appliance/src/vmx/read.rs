//! From a VMX to a machine.

use transload_block::{Error, ErrorKind, Result};

use super::devices;
use super::document::{Document, flag};
use super::encoding::decode;
use super::keys::{CONFIG, ValueKind, is_of_host};
use crate::machine::{Firmware, MAX_CPUS, MAX_MEMORY_MIB, Machine, boot_order};
use crate::note::{Notes, Reading};

/// The longest VMX that is read. Real ones have a few KiB; embedded data may make some hundred.
pub const MAX_LENGTH: usize = 4 << 20;

/// What VMware's products give a machine whose file does not say it, in MiB.
const DEFAULT_MEMORY_MIB: u64 = 32;

/// Keys of which a VMX has at least one. A file without any is something else, whatever it assigns.
const SIGNS: &[&str] = &["config.version", "virtualhw.version", "displayname", "guestos", "memsize"];

/// Reads a VMX. Disks' files are as it has them: relative to its folder, absolute, with either kind of slash, or `[datastore] path`.
///
/// # Errors
/// `TooLarge` over [`MAX_LENGTH`]; `NotThisFormat` when no line of it is a setting that every VMX has; `Corrupt` when a value that counts
/// is no number or out of bounds; `Unsupported` when it is encrypted or in an encoding that is not known.
pub fn read(bytes: &[u8]) -> Result<Reading<Machine>> {
    if bytes.len() > MAX_LENGTH {
        let text = format!("VMX: {} bytes, at most {MAX_LENGTH} are read", bytes.len());
        return Err(Error::new(ErrorKind::TooLarge, text));
    }
    let mut notes = Notes::new();
    let text = decode(bytes, &mut notes)?;
    let mut document = Document::parse(&text, &mut notes);
    if !SIGNS.iter().any(|key| document.contains(key)) && !document.contains("encryption.data") {
        return Err(Error::new(ErrorKind::NotThisFormat, "VMX: it sets neither a name, a guest, memory nor a version"));
    }
    refuse_encrypted(&document)?;
    let machine = machine(&mut document, &mut notes)?;
    Ok(Reading { value: machine, notes })
}

fn refuse_encrypted(document: &Document) -> Result<()> {
    match ["encryption.data", "encryption.keysafe"].iter().find(|key| document.contains(key)) {
        Some(key) => Err(Error::new(ErrorKind::Unsupported, format!("VMX: the machine is encrypted ({key})"))
            .with_remedy("remove the encryption in the settings of the machine, and with it a virtual TPM")),
        None => Ok(()),
    }
}

fn machine(document: &mut Document, notes: &mut Notes) -> Result<Machine> {
    let name = document.take_text("displayName").unwrap_or_else(|| {
        notes.assumed("displayName", "the file names no name: \"vm\" was taken");
        String::from("vm")
    });
    let memory = number(document, "memsize", 1, MAX_MEMORY_MIB)?;
    if memory.is_none() {
        notes.assumed(
            "memsize",
            format!("the file names no memory: VMware's products give it {DEFAULT_MEMORY_MIB} MiB"),
        );
    }
    let mut machine = Machine::new(name, memory.unwrap_or(DEFAULT_MEMORY_MIB));
    machine.annotation = document.take_text("annotation").map(|text| text.replace("\r\n", "\n").replace('\r', "\n"));
    machine.guest.vmware = document.take_text("guestOS");
    machine.hardware_version = small(document, "virtualHW.version", 1, 999)?;
    machine.cpus = small(document, "numvcpus", 1, MAX_CPUS)?.unwrap_or(1);
    machine.cores_per_socket = small(document, "cpuid.coresPerSocket", 1, MAX_CPUS)?;
    machine.uuid = document.take_text("uuid.bios").and_then(|text| uuid(&text, notes));
    machine.firmware = firmware(document, notes);
    machine.nvram = document.take_text("nvram");
    machine.boot_order = boot_order(&document.take("bios.bootOrder").unwrap_or_default(), notes);
    let present = document.take_flag("vtpm.present") == Some(true);
    let automatic = document.take_text("managedVM.autoAddVTPM").is_some_and(|value| flag(&value) != Some(false));
    machine.tpm = present || automatic;
    features(document, &mut machine);
    config(document, &mut machine);
    devices::read(document, &mut machine, notes)?;
    rest(document, &mut machine, notes);
    Ok(machine)
}

fn firmware(document: &mut Document, notes: &mut Notes) -> Firmware {
    let secure_boot = document.take_flag("uefi.secureBoot.enabled") == Some(true);
    match document.take_text("firmware") {
        Some(value) if value.eq_ignore_ascii_case("efi") => Firmware::Efi { secure_boot },
        Some(value) if !value.eq_ignore_ascii_case("bios") => {
            notes.changed("firmware", format!("\"{value}\" is not known: it was read as bios"));
            Firmware::Bios
        }
        _ if secure_boot => {
            notes.left_out("uefi.secureBoot.enabled", "it is set, and the firmware is BIOS, which has no Secure Boot");
            Firmware::Bios
        }
        _ => Firmware::Bios,
    }
}

fn features(document: &mut Document, machine: &mut Machine) {
    let features = &mut machine.features;
    features.cpu_hot_add = document.take_flag("vcpu.hotadd");
    features.cpu_hot_remove = document.take_flag("vcpu.hotremove");
    features.memory_hot_add = document.take_flag("mem.hotadd");
    features.nested_virtualization = document.take_flag("vhv.enable");
    features.iommu = document.take_flag("vvtd.enable");
    features.virtualization_based_security = document.take_flag("windows.vbs.enabled");
}

fn config(document: &mut Document, machine: &mut Machine) {
    for (name, key, kind) in CONFIG {
        let Some(value) = document.take_text(key) else { continue };
        let value = match kind {
            ValueKind::Text => value,
            ValueKind::Flag => match flag(&value) {
                Some(truth) => truth.to_string(),
                None => continue,
            },
            ValueKind::PowerOperation if value.eq_ignore_ascii_case("default") => String::from("preset"),
            ValueKind::PowerOperation => value.to_ascii_lowercase(),
        };
        machine.config.insert((*name).to_owned(), value);
    }
}

/// Sorts what nothing has taken into what is kept and what speaks of the host.
fn rest(document: &Document, machine: &mut Machine, notes: &mut Notes) {
    let mut of_host = Vec::new();
    for setting in document.rest() {
        if is_of_host(&setting.key.to_lowercase()) {
            // Of the file itself, and no loss.
            if !setting.key.starts_with('.') && !setting.key.eq_ignore_ascii_case("config.version") {
                of_host.push(setting.key.as_str());
            }
        } else {
            machine.extra.insert(setting.key.clone(), setting.value.clone());
        }
    }
    if !of_host.is_empty() {
        notes.left_out("settings of the host", format!("they mean nothing elsewhere: {}", of_host.join(", ")));
    }
}

/// `56 4d cd 37 36 85 88 89-35 ea 71 9f c9 3c 98 3e` as 8-4-4-4-12 digits.
fn uuid(text: &str, notes: &mut Notes) -> Option<String> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase();
    let separators = text.chars().all(|character| character.is_ascii_hexdigit() || matches!(character, ' ' | '-'));
    if digits.len() != 32 || !separators {
        notes.left_out("uuid.bios", format!("\"{text}\" is no UUID"));
        return None;
    }
    Some(crate::machine::grouped(&digits))
}

/// The number of `key`, between bounds.
pub(super) fn number(document: &mut Document, key: &str, least: u64, most: u64) -> Result<Option<u64>> {
    let Some(text) = document.take_text(key) else { return Ok(None) };
    match text.trim().parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
        _ => {
            let text = format!("VMX: {key} is \"{text}\", must be a number from {least} to {most}");
            Err(Error::new(ErrorKind::Corrupt, text))
        }
    }
}

/// As [`number`], of what fits 32 bits.
pub(super) fn small(document: &mut Document, key: &str, least: u32, most: u32) -> Result<Option<u32>> {
    let number = number(document, key, u64::from(least), u64::from(most))?;
    Ok(number.and_then(|number| u32::try_from(number).ok()))
}
