//! TLS: until when the certificate is good, and how handshakes have ended.

use vlot_tls::Certificate;

use super::text::{Exposition, labels};
use crate::telemetry::metrics::Handshakes;

/// From when on, and until when, a certificate is good, in seconds from 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Validity {
    pub(super) fn of(certificate: &Certificate) -> Validity {
        Validity { not_before: certificate.not_before, not_after: certificate.not_after }
    }
}

/// How long certificates are good, by whom they are shown to.
pub(super) fn validity(shown: &[(&str, Validity)], text: &mut Exposition) {
    let rows =
        |of: fn(&Validity) -> i64| shown.iter().map(move |(to, validity)| (labels(&[("shown_to", to)]), of(validity)));
    let name = "vlot_tls_certificate_not_after_timestamp_seconds";
    let help = "Until when the certificate is good that is shown, in seconds from 1970.";
    text.gauges(name, help, rows(|validity| validity.not_after));
    let name = "vlot_tls_certificate_not_before_timestamp_seconds";
    let help = "From when on the certificate is good that is shown, in seconds from 1970.";
    text.gauges(name, help, rows(|validity| validity.not_before));
}

/// How handshakes with clients have ended.
pub(super) fn handshakes(handshakes: &Handshakes, text: &mut Exposition) {
    text.counter("vlot_tls_handshakes_total", "TLS handshakes with clients that were done.", handshakes.successes());
    let failures = handshakes.failures().map(|(reason, count)| (labels(&[("reason", reason)]), count));
    text.counters("vlot_tls_handshake_failures_total", "TLS handshakes with clients that have failed.", failures);
}
