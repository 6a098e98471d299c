//! What stands in `deploy`: systemd and the schemas of Kubernetes judge it, and the program takes every option that is named there.

use std::path::{Path, PathBuf};
use std::process::Command;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy().join(path)).unwrap()
}

/// Runs a command, which has to succeed, and returns everything it said.
fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the program is there: run `cargo xtask setup`");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{text}");
    text
}

/// The words of a text that are options of the program, without their values.
fn options(text: &str) -> Vec<String> {
    let words = text.split(|letter: char| letter.is_whitespace() || "=\",[]".contains(letter));
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

#[test]
fn every_option_that_is_named_is_one_of_the_program() {
    let help = succeed(Command::new(env!("CARGO_BIN_EXE_transload")).args(["serve", "--help"]));
    let known = options(&help);
    let unit = read("systemd/transload.service");
    // The comment above it goes on with what speaks TLS.
    let unit: Vec<_> = unit.lines().filter(|line| line.contains("transload serve") || line.contains("--tls")).collect();
    let container = read("container/Containerfile");
    let command = container.lines().find(|line| line.starts_with("CMD")).unwrap();
    let deployment = read("kubernetes/deployment.yaml");
    let arguments = deployment.split("args:").nth(1).unwrap().split("env:").next().unwrap();
    let named = [options(&unit.join(" ")), options(command), options(arguments)];
    for options in named {
        assert!(options.len() >= 3, "{options:?}");
        for option in options {
            assert!(known.contains(&option), "{option} is no option of `transload serve`");
        }
    }
}

#[test]
fn systemd_takes_the_unit_and_finds_it_confined() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("transload.service");
    let text = read("systemd/transload.service").replace("/usr/bin/transload", env!("CARGO_BIN_EXE_transload"));
    std::fs::write(&unit, text).unwrap();
    let said = succeed(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit));
    assert_eq!(said, "", "systemd has remarks");
    // 0 is nothing that could be done to the machine, 100 everything; a unit that says nothing has 96.
    succeed(Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=20"]).arg(&unit));
    succeed(Command::new("systemd-sysusers").arg("--dry-run").arg(deploy().join("systemd/transload.sysusers")));
}

#[test]
fn the_manifests_are_what_kubernetes_describes() {
    let validate = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/witness-python/bin/kubernetes-validate");
    assert!(validate.exists(), "{} is missing: run `cargo xtask setup`", validate.display());
    let listed = read("kubernetes/kustomization.yaml");
    let mut found = 0;
    for entry in std::fs::read_dir(deploy().join("kubernetes")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "kustomization.yaml" {
            continue;
        }
        succeed(Command::new(&validate).arg("--strict").arg(&path));
        assert!(listed.contains(&format!("  - {name}\n")), "{name} is not in kustomization.yaml");
        found += 1;
    }
    assert_eq!(listed.matches("\n  - ").count(), found + 1, "kustomization.yaml names a file that is not there");
}

#[test]
fn the_container_is_built_of_what_there_is() {
    let text = read("container/Containerfile");
    let manifest = std::fs::read_to_string(deploy().join("../Cargo.toml")).unwrap();
    let oldest = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(text.contains(&format!("/rust:{oldest}-")), "the compiler of the container is not {oldest}");
    let package = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert!(package.contains("name = \"transload-cli\"") && text.contains("--package transload-cli"));
    // What is listened on is what is exposed, and whoever runs it is nobody.
    assert!(text.contains("EXPOSE 8080") && text.contains("0.0.0.0:8080") && text.contains("\nUSER 65532"));
}
