//! Paths as libprocess reads them: with a slash at the end or without, and a process' name encoded or not.

use hyper::http::uri::{PathAndQuery, Uri};

use crate::legacy::decoded;

/// The same with the path as our routes have it; none when it has that already.
pub(super) fn plain(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    // Those of agents are read here as well, before anybody looks at what may be done there.
    let around = path.strip_prefix("/agent/").map_or(0, |rest| {
        let id = rest.find('/').unwrap_or(rest.len());
        path.len() - rest.len() + id
    });
    let (around, own) = path.split_at(around);
    let own = own.strip_prefix('/').unwrap_or(own);
    let (first, rest) =
        own.split_once('/').map_or((own, None), |(first, rest)| (first, Some(rest)));
    let first = if first.contains('%') { decoded(first) } else { first.to_owned() };
    let rest = rest.map_or_else(String::new, |rest| format!("/{rest}"));
    let whole = format!("{around}/{first}{rest}");
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
            ("/agent/x/%61pi/v1", Some("/agent/x/api/v1")),
            ("/agent/x/slave%281%29/state/", Some("/agent/x/slave(1)/state")),
            ("/agent/x/state", None),
            ("/agent/x/", Some("/agent/x")),
            ("/agent/x", None),
            // What is read once is not read again by the agent, which has nothing there.
            ("/%61gent/x/%61pi/v1", Some("/agent/x/%61pi/v1")),
        ] {
            let uri: Uri = given.parse().unwrap();
            let told = plain(&uri).map(|uri| uri.to_string());
            assert_eq!(told.as_deref(), expected, "{given}");
        }
    }
}
