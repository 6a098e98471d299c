//! The OpenAPI document, and what others make of it.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use transload_testkit::witness;

use crate::server::Server;

#[test]
fn every_route_is_described_with_its_answers() {
    let document: Value = serde_json::from_str(&transload_service::document()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/upload",
        "/import",
        "/export",
        "/v1/jobs",
        "/v1/jobs/{id}",
        "/v1/jobs/{id}/events",
        "/jobs/submit",
        "/v1/uploads",
        "/v1/formats",
        "/v1/files",
        "/v1/images/inspect",
        "/healthz",
        "/metrics",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    let mut names = BTreeSet::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{method} {path}");
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            assert!(
                names.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{method} {path}: operationId is not unique"
            );
        }
    }
    let text = document.to_string();
    for (at, _) in text.match_indices("\"#/components/schemas/") {
        let name = text[at..].trim_start_matches("\"#/components/schemas/").split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name} is referred to and not there");
    }
}

#[test]
fn the_reference_reads_without_scripts_and_has_every_route() {
    let server = Server::start();
    let page = String::from_utf8(server.get("/docs").body).unwrap();
    assert!(!page.contains("<script") && !page.contains("://cdn") && !page.contains(" style="), "{page}");
    let document = server.get("/openapi.json").json();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(page.contains(path.as_str()), "{path}");
    }
    let file = server.folder.path().join("docs.html");
    std::fs::write(&file, page).unwrap();
    witness::must("xmllint", ["--html", "--noout", &file.to_string_lossy()]);
}

#[test]
fn prometheus_reads_the_metrics() {
    let server = Server::start();
    server.get("/v1/formats");
    let file = server.folder.path().join("metrics");
    std::fs::write(&file, server.get("/metrics").body).unwrap();
    let names = witness::python(
        "import sys\nfrom prometheus_client.parser import text_string_to_metric_families as parse\nprint(*[f.name for f in parse(open(sys.argv[1]).read())])",
        &[&file],
    );
    for name in [
        "transload_http_requests",
        "transload_http_request_seconds",
        "transload_jobs",
        "transload_build_info",
        "transload_conversions_active",
    ] {
        assert!(names.split(' ').any(|known| known.trim() == name), "{name}: {names}");
    }
}

/// Schemathesis makes requests up from the document and holds every answer to it: no 5xx, no status, header or body that the
/// document does not have.
#[test]
fn schemathesis_finds_no_answer_that_is_not_as_described() {
    // Whatever address it makes up, none is connected to.
    let server = Server::with(|config| config.addresses = transload::remote::Policy::Only(Vec::new()));
    std::fs::write(server.root().join("disk.raw"), vec![7; 1 << 20]).unwrap();
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/witness-python/bin/schemathesis");
    let mut command = Command::new(program);
    let url = server.url("/openapi.json");
    // It leaves notes where it runs. That an address cannot be reached is an answer, and no fault of the service.
    let notes = tempfile::tempdir().unwrap();
    let expected = "[checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\", 502]\n";
    std::fs::write(notes.path().join("schemathesis.toml"), expected).unwrap();
    command.current_dir(&notes).args([
        "run",
        &url,
        "--max-examples",
        "12",
        "--seed",
        "7",
        "--workers",
        "2",
        "--generation-deterministic",
        "--no-color",
    ]);
    command.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    // Streams end when their job does.
    command.args([
        "--exclude-path",
        "/v1/jobs/{id}/events",
        "--request-timeout",
        "20",
        "--phases",
        "examples,coverage,fuzzing",
        "--max-time",
        "60",
    ]);
    let output = command.output();
    assert!(output.is_ok(), "{program} is needed as a witness: `cargo xtask setup` installs it");
    let output = output.unwrap();
    assert!(output.status.success(), "{}", witness::said(&output));
}
