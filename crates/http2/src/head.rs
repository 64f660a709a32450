//! The head of a request: its fields, and the rules that they must keep (RFC 9113 §8.2, §8.3).
//!
//! Owns the text of one request's fields at a time, in one buffer that is used again. Must not know how they were compressed.

use crate::hpack::ENTRY_OVERHEAD;

/// So many times the size that fields may have are far too many: their sender knows the limit.
const FAR: usize = 16;

/// What a field is to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Method,
    Scheme,
    Path,
    Authority,
    ContentLength,
    Regular,
    /// One that no request may have.
    Forbidden,
}

impl Kind {
    /// Of an entry of the static table, by its number.
    pub(crate) fn of_static(index: usize) -> Kind {
        match index {
            1 => Kind::Authority,
            2 | 3 => Kind::Method,
            4 | 5 => Kind::Path,
            6 | 7 => Kind::Scheme,
            // A status, an empty length, or how an HTTP/1 message is framed.
            8..=14 | 28 | 57 => Kind::Forbidden,
            _ => Kind::Regular,
        }
    }

    pub(crate) fn of(name: &[u8], value: &[u8]) -> Kind {
        // A value is anything but what ends one in HTTP/1 (RFC 9113 §8.2.1).
        if value.iter().any(|byte| matches!(byte, b'\0' | b'\r' | b'\n')) {
            return Kind::Forbidden;
        }
        match name {
            b":method" => Kind::Method,
            b":scheme" => Kind::Scheme,
            b":path" => Kind::Path,
            b":authority" => Kind::Authority,
            b"content-length" => Kind::ContentLength,
            // RFC 9113 §8.2.2: what HTTP/1 says of a connection.
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => Kind::Forbidden,
            b"te" if value != b"trailers" => Kind::Forbidden,
            b"" => Kind::Forbidden,
            _ if name.iter().all(|byte| IN_NAMES[usize::from(*byte)]) => Kind::Regular,
            _ => Kind::Forbidden,
        }
    }
}

/// Which bytes names have: those of a token, without capital letters (RFC 9113 §8.2.1, RFC 9110 §5.6.2).
const IN_NAMES: [bool; 256] = {
    let mut allowed = [false; 256];
    let tokens = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";
    let mut at = 0;
    while at < tokens.len() {
        allowed[tokens[at] as usize] = true;
        at += 1;
    }
    allowed
};

/// The fields of one header block.
#[derive(Debug)]
pub(crate) struct Fields {
    /// Names and values, one behind the other.
    pub(crate) text: Vec<u8>,
    regular: Vec<Field>,
    method: Option<Span>,
    scheme: Option<Span>,
    path: Option<Span>,
    authority: Option<Span>,
    content_length: Option<u64>,
    fault: Option<&'static str>,
    /// As fields count (RFC 9113 §10.5.1).
    bytes: usize,
    bytes_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    start: usize,
    name_end: usize,
    end: usize,
}

impl Fields {
    pub(crate) fn new(bytes_max: usize) -> Fields {
        Fields {
            text: Vec::new(),
            regular: Vec::new(),
            method: None,
            scheme: None,
            path: None,
            authority: None,
            content_length: None,
            fault: None,
            bytes: 0,
            bytes_max,
        }
    }

    /// Forgets those of the block before.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.regular.clear();
        (self.method, self.scheme, self.path, self.authority) = (None, None, None, None);
        (self.content_length, self.fault, self.bytes) = (None, None, 0);
    }

    /// Gives back memory that a usual request does not need.
    pub(crate) fn shrink(&mut self) {
        const USUAL_BYTES: usize = 1024;
        const USUAL_FIELDS: usize = 32;
        self.clear();
        self.text.shrink_to(USUAL_BYTES);
        self.regular.shrink_to(USUAL_FIELDS);
    }

    /// Adds a field.
    pub(crate) fn push(&mut self, kind: Kind, name: &[u8], value: &[u8]) {
        let start = self.text.len();
        if self.bytes <= self.bytes_max {
            self.text.extend_from_slice(name);
            self.text.extend_from_slice(value);
            self.commit(kind, start, start + name.len());
        } else {
            self.bytes += name.len() + value.len() + ENTRY_OVERHEAD;
        }
    }

    /// Adds the field that stands at the end of the text, from `start`.
    pub(crate) fn commit(&mut self, kind: Kind, start: usize, name_end: usize) {
        let end = self.text.len();
        self.bytes += end - start + ENTRY_OVERHEAD;
        if self.bytes > self.bytes_max {
            self.text.truncate(start);
            return;
        }
        let value = Span { start: name_end, end };
        let place = match kind {
            Kind::Method => &mut self.method,
            Kind::Scheme => &mut self.scheme,
            Kind::Path => &mut self.path,
            Kind::Authority => &mut self.authority,
            Kind::ContentLength => return self.has_length(Field { start, name_end, end }),
            Kind::Regular => return self.regular.push(Field { start, name_end, end }),
            Kind::Forbidden => return self.is_wrong("a field that no request may have"),
        };
        let is_second = place.replace(value).is_some();
        if is_second || !self.regular.is_empty() {
            self.is_wrong("a pseudo-header field that comes twice, or behind other fields");
        }
    }

    fn has_length(&mut self, field: Field) {
        let value = &self.text[field.name_end..field.end];
        let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let length = digits.and_then(|digits| digits.parse().ok());
        if length.is_none() || self.content_length.is_some_and(|other| Some(other) != length) {
            self.is_wrong("a length that is no length, or two of them");
        }
        self.content_length = length;
        self.regular.push(field);
    }

    fn is_wrong(&mut self, rule: &'static str) {
        self.fault.get_or_insert(rule);
    }

    pub(crate) fn are_too_many(&self) -> bool {
        self.bytes > self.bytes_max
    }

    pub(crate) fn are_far_too_many(&self) -> bool {
        self.bytes > self.bytes_max.saturating_mul(FAR)
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Which rule the head of a request breaks, if it breaks one (RFC 9113 §8.3.1).
    pub(crate) fn fault_of_request(&self) -> Option<&'static str> {
        if self.fault.is_some() {
            return self.fault;
        }
        let Some(method) = self.method else { return Some("a request without a method") };
        if method.start == method.end {
            return Some("a request with an empty method");
        }
        // RFC 9113 §8.5: it has neither.
        if &self.text[method.start..method.end] == b"CONNECT" {
            let is_so = self.scheme.is_none() && self.path.is_none() && self.authority.is_some();
            return (!is_so).then_some("a request to connect that has a path");
        }
        match (self.scheme, self.path) {
            (None, _) => Some("a request without a scheme"),
            (_, None) => Some("a request without a path"),
            (_, Some(path)) if path.start == path.end => Some("a request with an empty path"),
            _ => None,
        }
    }

    /// Which rule trailers break, if they break one (RFC 9113 §8.1).
    pub(crate) fn fault_of_trailers(&self) -> Option<&'static str> {
        let has_pseudo = [self.method, self.scheme, self.path, self.authority].iter().any(Option::is_some);
        if has_pseudo { Some("trailers with pseudo-header fields") } else { self.fault }
    }

    pub(crate) fn head(&self) -> Head<'_> {
        Head { fields: self }
    }

    fn text_of(&self, span: Option<Span>) -> Option<&[u8]> {
        span.map(|span| &self.text[span.start..span.end])
    }
}

/// The head of a request. It is gone when the next frame is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Head<'c> {
    fields: &'c Fields,
}

impl<'c> Head<'c> {
    /// Its method, which is not empty.
    pub fn method(self) -> &'c [u8] {
        self.fields.text_of(self.fields.method).unwrap_or_default()
    }

    /// The path with its query; empty in a request to connect.
    pub fn path(self) -> &'c [u8] {
        self.fields.text_of(self.fields.path).unwrap_or_default()
    }

    /// The scheme; empty in a request to connect.
    pub fn scheme(self) -> &'c [u8] {
        self.fields.text_of(self.fields.scheme).unwrap_or_default()
    }

    /// What the client calls the server. It is any text, and may be none.
    pub fn authority(self) -> Option<&'c [u8]> {
        self.fields.text_of(self.fields.authority)
    }

    /// Names and values of the other fields, in their order.
    pub fn fields(self) -> impl ExactSizeIterator<Item = (&'c [u8], &'c [u8])> {
        let text = &self.fields.text;
        self.fields
            .regular
            .iter()
            .map(move |field| (&text[field.start..field.name_end], &text[field.name_end..field.end]))
    }

    /// The first value with this name.
    pub fn field(self, name: &str) -> Option<&'c [u8]> {
        self.fields().find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value)
    }
}
