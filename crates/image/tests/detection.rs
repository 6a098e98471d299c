//! Detection on real images of other makers.

use transload_image::{Access, Format, Source, detect};
use transload_testkit::corpus::Corpus;

/// What the table of the corpus calls differently.
fn name(format: &str) -> &str {
    match format {
        "vpc" => "vhd",
        "iso9660" => "iso",
        "tar/ova" => "ova",
        "dmg-sparseimage" => "sparseimage",
        same => same,
    }
}

#[test]
fn real_images_are_what_their_makers_say() {
    let Some(corpus) = Corpus::get() else { return };
    let mut wrong = Vec::new();
    for entry in &corpus.entries {
        let source = Source::from_path(&corpus.file(entry), Access::ReadOnly).unwrap();
        let found: Vec<_> = detect(source.bytes()).unwrap().candidates.iter().map(|format| format.name).collect();
        let expected = name(&entry.format);
        assert!(Format::by_name(expected).is_some(), "{expected} is a format that is not known");
        if found != [expected] {
            wrong.push(format!("{}: {found:?} and not {expected}", entry.path));
        }
    }
    assert!(wrong.is_empty(), "{} of {} images: {wrong:#?}", wrong.len(), corpus.entries.len());
}
