//! Real images of other makers, by the digests of their guest bytes.

use transload_testkit::{Corpus, disks};

use crate::{OpenSettings, open_path};

#[test]
fn real_images_have_the_digests_of_the_manifest() {
    let Some(corpus) = Corpus::get() else { return };
    let mut tested = 0;
    for entry in corpus.of_format("qcow2") {
        let (Some(size), Some(digest)) = (entry.virtual_size, &entry.sha256) else { continue };
        let device = open_path(&corpus.file(entry), &OpenSettings::default()).unwrap().device;
        assert_eq!(device.size(), size, "{}", entry.path);
        assert_eq!(disks::sha256(&*device), *digest, "{}", entry.path);
        tested += 1;
    }
    assert!(tested >= 10, "{tested} images");
}
