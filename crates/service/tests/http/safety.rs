//! Who may ask, for what, and what an answer tells.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use transload_service::{TlsFiles, token};
use transload_testkit::witness;

use crate::server::Server;

#[test]
fn a_token_is_needed_once_there_is_one_and_is_seen_at_once() {
    let server = Server::start();
    assert_eq!(server.get("/v1/formats").status, 200);
    let file = server.state().join("tokens");
    let secret = token::add(&file, "ci").unwrap();
    let bearer = format!("authorization: Bearer {secret}");
    for route in
        ["/v1/formats", "/v1/jobs", "/export?path=a&dst=raw", "/v1/files", "/metrics", "/v1/server", "/nowhere"]
    {
        let answer = server.get(route);
        assert_eq!((answer.status, answer.kind().as_str()), (401, "unauthorized"), "{route}");
        assert!(answer.headers.to_ascii_lowercase().contains("www-authenticate: bearer"), "{}", answer.headers);
        assert_eq!(server.curl(route, &["-H", "authorization: Bearer tl_00"]).status, 401, "{route}");
        assert_eq!(server.curl(route, &["-H", &format!("authorization: Basic {secret}")]).status, 401, "{route}");
    }
    for route in ["/", "/healthz", "/openapi.json", "/docs", "/assets/page.css"] {
        assert_eq!(server.get(route).status, 200, "{route}");
    }
    let answer = server.curl("/v1/server", &["-H", &bearer]);
    assert_eq!((answer.status, answer.json()["who"].as_str()), (200, Some("ci")));
    token::remove(&file, "ci").unwrap();
    token::add(&file, "other").unwrap();
    assert_eq!(server.curl("/v1/server", &["-H", &bearer]).status, 401);
    let metrics = server.curl("/metrics", &["-H", &bearer]);
    assert_eq!(metrics.status, 401);
}

#[test]
fn without_loopback_there_has_to_be_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut config = transload_service::Config::new(folder.path().join("."), folder.path().join("../state-of-none"));
    config.state = tempfile::tempdir().unwrap().path().join("state");
    config.listen = "0.0.0.0:0".parse().unwrap();
    let refused = runtime.block_on(transload_service::Service::bind(config.clone())).unwrap_err();
    assert_eq!(refused.kind(), transload::block::ErrorKind::Denied);
    token::add(&config.token_file(), "ci").unwrap();
    runtime.block_on(transload_service::Service::bind(config.clone())).unwrap();
    // What is the service's own must not be where clients look.
    config.state = folder.path().join("inside");
    config.listen = "127.0.0.1:0".parse().unwrap();
    let refused = runtime.block_on(transload_service::Service::bind(config)).unwrap_err();
    assert_eq!(refused.kind(), transload::block::ErrorKind::InvalidInput);
}

#[test]
fn no_path_leads_out_of_the_root() {
    let server = Server::start();
    let outside = server.folder.path().join("secret.raw");
    fs::write(&outside, vec![7; 4096]).unwrap();
    fs::write(server.root().join("inside.raw"), vec![1; 4096]).unwrap();
    symlink(&outside, server.root().join("link.raw")).unwrap();
    symlink("../secret.raw", server.root().join("relative.raw")).unwrap();
    symlink(server.folder.path(), server.root().join("folder")).unwrap();
    symlink("inside.raw", server.root().join("fine.raw")).unwrap();
    let source = server.folder.path().join("source.raw");
    fs::write(&source, vec![2; 4096]).unwrap();
    let absolute = outside.to_string_lossy().into_owned();
    for path in [
        "../secret.raw",
        "a/../../secret.raw",
        "%2e%2e/secret.raw",
        "..%2fsecret.raw",
        "%2e%2e%2fsecret.raw",
        "link.raw",
        "relative.raw",
        "folder/secret.raw",
        &absolute,
        "/etc/passwd",
        "//etc/passwd",
        "/proc/self/environ",
        "inside.raw%00.png",
        "",
        ".",
        ".transload-uploads/x",
        "folder",
    ] {
        for route in [
            "/export?dst=raw&src=raw&path=",
            "/v1/files/content?path=",
            "/v1/images/info?src=raw&path=",
            "/v1/images/inspect?src=raw&path=",
            "/v1/images/tree?src=raw&path=",
        ] {
            let answer = server.get(&format!("{route}{path}"));
            assert!([400, 403, 404].contains(&answer.status), "{route}{path}: {} {:?}", answer.status, answer.json());
            assert!(
                // What the client says itself comes back to it.
                path == absolute
                    || !String::from_utf8_lossy(&answer.body).contains(&*server.folder.path().to_string_lossy()),
                "{route}{path}"
            );
        }
        let answer = server.post_file(&format!("/upload?src=raw&dst=raw&force=true&name={path}"), &source);
        let made_up = path.is_empty() && answer.status == 201;
        assert!(made_up || [400, 403, 404].contains(&answer.status), "{path}: {} {:?}", answer.status, answer.json());
    }
    for path in ["..", "folder", "%2e%2e", "/etc", "a/../.."] {
        let answer = server.get(&format!("/v1/files?path={path}"));
        // A leading slash means the root, as it does for whoever looks at it from inside.
        assert!([400, 403, 404].contains(&answer.status), "{path}: {}", answer.status);
    }
    assert_eq!(fs::read(&outside).unwrap(), vec![7; 4096]);
    assert_eq!(server.get("/export?dst=raw&src=raw&path=fine.raw").status, 200);
    assert_eq!(server.get("/v1/files/content?path=fine.raw").body, vec![1; 4096]);
}

#[test]
fn no_image_pulls_in_another_file() {
    let server = Server::start();
    let (base, overlay) = (server.root().join("base.raw"), server.root().join("overlay.qcow2"));
    fs::write(&base, vec![7; 1 << 20]).unwrap();
    let (base_text, overlay_text) = (base.to_string_lossy().into_owned(), overlay.to_string_lossy().into_owned());
    witness::qemu_img(["create", "-q", "-f", "qcow2", "-b", &base_text, "-F", "raw", &overlay_text]);
    let answer = server.get("/export?path=overlay.qcow2&dst=raw");
    assert_eq!((answer.status, answer.kind().as_str()), (403, "denied"));
    let answer = server.get("/v1/images/info?path=overlay.qcow2");
    assert_eq!(answer.status, 200, "to say what it refers to opens nothing");
    let answer = server.post_file("/upload?dst=raw&name=flat.raw", &overlay);
    assert_eq!((answer.status, answer.kind().as_str()), (403, "denied"));
    let answer = server.post_file("/upload?dst=qcow2&name=x.qcow2&options=backing_file=base.raw", &base);
    assert_eq!((answer.status, answer.kind().as_str()), (403, "denied"));
    let server = Server::with(|config| config.references = transload_service::References::Root);
    let (base, overlay) = (server.root().join("base.raw"), server.root().join("overlay.qcow2"));
    fs::write(&base, vec![7; 1 << 20]).unwrap();
    witness::qemu_img(["create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", &*overlay.to_string_lossy()]);
    assert_eq!(server.get("/export?path=overlay.qcow2&dst=raw").body, vec![7; 1 << 20]);
    // What is outside stays outside.
    let outside = server.folder.path().join("outside.raw");
    fs::write(&outside, vec![9; 1 << 20]).unwrap();
    let overlay = server.root().join("out.qcow2");
    let (outside, overlay) = (outside.to_string_lossy().into_owned(), overlay.to_string_lossy().into_owned());
    witness::qemu_img(["create", "-q", "-f", "qcow2", "-b", &outside, "-F", "raw", &overlay]);
    assert_eq!(server.get("/export?path=out.qcow2&dst=raw").status, 403);
    assert_eq!(server.post_file("/upload?dst=raw&name=flat.raw", overlay.as_ref()).status, 403);
}

#[test]
fn imports_connect_to_no_address_that_is_not_public() {
    let server = Server::start();
    let port = server.address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0.0.0.0",
        "[::]",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "[fe80::1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[fd00::1]",
        "metadata.google.internal",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "user@127.0.0.1",
        "①②⑦.0.0.1",
    ] {
        let url = format!("http://{host}:{port}/healthz")
            .replace('%', "%25")
            .replace('[', "%5B")
            .replace(']', "%5D")
            .replace('①', "%E2%91%A0")
            .replace('②', "%E2%91%A1")
            .replace('⑦', "%E2%91%A6");
        let answer = server.get(&format!("/import?name=x.raw&src=raw&url={url}"));
        assert!([400, 403, 502].contains(&answer.status), "{host}: {} {:?}", answer.status, answer.json());
        if !host.contains("metadata") {
            assert_ne!(answer.status, 502, "{host}: it was asked for: {:?}", answer.json());
        }
    }
    for url in
        ["file:///etc/passwd", "gopher://x/", "ftp://x/y", "nbd://x", "/etc/passwd", "dict://x", "http:", "unix:/run/x"]
    {
        let answer = server.get(&format!("/import?name=x.raw&src=raw&url={url}"));
        assert_eq!((answer.status, answer.kind().as_str()), (400, "invalid-input"), "{url}");
    }
    assert!(Server::names(&server.root()).is_empty());
}

#[test]
fn what_a_foreign_page_has_a_browser_send_is_refused() {
    let server = Server::start();
    let own = format!("http://{}", server.address);
    for headers in [
        vec!["Host: evil.example"],
        vec!["Host: 127.0.0.1.nip.io"],
        vec!["Origin: https://evil.example"],
        vec!["Origin: null"],
        vec!["Sec-Fetch-Site: cross-site"],
        vec!["Sec-Fetch-Site: same-site"],
    ] {
        let arguments: Vec<_> = headers.iter().flat_map(|header| ["-H", header]).collect();
        for route in ["/v1/formats", "/", "/import?url=http://x/y&name=z.raw"] {
            assert_eq!(server.curl(route, &arguments).status, 403, "{headers:?} {route}");
        }
    }
    let answer = server.curl("/v1/formats", &["-H", &format!("Origin: {own}"), "-H", "Sec-Fetch-Site: same-origin"]);
    assert_eq!(answer.status, 200);
    let answer = server.curl("/v1/jobs", &["-X", "OPTIONS", "-H", "Access-Control-Request-Method: POST"]);
    assert!(!answer.headers.to_ascii_lowercase().contains("access-control"), "{}", answer.headers);
}

#[test]
fn answers_have_safe_headers() {
    let server = Server::start();
    for route in ["/", "/docs", "/v1/formats", "/nowhere", "/openapi.json", "/assets/page.js"] {
        let headers = server.get(route).headers.to_ascii_lowercase();
        for header in [
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
            "content-security-policy: default-src 'none'",
            "cache-control: ",
            "x-request-id: ",
        ] {
            assert!(headers.contains(header), "{route}: {header}\n{headers}");
        }
        assert!(!headers.contains("unsafe-inline") && !headers.contains("\nserver:"), "{route}\n{headers}");
    }
    assert_eq!(server.get("/nowhere").kind(), "not-found");
    assert_eq!(server.curl("/v1/formats", &["-X", "DELETE"]).kind(), "method-not-allowed");
}

#[test]
fn the_audit_log_has_who_and_what_and_no_secret() {
    let log = tempfile::tempdir().unwrap();
    let path = log.path().join("audit.log");
    let server = Server::with(|config| config.audit_log = Some(path.clone()));
    let secret = token::add(&server.state().join("tokens"), "ci").unwrap();
    server.get("/v1/jobs");
    server.curl(
        "/import?name=x.raw&url=https://user:hunter2@127.0.0.1/d?sig=hunter3",
        &["-H", &format!("authorization: Bearer {secret}")],
    );
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (lines[0]["who"].as_str(), lines[0]["status"].as_u64(), lines[0]["failure"].as_str()),
        (Some("-"), Some(401), Some("unauthorized"))
    );
    assert_eq!(
        (lines[1]["who"].as_str(), lines[1]["path"].as_str(), lines[1]["method"].as_str()),
        (Some("ci"), Some("/import"), Some("GET"))
    );
    for secret in ["hunter2", "hunter3", &secret] {
        assert!(!text.contains(secret), "{text}");
    }
    let jobs = server.curl("/v1/jobs", &["-H", &format!("authorization: Bearer {secret}")]).body;
    assert!(!String::from_utf8_lossy(&jobs).contains("hunter"));
}

#[test]
fn tls_is_spoken_with_the_certificate_that_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("cert.pem"));
    let (key_text, certificate_text) = (key.to_string_lossy().into_owned(), certificate.to_string_lossy().into_owned());
    witness::must(
        "openssl",
        [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            &key_text,
            "-out",
            &certificate_text,
        ],
    );
    let server =
        Server::with(|config| config.tls = Some(TlsFiles { certificate: certificate.clone(), key: key.clone() }));
    let trusting = ["--cacert", &*certificate_text];
    assert_eq!(server.curl("/healthz", &trusting).json()["status"], "ok");
    assert_eq!(server.curl("/healthz", &[]).code, 60, "curl does not know the authority");
    let old = server.curl("/healthz", &["--cacert", &certificate_text, "--tls-max", "1.1"]);
    assert_eq!(old.code, 35, "TLS 1.1 is not spoken");
    let source = folder.path().join("disk.raw");
    fs::write(&source, vec![3; 1 << 20]).unwrap();
    let sent = server.curl(
        "/upload?dst=qcow2&src=raw&name=a.qcow2",
        &["--cacert", &certificate_text, "-X", "POST", "-T", &source.to_string_lossy()],
    );
    assert_eq!(sent.status, 201);
    let plain = std::process::Command::new("curl")
        .args(["-s", &format!("http://{}/healthz", server.address)])
        .output()
        .unwrap();
    assert!(!plain.status.success());
    // A key that is not the certificate's is refused at once.
    let other = folder.path().join("other.pem");
    witness::must("openssl", ["genpkey", "-algorithm", "ed25519", "-out", &*other.to_string_lossy()]);
    let mut config = transload_service::Config::new(folder.path(), tempfile::tempdir().unwrap().path());
    config.tls = Some(TlsFiles { certificate, key: other });
    let refused =
        tokio::runtime::Runtime::new().unwrap().block_on(transload_service::Service::bind(config)).unwrap_err();
    assert_eq!(refused.kind(), transload::block::ErrorKind::InvalidInput);
}

#[test]
fn the_services_own_files_are_the_owners_alone() {
    let server = Server::start();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o077;
    assert_eq!(mode(&server.state()), 0);
    assert_eq!(mode(&server.root().join(".transload-uploads")), 0);
}
