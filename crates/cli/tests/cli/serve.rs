//! `transload serve` as a process, with curl as its client.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::run::{complaint, document, fail, succeed, transload};

/// A service, and the address that it printed.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        fs::create_dir_all(folder.join("root")).unwrap();
        let own = ["serve", "--listen", "127.0.0.1:0", "--root", "root", "--state", "state"];
        let mut command = transload(folder, &[&own, arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim_end().to_owned() }
    }

    /// Ends it as an operator would, and returns what it said.
    fn end(mut self) -> String {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{said}");
        said
    }
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "60"]).args(arguments).output();
    let output = output.expect("curl is needed as a witness: install curl");
    assert!(output.status.success(), "{arguments:?}: {}", complaint(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_disk_goes_up_and_the_service_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &["--log-format", "json"]);
    fs::write(folder.path().join("disk.raw"), vec![7; 1 << 20]).unwrap();
    let (url, file) = (format!("{}/upload?name=disk.qcow2&src=raw", serving.address), folder.path().join("disk.raw"));
    let done = curl(&["-X", "POST", "-T", &file.to_string_lossy(), &url]);
    assert!(done.contains("\"output\":\"disk.qcow2\""), "{done}");
    let said = serving.end();
    let line = said.lines().find(|line| line.contains("/upload")).expect("a line of the audit log");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!((line["status"].as_u64(), line["who"].as_str()), (Some(201), Some("local")), "{line}");
    let info = document(folder.path(), &["info", "root/disk.qcow2"]);
    assert_eq!(info["layers"][0]["virtual-size"], 1 << 20);
}

#[test]
fn tokens_are_made_listed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let state = ["--state", "state"];
    let token = succeed(folder.path(), &[&["serve", "token", "add", "ci"][..], &state].concat());
    let token = token.trim().to_owned();
    assert!(token.starts_with("tl_") && token.len() == 67, "{token}");
    let list = document(folder.path(), &[&["serve", "token", "list"][..], &state].concat());
    assert_eq!(list["tokens"][0]["name"], "ci");
    let serving = Serving::start(folder.path(), &[]);
    let url = format!("{}/v1/server", serving.address);
    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    assert_eq!(curl(&[&status[..], &[&url]].concat()), "401");
    let bearer = format!("authorization: Bearer {token}");
    assert_eq!(curl(&[&status[..], &["-H", &bearer, &url]].concat()), "200");
    succeed(folder.path(), &[&["serve", "token", "remove", "ci"][..], &state].concat());
    succeed(folder.path(), &[&["serve", "token", "add", "other"][..], &state].concat());
    assert_eq!(curl(&[&status[..], &["-H", &bearer, &url]].concat()), "401");
    serving.end();
    fail(folder.path(), &[&["serve", "token", "remove", "ci"][..], &state].concat(), 2);
}

#[test]
fn a_service_that_everybody_could_use_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("root")).unwrap();
    let refused = fail(folder.path(), &["serve", "--listen", "0.0.0.0:0", "--root", "root", "--state", "state"], 6);
    assert!(refused.contains("serve token add"), "{refused}");
    fail(folder.path(), &["serve", "--listen", "127.0.0.1:0", "--root", "root", "--state", "root/state"], 2);
}
