//! `/v1/session`: a token kept by a browser.
//!
//! A link to a download and a stream of events are asked for by the browser itself, which sends no `Authorization`. So the page hands the
//! token over once and gets it back as a cookie: scripts cannot read it, no other site can have it sent, and any process of a fleet
//! takes it, as it is the token and nothing that a process would have to remember. A token that was removed ends its sessions.

use axum::extract::State;
use axum::http::header::{COOKIE, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::api::FailureDocument;
use crate::guard;
use crate::problem::{Answer, Problem};
use crate::state::Shared;

/// What the cookie is called.
const NAME: &str = "transload_token";

/// Keep the token in a cookie
///
/// For pages in a browser: the token of this request is kept in a cookie that scripts cannot read, until the browser is closed.
#[utoipa::path(
    post,
    path = "/v1/session",
    tag = "service",
    responses(
        (status = 204, description = "It is kept.", headers(("set-cookie" = String, description = "The cookie."))),
        (status = 400, description = "The request has no token to keep.", body = FailureDocument),
    )
)]
pub(crate) async fn open(State(app): State<Shared>, headers: HeaderMap) -> Answer<Response> {
    // Where no token is asked for, none has been looked at.
    let token = guard::bearer(&headers).filter(|token| app.tokens.name_of(token).is_some());
    token.map(|token| respond(&app, token, "")).ok_or_else(|| Problem::invalid("there is no token to keep"))
}

/// Forget the token
///
/// The cookie is taken back.
#[utoipa::path(
    delete,
    path = "/v1/session",
    tag = "service",
    responses((status = 204, description = "It is forgotten."))
)]
pub(crate) async fn close(State(app): State<Shared>) -> Response {
    respond(&app, "", "; Max-Age=0")
}

fn respond(app: &Shared, token: &str, further: &str) -> Response {
    let secure = if app.config.tls.is_some() { "; Secure" } else { "" };
    let cookie = format!("{NAME}={token}; Path=/; HttpOnly; SameSite=Strict{secure}{further}");
    let mut response = StatusCode::NO_CONTENT.into_response();
    // A token that was taken is made of letters and digits.
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    response
}

/// The token of a browser's cookie.
///
/// A request that changes something has it only when the browser says that a page of this service sent it: `SameSite` is the
/// browser's promise not to send the cookie along otherwise, and this does not rest on it alone.
pub(crate) fn token<'a>(method: &Method, headers: &'a HeaderMap) -> Option<&'a str> {
    let is_own = headers.contains_key(ORIGIN)
        || headers.get(HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site == "same-origin");
    if !matches!(*method, Method::GET | Method::HEAD) && !is_own {
        return None;
    }
    let cookies =
        headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    let found = cookies.filter_map(|cookie| cookie.trim().split_once('=')).find(|(name, _)| *name == NAME);
    found.map(|(_, token)| token).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        for (cookie, found) in [
            ("transload_token=tl_1", Some("tl_1")),
            ("a=b; transload_token=tl_1; c=d", Some("tl_1")),
            ("transload_token=", None),
            ("xtransload_token=tl_1", None),
            ("transload_token", None),
        ] {
            assert_eq!(token(&Method::GET, &headers(&[("cookie", cookie)])), found, "{cookie}");
        }
    }

    #[test]
    fn what_changes_something_comes_from_the_page() {
        let cookie = ("cookie", "transload_token=tl_1");
        assert_eq!(token(&Method::POST, &headers(&[cookie])), None);
        assert_eq!(token(&Method::DELETE, &headers(&[cookie, ("sec-fetch-site", "none")])), None);
        // The guard has refused an origin that is not this service's before this is asked.
        assert!(token(&Method::POST, &headers(&[cookie, ("origin", "http://here")])).is_some());
        assert!(token(&Method::POST, &headers(&[cookie, ("sec-fetch-site", "same-origin")])).is_some());
    }
}
