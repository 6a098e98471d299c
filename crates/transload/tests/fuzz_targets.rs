//! The fuzz targets and the properties that they call are the same list.

use std::path::Path;

#[test]
fn there_is_a_fuzz_target_for_every_property() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/targets");
    let mut targets: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    targets.sort();
    let mut properties: Vec<_> =
        transload::PROPERTIES.iter().flat_map(|list| list.iter()).map(|property| property.name).collect();
    properties.sort_unstable();
    assert_eq!(targets, properties);
}
