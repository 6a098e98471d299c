use proptest::prelude::*;
use transload_testkit::Corpus;

use super::ALL;

#[test]
fn every_property_holds_for_every_seed_and_its_ruins() {
    for property in ALL {
        for seed in (property.seeds)() {
            assert!(!seed.is_empty(), "{}", property.name);
            (property.holds)(&seed);
            for cut in (0..seed.len()).step_by(seed.len() / 40 + 1) {
                (property.holds)(&seed[..cut]);
                let mut flipped = seed.clone();
                flipped[cut] ^= 0x15;
                (property.holds)(&flipped);
            }
        }
    }
}

#[test]
fn every_specimen_can_be_written_in_every_way() {
    let Some(corpus) = Corpus::get() else { return };
    let mut folders = vec![corpus.folder.join("vmx"), corpus.folder.join("ovf")];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let bytes = std::fs::read(&entry).unwrap();
            ALL.iter().filter(|property| property.name != "ova_read").for_each(|property| (property.holds)(&bytes));
            count += 1;
        }
    }
    assert!(count > 200);
}

/// Words that settings are made of, so that many of them mean something.
fn line() -> impl Strategy<Value = String> {
    let word = |words: &'static [&'static str]| prop::sample::select(words.to_vec());
    let device = word(&[
        "scsi0",
        "scsi0:0",
        "sata0",
        "sata0:1",
        "nvme0:0",
        "ide0:1",
        "ethernet0",
        "ethernet7",
        "serial0",
        "floppy0",
        "usb",
        "sound",
        "guestinfo",
        "",
    ]);
    let key = word(&[
        "present",
        "fileName",
        "deviceType",
        "virtualDev",
        "mode",
        "networkName",
        "address",
        "addressType",
        "fileType",
        "memsize",
        "displayName",
        "annotation",
        "pciSlotNumber",
    ]);
    let value = prop_oneof![
        word(&[
            "TRUE",
            "FALSE",
            "disk",
            "cdrom-image",
            "rawDisk",
            "pvscsi",
            "lsilogic",
            "vmxnet3",
            "static",
            "00:50:56:00:00:01",
            "pipe",
            "64",
            "4096",
            "a.vmdk"
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    (device, key, value, any::<bool>())
        .prop_map(|(device, key, value, dot)| format!("{device}{}{key} = \"{value}\"\n", if dot { "." } else { "" }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn settings_of_all_kinds(lines in prop::collection::vec(line(), 0..40)) {
        super::settings(format!("displayName = \"vm\"\n{}", lines.concat()).as_bytes());
    }
}
