//! Hostile names, one table per policy.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use proptest::proptest;
use tempfile::TempDir;
use transload_block::ErrorKind;

use super::*;

/// A folder with an image, a neighbour, a folder below, and a folder beside it that is none of the image's business.
struct House {
    temp: TempDir,
    image: Source,
}

impl House {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        fs::create_dir_all(at("images/sub")).unwrap();
        fs::create_dir_all(at("elsewhere")).unwrap();
        fs::create_dir_all(at("images-not")).unwrap();
        for file in ["images/top", "images/base", "images/sub/deep", "elsewhere/secret", "images-not/secret"] {
            fs::write(at(file), file).unwrap();
        }
        symlink("base", at("images/link-inside")).unwrap();
        symlink("sub/deep", at("images/link-below")).unwrap();
        symlink("../elsewhere/secret", at("images/link-outside")).unwrap();
        symlink(at("elsewhere/secret"), at("images/link-absolute")).unwrap();
        symlink("nothing", at("images/link-dangling")).unwrap();
        symlink("link-loop", at("images/link-loop")).unwrap();
        symlink("../elsewhere", at("images/folder-link")).unwrap();
        symlink("link-inside", at("images/link-twice")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("images/fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from(0o600),
            0,
        )
        .unwrap();
        drop(UnixListener::bind(at("images/socket")).unwrap());
        let image = Source::from_path(&at("images/top"), Access::ReadOnly).unwrap();
        Self { temp, image }
    }

    fn path(&self, name: &str) -> String {
        self.temp.path().join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, gate: &ReferenceGate, name: &str) -> Result<String> {
        let source = gate.open(&self.image, name, Access::ReadOnly)?;
        let mut bytes = vec![0; usize::try_from(source.bytes().size()).unwrap()];
        source.bytes().read_at(&mut bytes, 0)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    fn refused(&self, gate: &ReferenceGate, name: &str, kind: ErrorKind, word: &str) {
        let error = self.read(gate, name).expect_err(name);
        assert_eq!(error.kind(), kind, "{name:?}: {error}");
        assert!(error.to_string().contains(word), "{name:?}: {error} should say {word:?}");
    }
}

/// Names that no policy lets pass, and a word of the reason.
const NEVER: &[(&str, &str)] = &[
    ("", "empty"),
    ("base\0", "NUL"),
    ("\0", "NUL"),
    ("json:{\"driver\":\"file\",\"filename\":\"base\"}", "'json:'"),
    ("nbd://127.0.0.1:10809/x", "'nbd:'"),
    ("nbd:unix:/tmp/sock", "'nbd:'"),
    ("nbd+unix:///x?socket=s", "'nbd+unix:'"),
    ("http://example.com/base", "'http:'"),
    ("HTTPS://example.com/base", "'HTTPS:'"),
    ("http:base", "'http:'"),
    ("data:application/octet-stream;base64,AAAA", "'data:'"),
    ("file:base", "'file:'"),
    ("file:///etc/passwd", "'file:'"),
    ("fat:rw:/etc", "'fat:'"),
    ("host_device:/dev/sda", "'host_device:'"),
    ("ssh://root@host/base", "'ssh:'"),
    ("rbd:pool/image", "'rbd:'"),
    ("1:base", "drive"),
    (":base", "':'"),
    ("C:\\vms\\base.vmdk", "drive"),
    ("c:/vms/base.vmdk", "drive"),
    ("C:base", "drive"),
    ("\\\\server\\share\\base.vhd", "network"),
    ("base/", "folder"),
    ("/", "folder"),
];

#[test]
fn names_that_are_no_file_names_are_always_denied() {
    let house = House::new();
    let root = house.temp.path().to_owned();
    for gate in [ReferenceGate::SameDirectory, ReferenceGate::Allow(vec![root, "/".into()])] {
        for (name, word) in NEVER {
            house.refused(&gate, name, ErrorKind::Denied, word);
        }
    }
}

#[test]
fn the_same_directory_is_the_default_and_nothing_but_its_files() {
    let house = House::new();
    let gate = ReferenceGate::default();
    for name in ["base", "./base", ".//base", "link-inside", "link-twice", &house.path("images/base")] {
        assert_eq!(house.read(&gate, name).unwrap(), "images/base", "{name}");
    }
    let denied = [
        ("/etc/passwd", "not in the folder"),
        ("../elsewhere/secret", "'..'"),
        ("../images/base", "'..'"),
        ("sub/../base", "'..'"),
        ("..", "'..'"),
        (".", "not directly"),
        ("./.", "a folder"),
        ("base/.", "a folder"),
        ("sub/deep", "not directly"),
        ("sub", "a folder"),
        ("/proc/self/mem", "not in the folder"),
        ("/dev/null", "not in the folder"),
        ("/dev/../dev/null", "'..'"),
        ("link-outside", "not in the folder"),
        ("link-absolute", "not in the folder"),
        ("link-below", "not in the folder"),
        ("link-dangling", "link to nothing"),
        ("link-loop", "link to nothing"),
        ("folder-link", "not in the folder"),
        ("folder-link/secret", "not directly"),
        ("fifo", "a FIFO"),
        ("socket", "a socket"),
    ];
    for (name, word) in denied {
        house.refused(&gate, name, ErrorKind::Denied, word);
    }
    for name in ["elsewhere/secret", "images-not/secret", "images/sub/deep", "elsewhere/missing"] {
        house.refused(&gate, &house.path(name), ErrorKind::Denied, "not in the folder");
    }
    house.refused(&gate, "missing", ErrorKind::Io, "missing");
    house.refused(&gate, &"x".repeat(10_000), ErrorKind::Io, "…");
}

#[test]
fn allowed_folders_let_pass_what_lands_below_them() {
    let house = House::new();
    let gate = ReferenceGate::Allow(vec![house.temp.path().join("missing"), house.temp.path().join("images")]);
    let allowed = [
        ("base", "images/base"),
        ("sub/deep", "images/sub/deep"),
        ("sub/../base", "images/base"),
        ("../images/base", "images/base"),
        ("link-below", "images/sub/deep"),
        (&house.path("elsewhere/../images/sub/deep"), "images/sub/deep"),
    ];
    for (name, contents) in allowed {
        assert_eq!(house.read(&gate, name).unwrap(), contents, "{name}");
    }
    let denied = [
        "../elsewhere/secret",
        "link-outside",
        "link-absolute",
        "folder-link/secret",
        "/etc/passwd",
        "../images-not/secret",
        "fifo",
        "socket",
        "sub",
        "..",
    ];
    for name in denied {
        house.refused(&gate, name, ErrorKind::Denied, "");
    }
    let null = ReferenceGate::Allow(vec!["/dev".into()]);
    house.refused(&null, "/dev/null", ErrorKind::Denied, "character device");
}

#[test]
fn an_existing_file_elsewhere_is_refused_like_a_missing_one() {
    let house = House::new();
    for gate in [ReferenceGate::SameDirectory, ReferenceGate::Allow(vec![house.temp.path().join("images")])] {
        let message = |name: &str| {
            let error = gate.open(&house.image, &house.path(name), Access::ReadOnly).unwrap_err();
            error.to_string().replace(name, "")
        };
        assert_eq!(message("elsewhere/secret"), message("elsewhere/missing"));
        assert_eq!(message("elsewhere/secret"), message("nowhere/missing"));
    }
}

#[test]
fn deny_follows_nothing() {
    let house = House::new();
    for name in ["base", "missing", "/etc/passwd", "json:{}"] {
        house.refused(&ReferenceGate::Deny, name, ErrorKind::Denied, "not followed");
    }
    let listed = ReferenceGate::Deny.siblings(Path::new(&house.path("images/top")), 9);
    assert_eq!(listed.unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn an_image_in_no_folder_has_no_references() {
    let image = Source::new(std::sync::Arc::new(transload_block::Memory::new(1)));
    let error = ReferenceGate::SameDirectory.open(&image, "base", Access::ReadOnly).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn what_is_opened_knows_its_name_and_identity_and_may_be_written_if_asked() {
    let house = House::new();
    let gate = ReferenceGate::SameDirectory;
    let source = gate.open(&house.image, "link-inside", Access::ReadWrite).unwrap();
    assert_eq!(source.path().unwrap(), Path::new(&house.path("images/link-inside")));
    let same = Source::from_path(Path::new(&house.path("images/base")), Access::ReadOnly).unwrap();
    assert_eq!(source.identity(), same.identity());
    source.storage().unwrap().write_at(b"IMAGES", 0).unwrap();
    assert_eq!(fs::read_to_string(house.path("images/base")).unwrap(), "IMAGES/base");
    let source = gate.open(&house.image, "base", Access::ReadOnly).unwrap();
    assert_eq!(source.storage().unwrap_err().kind(), ErrorKind::ReadOnly);
}

#[test]
fn siblings_are_the_regular_files_of_the_folder_in_order() {
    let house = House::new();
    fs::write(house.path("images/a:b"), "colon").unwrap();
    let referrer = house.path("images/top");
    let gate = ReferenceGate::SameDirectory;
    assert_eq!(gate.siblings(Path::new(&referrer), 9).unwrap(), ["./a:b", "base", "top"]);
    assert_eq!(gate.siblings(Path::new(&referrer), 2).unwrap(), ["./a:b", "base"]);
    assert_eq!(house.read(&gate, "./a:b").unwrap(), "colon");
    let elsewhere = ReferenceGate::Allow(vec![house.path("elsewhere").into()]);
    assert_eq!(elsewhere.siblings(Path::new(&referrer), 9).unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn a_link_swapped_in_after_the_check_is_not_followed() {
    let house = House::new();
    let place = |below: &str| Place { root: house.temp.path().canonicalize().unwrap(), below: below.into() };
    let opened = beneath::open(&place("images/folder-link"), "secret".as_ref(), Access::ReadOnly, false);
    assert_eq!(opened.map(drop).unwrap_err().kind(), ErrorKind::Denied);
    let opened = beneath::open(&place("images"), "link-outside".as_ref(), Access::ReadOnly, false);
    assert!(matches!(opened, Ok(beneath::Found::Link(_))));
}

#[test]
fn a_message_shows_a_hostile_name_without_control_characters_and_cut() {
    assert_eq!(shown("a\n\u{1b}[31m"), "'a\\n\\u{1b}[31m'");
    assert!(shown(&"é".repeat(5000)).chars().count() < 130);
}

proptest! {
    #[test]
    fn no_name_leads_out_of_the_folder(name in "(\\PC|[./:]|base|sub|\\.\\./|link-(inside|outside)|folder-link/|secret){0,8}") {
        thread_local!(static HOUSE: House = House::new());
        HOUSE.with(|house| crate::properties::reference(&house.temp.path().join("images"), &name)).unwrap();
    }
}

/// Somebody who may write to the folder exchanges a file for a link, and a folder for a link, all the time.
#[cfg(target_os = "linux")]
#[test]
fn exchanging_links_for_files_meanwhile_leads_nowhere_else() {
    use std::sync::atomic::{AtomicBool, Ordering};

    let house = House::new();
    fs::create_dir(house.path("elsewhere/below")).unwrap();
    fs::write(house.path("elsewhere/below/deep"), "elsewhere/below/deep").unwrap();
    symlink("../elsewhere/below", house.path("images/sub-link")).unwrap();
    let exchange = |one: &str, other: &str| {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        renameat_with(CWD, house.path(one), CWD, house.path(other), RenameFlags::EXCHANGE).unwrap();
    };
    let (gate, done) = (ReferenceGate::Allow(vec![house.path("images").into()]), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                exchange("images/base", "images/link-outside");
                exchange("images/sub", "images/sub-link");
            }
        });
        let cases = [("base", "images/base"), ("sub/deep", "images/sub/deep")];
        let outcomes: Vec<_> =
            (0..4000).map(|round| cases[round % 2]).map(|(name, found)| (house.read(&gate, name), found)).collect();
        // First of all the other thread has to end, or a failure below would wait for it for ever.
        done.store(true, Ordering::Relaxed);
        for (outcome, contents) in outcomes {
            match outcome {
                Ok(found) => assert_eq!(found, contents),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Denied, "{error}"),
            }
        }
    });
}
