//! Jobs over HTTP.

use std::fs;
use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};

use crate::server::Server;

/// Waits until a job has ended.
pub(crate) fn ended(server: &Server, id: &str) -> Value {
    let mut job = Value::Null;
    Server::until(|| {
        job = server.get(&format!("/v1/jobs/{id}")).json();
        ["done", "failed", "cancelled"].contains(&job["state"].as_str().unwrap_or_default())
    });
    job
}

#[test]
fn a_job_is_submitted_followed_and_its_result_fetched() {
    let server = Server::start();
    fs::write(server.root().join("disk.raw"), vec![7; 1 << 20]).unwrap();
    let request = json!({"kind": "convert", "source": {"path": "disk.raw"}, "target": {"path": "disk.qcow2"}, "digests": ["sha256"]});
    let answer = server.post_json("/v1/jobs", &request);
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert!(answer.headers.contains(&format!("location: /v1/jobs/{id}")), "{}", answer.headers);
    let events = String::from_utf8(server.curl(&format!("/v1/jobs/{id}/events"), &["-N"]).body).unwrap();
    let job = ended(&server, &id);
    assert_eq!(job["state"], "done", "{job}");
    assert!(events.contains("event: state\n") && events.contains("\"state\":\"done\""), "{events}");
    assert_eq!(job["result"]["output"], "disk.qcow2");
    let file = server.get(&format!("/v1/jobs/{id}/result"));
    assert_eq!(file.status, 200);
    assert!(file.body == fs::read(server.root().join("disk.qcow2")).unwrap());
    let list = server.get("/v1/jobs?state=done&kind=convert&text=disk.raw").json();
    assert_eq!(list["jobs"][0]["id"], id.as_str());
    assert_eq!(server.get("/v1/jobs?state=failed").json()["jobs"], json!([]));

    // Who comes back is told only what is new.
    let last = job["lastEvent"].as_i64().unwrap();
    let late = server.curl(&format!("/v1/jobs/{id}/events"), &["-H", &format!("last-event-id: {}", last - 1)]);
    let late = String::from_utf8(late.body).unwrap();
    assert!(late.starts_with(&format!("id: {last}\nevent: state\ndata: ")), "{late}");
    assert_eq!(late.matches("data: ").count(), 1);
    let none = server.curl(&format!("/v1/jobs/{id}/events?after={last}"), &[]);
    assert!(!String::from_utf8_lossy(&none.body).contains("data: "));

    let again = server.curl(&format!("/v1/jobs/{id}/retry"), &["-X", "POST"]);
    assert_eq!((again.status, again.kind().as_str()), (409, "conflict"));
    assert_eq!(server.curl(&format!("/v1/jobs/{id}?forget=true"), &["-X", "DELETE"]).status, 204);
    assert_eq!(server.get(&format!("/v1/jobs/{id}")).status, 404);
}

#[test]
fn a_job_that_fails_says_why_and_may_be_tried_again() {
    let server = Server::start();
    let request = json!({"kind": "convert", "source": {"path": "later.raw"}, "target": {"path": "disk.qcow2"}});
    let id = server.post_json("/v1/jobs", &request).json()["id"].as_str().unwrap().to_owned();
    let job = ended(&server, &id);
    assert_eq!(job["state"], "failed", "{job}");
    assert!(job["error"]["message"].as_str().unwrap().contains("later.raw"), "{job}");
    assert_eq!(server.get(&format!("/v1/jobs/{id}/result")).status, 409);
    fs::write(server.root().join("later.raw"), vec![7; 1 << 20]).unwrap();
    assert_eq!(server.curl(&format!("/v1/jobs/{id}/retry"), &["-X", "POST"]).status, 202);
    let job = ended(&server, &id);
    assert_eq!((job["state"].as_str(), job["lastError"].is_object()), (Some("done"), true), "{job}");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let server = Server::start();
    for request in [
        json!({}),
        json!({"kind": "nonsense"}),
        json!({"kind": "convert", "source": {"path": ""}, "target": {"path": "a"}}),
        json!({"kind": "convert", "source": {"path": "a"}, "target": {"upload": "b"}}),
        json!({"kind": "convert", "source": {"path": "a"}, "target": {"path": "b"}, "unknown": 1}),
        json!({"kind": "convert", "source": {"stream": "a"}, "target": {"path": "b"}}),
    ] {
        let answer = server.post_json("/v1/jobs", &request);
        assert_eq!((answer.status, answer.kind().as_str()), (400, "invalid-input"), "{request}: {answer:?}");
    }
    assert_eq!(server.curl("/v1/jobs", &["-H", "content-type: application/json", "-d", "{"]).status, 400);
    assert_eq!(server.curl("/v1/jobs", &["-H", "content-type: text/plain", "-d", "{}"]).status, 415);
    let large = server.folder.path().join("large.json");
    fs::write(&large, vec![b' '; 2 << 20]).unwrap();
    assert_eq!(server.curl("/v1/jobs", &["-H", "content-type: application/json", "--data-binary", &format!("@{}", large.display())]).status, 413);
    for route in ["/v1/jobs?state=nonsense", "/v1/jobs?limit=0", "/v1/jobs?after=x", "/v1/jobs?unknown=1"] {
        assert_eq!(server.get(route).status, 400, "{route}");
    }
    for route in ["/v1/jobs/none", "/v1/jobs/none/events", "/v1/jobs/none/result"] {
        assert_eq!(server.get(route).status, 404, "{route}");
    }
}

#[test]
fn a_daemons_definition_is_mapped_and_carried_out() {
    let server = Server::start();
    fs::write(server.root().join("web.raw"), vec![7; 1 << 20]).unwrap();
    fs::create_dir(server.root().join("out")).unwrap();
    let one = json!({"name": "web", "source": "web.raw", "output_dir": "out", "format": "vmdk", "compress": true, "options": {"parallel_downloads": 4}});
    let answer = server.post_json("/jobs/submit", &one);
    assert_eq!(answer.status, 202, "{answer:?}");
    let submitted = answer.json();
    assert_eq!((submitted["accepted"].as_u64(), submitted["rejected"].as_u64()), (Some(1), Some(0)), "{submitted}");
    let job = ended(&server, submitted["job_ids"][0].as_str().unwrap());
    assert_eq!((job["state"].as_str(), job["result"]["output"].as_str()), (Some("done"), Some("out/web.vmdk")), "{job}");
    let batch = json!({"jobs": [{"source": "web.raw", "output_dir": "out"}, {"output_dir": "out"}]});
    let submitted = server.post_json("/jobs/submit", &batch).json();
    assert_eq!((submitted["accepted"].as_u64(), submitted["rejected"].as_u64()), (Some(1), Some(1)), "{submitted}");
    assert_eq!(server.post_json("/jobs/submit", &json!([])).status, 400);
    let vcenter = json!({"vm_path": "/DC/vm/a", "output_dir": "out", "vcenter_url": "https://vc"});
    assert_eq!(server.post_json("/jobs/submit", &vcenter).status, 422);
}

#[test]
fn cancelling_stops_a_streamed_conversion_too() {
    let server = Server::start();
    let mut stream = server.connect();
    write!(stream, "POST /upload?src=raw&dst=raw&name=long.raw HTTP/1.1\r\nHost: {}\r\nContent-Length: 100000000\r\n\r\n", server.address).unwrap();
    stream.write_all(&vec![1; 1 << 20]).unwrap();
    let mut id = String::new();
    Server::until(|| {
        let jobs = server.get("/v1/jobs?state=running").json();
        id = jobs["jobs"][0]["id"].as_str().unwrap_or_default().to_owned();
        !id.is_empty()
    });
    assert_eq!(server.curl(&format!("/v1/jobs/{id}"), &["-X", "DELETE"]).status, 200);
    // The conversion looks up when the next bytes come.
    let feeding = std::thread::spawn(move || {
        for _ in 0..2000 {
            if stream.write_all(&[1; 4096]).is_err() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let mut line = String::new();
        // A reset in place of an answer is an end as well.
        let _ = BufReader::new(stream).read_line(&mut line);
        line
    });
    let job = ended(&server, &id);
    assert_eq!(job["state"], "cancelled", "{job}");
    let line = feeding.join().unwrap();
    assert!(!line.contains(" 2"), "{line}");
    assert!(Server::names(&server.root()).is_empty());
}
