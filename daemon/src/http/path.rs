//! Paths as libprocess reads them: with a slash at the end or without, and a process' name encoded or not.

use hyper::http::uri::{PathAndQuery, Uri};

use crate::legacy::decoded;

/// The same with the path as our routes have it; none when it has that already. It is asked before
/// anybody looks at what may be done there.
pub(super) fn plain(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let (first, rest) = path.strip_prefix('/')?.split_once('/').unwrap_or((&path[1..], ""));
    let first = if first.contains('%') { decoded(first) } else { first.to_owned() };
    let whole = if rest.is_empty() { format!("/{first}") } else { format!("/{first}/{rest}") };
    let ends = whole.trim_end_matches('/').len().max(1);
    let whole = &whole[..ends];
    if whole == path {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    // What decodes to something that is no path stays as it is, and nothing is there.
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{whole}{query}")).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_same_with_a_slash_behind_it() {
        for (given, expected) in [
            ("/master/frameworks/", Some("/master/frameworks")),
            ("/master/frameworks//?a=b/", Some("/master/frameworks?a=b/")),
            ("/slave%281%29/state", Some("/slave(1)/state")),
            ("/slave(1)/state", None),
            ("/state", None),
            ("/", None),
            ("//", Some("/")),
            ("/files/read?path=%2Ftmp%2F", None),
            ("/quota/a%2Fb", None),
            ("/%00", None),
            ("/a%20b/c", None),
        ] {
            let uri: Uri = given.parse().unwrap();
            let told = plain(&uri).map(|uri| uri.to_string());
            assert_eq!(told.as_deref(), expected, "{given}");
        }
    }
}
