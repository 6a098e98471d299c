//! A token in a cookie: who may do what with it.

use serde_json::json;

use crate::python::serve_with_token;

#[test]
fn a_cookie_is_a_token_for_the_pages_of_the_service_alone() {
    let (server, token) = serve_with_token();
    let bearer = format!("authorization: Bearer {token}");
    let made = server.curl("/v1/session", &["-X", "POST", "-H", &bearer]);
    assert_eq!(made.status, 204);
    let headers = made.headers.to_ascii_lowercase();
    let cookie = headers.lines().find(|line| line.starts_with("set-cookie:")).expect("a cookie");
    assert!(
        cookie.contains("httponly") && cookie.contains("samesite=strict") && !cookie.contains("secure"),
        "{cookie}"
    );
    let cookie = format!("cookie: transload_token={token}");
    let own = format!("origin: {}", server.url(""));
    assert_eq!(server.curl("/v1/jobs", &["-H", &cookie]).status, 200);
    assert_eq!(server.curl("/v1/jobs", &["-H", "cookie: transload_token=tl_wrong"]).status, 401);
    let job = json!({"kind": "digest", "source": {"path": "nowhere"}}).to_string();
    let submit = ["-H", "content-type: application/json", "-d", &job, "-H", &cookie];
    assert_eq!(server.curl("/v1/jobs", &submit).status, 401, "no page says that it sent it");
    let foreign = [&submit[..], &["-H", "origin: https://elsewhere.example"]].concat();
    assert_eq!(server.curl("/v1/jobs", &foreign).status, 403);
    let beside = [&submit[..], &["-H", "sec-fetch-site: same-site"]].concat();
    assert_eq!(server.curl("/v1/jobs", &beside).status, 403);
    assert_eq!(server.curl("/v1/jobs", &[&submit[..], &["-H", &own]].concat()).status, 202);
    let closed = server.curl("/v1/session", &["-X", "DELETE", "-H", &cookie, "-H", &own]);
    assert_eq!(closed.status, 204);
    assert!(closed.headers.contains("Max-Age=0"), "{}", closed.headers);
}

#[test]
fn only_a_token_that_is_known_is_kept() {
    let (server, _) = serve_with_token();
    assert_eq!(server.curl("/v1/session", &["-X", "POST"]).status, 401);
    assert_eq!(server.curl("/v1/session", &["-X", "POST", "-H", "authorization: Bearer tl_wrong"]).status, 401);
    let open = crate::server::Server::start();
    let sent = open.curl("/v1/session", &["-X", "POST", "-H", "authorization: Bearer x; Domain=example"]);
    assert_eq!((sent.status, sent.kind().as_str()), (400, "invalid-input"));
}
