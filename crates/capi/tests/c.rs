//! Programs in C, built with the sanitizers of gcc, against the static library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The static library beside this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let folder = test.parent().expect("a folder");
    let found = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let ours = found.filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("libtransload_c") && name.ends_with(".a")
    });
    let newest = ours.max_by_key(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a time"));
    newest.expect("cargo has built the static library")
}

/// Builds a program, with everything on that gcc checks while it runs.
fn build(source: &str, folder: &Path) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = folder.join(Path::new(source).file_stem().expect("a name"));
    let output = Command::new("gcc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-D_GNU_SOURCE"])
        .args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-I"])
        .arg(here.join("include"))
        .arg(here.join(source))
        .arg(library())
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program)
        .output()
        .expect("gcc is needed to test the interface: install gcc");
    assert!(output.status.success(), "{source}: {}", said(&output));
    program
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn run(command: &mut Command, package: &str) -> Output {
    let missing = format!("{:?} is needed: install {package}", command.get_program());
    let output = command.output().expect(&missing);
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    output
}

#[test]
fn the_calls_keep_their_word() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = build("tests/c/calls.c", folder.path());
    run(Command::new(program).current_dir(folder.path()), "gcc");
    // What was written through the interface, another program reads.
    for (image, format) in [("disk.qcow2", "qcow2"), ("disk.vhdx", "vhdx")] {
        let mut compare = Command::new("qemu-img");
        compare.current_dir(folder.path()).args(["compare", "-f", "raw", "-F", format, "model.raw", image]);
        run(&mut compare, "qemu-utils");
    }
    run(Command::new("qemu-img").current_dir(folder.path()).args(["check", "disk.qcow2"]), "qemu-utils");
}

#[test]
fn a_program_that_knows_fat_reads_a_file_from_any_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let program = build("examples/fatcat.c", folder.path());
    let contents: Vec<u8> =
        (0..300_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    fs::write(at("HELLO.BIN"), &contents).expect("a file");
    for (bits, sectors) in [("16", "40M"), ("32", "80M")] {
        let disk = at(&format!("disk{bits}.raw"));
        fs::File::create(&disk).expect("a file").set_len(128 << 20).expect("a size");
        let mut table = Command::new("sfdisk");
        table
            .arg("-q")
            .arg(&disk)
            .stdin(script(&at("table"), &format!("label: dos\nstart=2048, size={sectors}, type=c\n")));
        run(&mut table, "fdisk");
        let mut make = Command::new("mkfs.fat");
        let kibibytes = sectors.trim_end_matches('M').parse::<u32>().expect("a number") * 1024;
        make.args(["-F", bits, "--offset", "2048"]).arg(&disk).arg(kibibytes.to_string());
        run(&mut make, "dosfstools");
        let mut copy = Command::new("mcopy");
        copy.arg("-i").arg(format!("{}@@1M", disk.display())).arg(at("HELLO.BIN")).arg("::/HELLO.BIN");
        run(&mut copy, "mtools");
        let mut pack = Command::new("qemu-img");
        pack.args(["convert", "-c", "-O", "qcow2"]).arg(&disk).arg(at("disk.qcow2"));
        run(&mut pack, "qemu-utils");
        for image in [disk, at("disk.qcow2")] {
            let output = run(Command::new(&program).arg(image).args(["1", "HELLO.BIN"]), "gcc");
            assert!(output.stdout == contents, "FAT{bits}");
        }
        let missing = Command::new(&program).arg(at("disk.qcow2")).args(["1", "NOTHERE.TXT"]).output();
        assert_eq!(missing.expect("the program").status.code(), Some(1));
    }
}

fn script(path: &Path, text: &str) -> fs::File {
    fs::write(path, text).expect("a file");
    fs::File::open(path).expect("a file")
}
