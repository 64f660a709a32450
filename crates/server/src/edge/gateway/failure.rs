//! How a call's failure is told in HTTP and JSON.
//!
//! etcd 3.5 tells the text as `error` and `message`, etcd 3.6 as `message` alone; of streams, each has fields of its own.
//! Clients of both are served: every field is there.

use http::StatusCode;

use crate::json::push_string;
use crate::status::{Code, Status};

/// Adds `{"error":"...","code":N,"message":"..."}`.
pub(super) fn push_error(out: &mut Vec<u8>, status: &Status) {
    out.extend_from_slice(b"{\"error\":");
    push_string(out, &status.message);
    out.extend_from_slice(format!(",\"code\":{},\"message\":", status.code as u16).as_bytes());
    push_string(out, &status.message);
    out.push(b'}');
}

/// Adds the line that ends a stream.
pub(super) fn push_stream_error(out: &mut Vec<u8>, status: &Status) {
    let (code, http) = (status.code as u16, http_status(status.code));
    out.extend_from_slice(
        format!("{{\"error\":{{\"grpc_code\":{code},\"http_code\":{},\"message\":", http.as_u16()).as_bytes(),
    );
    push_string(out, &status.message);
    out.extend_from_slice(b",\"http_status\":");
    push_string(out, http.canonical_reason().unwrap_or_default());
    out.extend_from_slice(format!(",\"code\":{code}}}}}\n").as_bytes());
}

/// The HTTP status of a gRPC code, as all of gRPC's gateways have it.
pub(super) fn http_status(code: Code) -> StatusCode {
    match code as u16 {
        0 => StatusCode::OK,
        // The client has closed the request; it has no name.
        1 => StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
        3 | 9 | 11 => StatusCode::BAD_REQUEST,
        4 => StatusCode::GATEWAY_TIMEOUT,
        5 => StatusCode::NOT_FOUND,
        6 | 10 => StatusCode::CONFLICT,
        7 => StatusCode::FORBIDDEN,
        8 => StatusCode::TOO_MANY_REQUESTS,
        12 => StatusCode::NOT_IMPLEMENTED,
        14 => StatusCode::SERVICE_UNAVAILABLE,
        16 => StatusCode::UNAUTHORIZED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_the_fields_of_all_versions() {
        let mut out = Vec::new();
        push_error(&mut out, &Status::new(Code::NotFound, "no \"such\" thing"));
        let expected = r#"{"error":"no \"such\" thing","code":5,"message":"no \"such\" thing"}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        push_stream_error(&mut out, &Status::NO_LEADER);
        let expected = "{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"etcdserver: no leader\",\
                        \"http_status\":\"Service Unavailable\",\"code\":14}}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn codes_have_the_http_statuses_of_gateways() {
        let rows = [
            (Code::Ok, 200),
            (Code::Canceled, 499),
            (Code::Unknown, 500),
            (Code::InvalidArgument, 400),
            (Code::DeadlineExceeded, 504),
            (Code::NotFound, 404),
            (Code::ResourceExhausted, 429),
            (Code::FailedPrecondition, 400),
            (Code::OutOfRange, 400),
            (Code::Unimplemented, 501),
            (Code::Internal, 500),
            (Code::Unavailable, 503),
        ];
        for (code, expected) in rows {
            assert_eq!(http_status(code).as_u16(), expected, "{code:?}");
        }
    }
}
