//! Requests that a browser makes for a page which is not this daemon's own.
//!
//! Such a page may be anybody's, and the kernel only says whose browser it is. What it sends names the
//! page (RFC 6454 §7, Fetch Metadata §2.4), which only this daemon's own may be, under a name that
//! nobody else can have led here (DNS rebinding): an address, or what the operator called it. Reading
//! stays open: Mesos' page reads agents from elsewhere.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::{Method, Uri};

/// What is said to such a page.
pub(crate) const SENTENCE: &str = "a page of another site may read here and change nothing";

/// True for a request that would change something and is made for such a page; `own` is the name that
/// the operator gave this daemon, if any.
pub(crate) fn is_foreign(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    own: Option<&str>,
) -> bool {
    if !changes(method, uri) {
        return false;
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if matches!(text("sec-fetch-site"), Some("cross-site" | "same-site")) {
        return true;
    }
    let Some(origin) = text(ORIGIN.as_str()) else { return false };
    let Ok(origin) = origin.parse::<Uri>() else { return true };
    let (Some(authority), Some(host)) = (origin.authority(), text(HOST.as_str())) else {
        return true;
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let nobodys = name.parse::<IpAddr>().is_ok() || name == "localhost" || own == Some(name);
    !nobodys || !authority.as_str().eq_ignore_ascii_case(host)
}

/// True for a request that may change something.
pub(super) fn changes(method: &Method, uri: &Uri) -> bool {
    ![Method::GET, Method::HEAD].contains(method) || changes_by_reading(uri)
}

/// Mesos has the level of the log changed by what only reads elsewhere.
fn changes_by_reading(uri: &Uri) -> bool {
    let path = uri.path().strip_suffix(".json").unwrap_or(uri.path());
    path.ends_with("/logging/toggle") && uri.query().is_some()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn foreign(method: &Method, named: &[(&'static str, &'static str)]) -> bool {
        let named = named
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        is_foreign(method, &Uri::from_static("/state"), &named.collect(), Some("master.example"))
    }

    #[test]
    fn the_level_of_the_log_is_changed_by_no_page_of_another_site() {
        let evil = HeaderValue::from_static("http://evil.example");
        let headers = [(ORIGIN, evil)].into_iter().collect();
        for (uri, is) in [
            ("/logging/toggle?level=3&duration=1hrs", true),
            ("/agent/x/slave(1)/logging/toggle.json?level=1", true),
            ("/logging/toggle", false),
            ("/state?level=3", false),
        ] {
            assert_eq!(
                is_foreign(&Method::GET, &uri.parse().unwrap(), &headers, None),
                is,
                "{uri}"
            );
        }
    }

    #[test]
    fn a_page_of_another_site_changes_nothing_and_who_has_no_page_may() {
        let host = ("host", "127.0.0.1:5050");
        assert!(!foreign(&Method::POST, &[host]), "no browser");
        assert!(!foreign(&Method::POST, &[host, ("origin", "http://127.0.0.1:5050")]));
        for origin in ["http://evil.example", "null", "http://127.0.0.1:8080", "nonsense 1"] {
            assert!(foreign(&Method::POST, &[host, ("origin", origin)]), "{origin}");
            assert!(!foreign(&Method::GET, &[host, ("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site"] {
            assert!(foreign(&Method::PUT, &[host, ("sec-fetch-site", site)]), "{site}");
        }
        let site = ("sec-fetch-site", "same-origin");
        assert!(!foreign(&Method::POST, &[host, site, ("origin", "http://127.0.0.1:5050")]));
    }

    #[test]
    fn a_name_that_was_led_here_is_not_this_daemons() {
        let page = |host, origin| foreign(&Method::DELETE, &[("host", host), ("origin", origin)]);
        assert!(page("evil.example:5050", "http://evil.example:5050"));
        assert!(!page("master.example:5050", "https://master.example:5050"));
        assert!(!page("localhost:5050", "http://localhost:5050"));
        assert!(!page("[::1]:5050", "http://[::1]:5050"));
    }
}
