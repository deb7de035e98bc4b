//! The two forms of a message, and how they are told and asked for. Mesos: `process::http`.

use hyper::HeaderMap;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use prost::{Message, Name};

use super::transcode::{self, BadMessage};

/// A stream of records, each of them a message.
pub(crate) const RECORDIO: &str = "application/recordio";

/// What its messages are written in.
pub(crate) const MESSAGE_TYPE: HeaderName = HeaderName::from_static("message-content-type");

/// True for a request whose body is such a stream.
pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.split(';').next().is_some_and(|name| name.trim() == RECORDIO))
}

/// The form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// `application/json`
    Json,
    /// `application/x-protobuf`
    Protobuf,
}

/// What is wrong with a `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadType {
    /// There is none.
    Absent,
    /// It is neither of the two.
    Unknown,
}

impl Media {
    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    /// The form of the records of a stream.
    pub(crate) fn of_records(headers: &HeaderMap) -> Result<Self, BadType> {
        Self::said(headers.get(MESSAGE_TYPE))
    }

    /// The form of a request's body. Compared as it is, as Mesos does, but for parameters.
    pub(crate) fn of_body(headers: &HeaderMap) -> Result<Self, BadType> {
        Self::said(headers.get(CONTENT_TYPE))
    }

    fn said(value: Option<&HeaderValue>) -> Result<Self, BadType> {
        let value = value.ok_or(BadType::Absent)?.to_str().map_err(|_| BadType::Unknown)?;
        let name = value.split(';').next().unwrap_or_default().trim();
        let both = [Self::Json, Self::Protobuf];
        both.into_iter().find(|media| media.name() == name).ok_or(BadType::Unknown)
    }

    /// The form that an answer is asked for in, JSON when both will do; none when neither does.
    pub(crate) fn asked(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(ACCEPT).iter().peekable();
        if values.peek().is_none() {
            return Some(Self::Json);
        }
        let ranges: Vec<&str> = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter(|range| !refuses(range))
            .map(|range| range.split(';').next().unwrap_or_default().trim())
            .collect();
        let both = [Self::Json, Self::Protobuf];
        both.into_iter().find(|media| {
            ranges
                .iter()
                .any(|range| *range == "*/*" || *range == "application/*" || *range == media.name())
        })
    }

    /// Reads a message in this form.
    pub(crate) fn read<M: Message + Name + Default>(self, bytes: &[u8]) -> Result<M, BadMessage> {
        match self {
            Self::Json => transcode::from_json(bytes),
            Self::Protobuf => transcode::from_protobuf(bytes),
        }
    }

    /// Writes a message in this form.
    pub(crate) fn write<M: Message + Name>(self, message: &M) -> Vec<u8> {
        match self {
            Self::Json => transcode::to_json(message),
            Self::Protobuf => message.encode_to_vec(),
        }
    }
}

/// True for a range that is not acceptable at all: `q=0`.
pub(super) fn refuses(range: &str) -> bool {
    let quality = range.split(';').skip(1).find_map(|part| part.trim().strip_prefix("q="));
    quality.and_then(|quality| quality.parse::<f32>().ok()).is_some_and(|quality| quality <= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> Option<Media> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, value.parse().unwrap());
        Media::asked(&headers)
    }

    #[test]
    fn json_is_preferred_when_both_will_do() {
        assert_eq!(accept("application/x-protobuf, application/json"), Some(Media::Json));
        assert_eq!(accept("application/x-protobuf"), Some(Media::Protobuf));
        assert_eq!(accept("application/json;q=0, */*"), Some(Media::Json));
        assert_eq!(accept("text/html"), None);
        assert_eq!(Media::asked(&HeaderMap::new()), Some(Media::Json));
    }

    #[test]
    fn a_body_is_one_of_two_forms() {
        let mut headers = HeaderMap::new();
        assert_eq!(Media::of_body(&headers), Err(BadType::Absent));
        headers.insert(CONTENT_TYPE, "text/plain".parse().unwrap());
        assert_eq!(Media::of_body(&headers), Err(BadType::Unknown));
        headers.insert(CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
        assert_eq!(Media::of_body(&headers), Ok(Media::Json));
    }
}
