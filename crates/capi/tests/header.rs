//! The header is made from the source, and is what stands in the repository.

use std::path::Path;

#[test]
fn the_header_is_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).expect("settings");
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(folder.join("src/lib.rs"))
        .with_src(folder.join("src/disk.rs"))
        .generate()
        .expect("a header");
    let mut fresh = Vec::new();
    bindings.write(&mut fresh);
    // The heading is rustdoc's; a reader of the header is told the same in words.
    let fresh = String::from_utf8(fresh).expect("text").replace("// # Safety\n", "// What the caller answers for:\n");
    let path = folder.join("include/transload.h");
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(&path, &fresh).expect("the header is written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == fresh,
        "include/transload.h is not what src/lib.rs says: UPDATE_HEADER=1 cargo test -p transload-capi --test header"
    );
}
