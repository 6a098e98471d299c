use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use transload_block::ErrorKind;
use transload_testkit::Corpus;

use crate::ovf::{Dialect, Namespace, Package, read};
use crate::{Bus, Firmware, Network, NicModel, ScsiModel};

/// All descriptors of the corpus.
fn descriptors(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            descriptors(&entry, found);
        } else if entry.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("ovf")) {
            found.push(entry);
        }
    }
}

/// Those that break a rule without which they make no sense, or are no OVF, and what is wrong with each.
const REFUSED: &[(&str, ErrorKind, &str)] = &[];

#[test]
fn every_descriptor_is_read_or_refused_for_its_reason() {
    let Some(corpus) = Corpus::get() else { return };
    let mut found = Vec::new();
    descriptors(&corpus.folder.join("ovf"), &mut found);
    assert!(found.len() > 200);
    let mut wrong = Vec::new();
    let mut refused: BTreeMap<_, _> = REFUSED.iter().map(|(path, kind, part)| (*path, (*kind, *part))).collect();
    for path in found {
        let name = path.strip_prefix(corpus.folder.join("ovf")).unwrap().display().to_string();
        match (read(&fs::read(&path).unwrap()), refused.remove(name.as_str())) {
            (Ok(package), None) => {
                if package.systems.is_empty() {
                    wrong.push(format!("{name}: no machine"));
                }
            }
            (Ok(_), Some(_)) => wrong.push(format!("{name}: read, and should be refused")),
            (Err(error), Some((kind, part))) if error.kind() == kind && error.to_string().contains(part) => {}
            (Err(error), _) => wrong.push(format!("{name}: {error}")),
        }
    }
    wrong.extend(refused.keys().map(|name| format!("{name}: not there")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
