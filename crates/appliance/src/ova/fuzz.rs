//! The property that the fuzz target and a test call: any bytes are read within bounds, or refused.

use std::io::Cursor;

use transload_block::{BlockWrite, Memory, Storage};

use super::{FromReader, Index, MANIFEST_MAX, Manifest, SignatureFile, Walk};

/// Reads `bytes` as an archive in both ways, as a manifest and as a certificate file.
///
/// # Panics
/// When members overlap, lie outside the archive or differ between both ways, or when a manifest that was read is not
/// read back from its own text.
pub fn container(bytes: &[u8]) {
    let device = Memory::new(0);
    let made = device.set_size(bytes.len() as u64).and_then(|()| device.write_at(bytes, 0));
    assert!(made.is_ok(), "memory can be written");
    if let Ok(index) = Index::read(&device) {
        let mut end = 0;
        for member in &index.members {
            assert!(member.header_offset >= end && member.offset > member.header_offset, "{member:?}");
            end = member.offset + member.size;
            assert!(end <= bytes.len() as u64, "{member:?}");
            assert!(member.refuse_unsafe().is_ok(), "{member:?}");
        }
        let mut walk = Walk::new(FromReader(Cursor::new(bytes)));
        let mut streamed = 0;
        while let Ok(Some(member)) = walk.next_member() {
            streamed += usize::from(index.members.contains(&member));
        }
        assert_eq!(streamed, index.members.len(), "a stream shows other members than a device");
    }
    if let Ok(manifest) = Manifest::parse(bytes) {
        assert!(bytes.len() as u64 <= MANIFEST_MAX);
        let again = Manifest::parse(manifest.text().as_bytes());
        assert_eq!(again.map(|manifest| manifest.entries).ok(), Some(manifest.entries), "a manifest of its own text");
    }
    drop(SignatureFile::parse(bytes));
}
