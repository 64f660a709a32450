//! Which pages of other origins may read what is answered: `--cors`.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue, ORIGIN,
};
use http::{HeaderMap, Response};

/// The origin that is named as allowed in the answer to a request with these headers, if there is one. `None` of `origins`
/// allows all.
pub(super) fn allowed(origins: Option<&[String]>, headers: &HeaderMap) -> Option<HeaderValue> {
    let Some(origins) = origins else { return Some(HeaderValue::from_static("*")) };
    let origin = headers.get(ORIGIN)?;
    origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// Lets pages of an origin read an answer.
pub(super) fn allow<B>(response: &mut Response<B>, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("accept, content-type, authorization"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_allowed_by_its_exact_name() {
        let origins = ["http://a.example:80".to_owned()];
        let from = |origin: &str| HeaderMap::from_iter([(ORIGIN, origin.parse().unwrap())]);
        assert_eq!(allowed(None, &HeaderMap::new()).unwrap(), "*");
        assert_eq!(allowed(Some(&origins), &HeaderMap::new()), None);
        assert_eq!(allowed(Some(&origins), &from("http://b.example:80")), None);
        assert_eq!(allowed(Some(&origins), &from("http://a.example:80")).unwrap(), "http://a.example:80");
    }
}
