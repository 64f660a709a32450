//! TLS: until when the certificate is good, and how handshakes have ended.

use super::text::{Exposition, labels};
use crate::metrics::Handshakes;

/// From when on, and until when, a certificate is good, in seconds from 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

/// Without a certificate nothing is told.
pub(super) fn tls(certificate: Option<Validity>, handshakes: &Handshakes, text: &mut Exposition) {
    let Some(Validity { not_before, not_after }) = certificate else { return };
    let name = "vlot_tls_certificate_not_after_timestamp_seconds";
    let help = "Until when the certificate is good that is shown, in seconds from 1970.";
    text.gauges(name, help, [(labels(&[("shown_to", "clients")]), not_after)]);
    let name = "vlot_tls_certificate_not_before_timestamp_seconds";
    let help = "From when on the certificate is good that is shown, in seconds from 1970.";
    text.gauges(name, help, [(labels(&[("shown_to", "clients")]), not_before)]);
    text.counter("vlot_tls_handshakes_total", "TLS handshakes with clients that were done.", handshakes.successes());
    let failures = handshakes.failures().map(|(reason, count)| (labels(&[("reason", reason)]), count));
    text.counters("vlot_tls_handshake_failures_total", "TLS handshakes with clients that have failed.", failures);
}
