//! What must hold for any bytes in the files that are read: no panic, and as many lines as there are.

use transload_block::Property;

use crate::{fields, fstab, pe};

/// Every property, by the name of its fuzz target.
pub const ALL: &[Property] = &[Property { name: "inspect_files", holds: inspect_files, seeds }];

/// Any bytes are a program or none, and a list of mounts and of assignments; what is found fits into what there was.
pub fn inspect_files(bytes: &[u8]) {
    pe::fuzz(bytes);
    let _ = fields::elf_machine(bytes);
    let text = String::from_utf8_lossy(bytes);
    let lines = fstab::parse(&text);
    assert!(lines.len() <= text.lines().count());
    // Undoing an escape makes nothing longer, but for what was no text.
    let longest = text.len().saturating_mul(3);
    assert!(lines.iter().all(|line| line.source.len() + line.mount_point.len() <= longest));
    let _ = fstab::parse_crypttab(&text);
    for key in ["NAME", "ID", ""] {
        assert!(fields::assignment(&text, key).is_none_or(|value| value.len() <= text.len()));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut program = vec![0; 512];
    program[..2].copy_from_slice(b"MZ");
    program[0x3c] = 0x40;
    program[0x40..0x48].copy_from_slice(b"PE\0\0\x64\x86\x01\0");
    program[0x58..0x5d].copy_from_slice(b".rsrc");
    program[0x100..0x108].copy_from_slice(&[0xbd, 4, 0xef, 0xfe, 0, 0, 1, 0]);
    vec![
        program,
        b"UUID=1 / ext4 defaults 0 1\n/dev/sda1\t/a\\040b xfs rw\n# x\nID=debian\nNAME=\"a \\\"b\\\"\"\n".to_vec(),
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0".to_vec(),
    ]
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn every_property_holds_for_every_seed_and_every_part_of_it() {
        for property in ALL {
            for seed in (property.seeds)() {
                (0..=seed.len()).for_each(|length| (property.holds)(&seed[..length]));
                for at in 0..seed.len() {
                    let mut damaged = seed.clone();
                    damaged[at] ^= 0xff;
                    (property.holds)(&damaged);
                }
            }
        }
    }
}
