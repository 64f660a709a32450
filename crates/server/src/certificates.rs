//! What this node shows to its clients: where it comes from, and when its time is up.
//!
//! Owns the certificate that a node makes for itself, and when an operator is told of an end. Must not know how a
//! connection is served.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use vlot_tls::make::{self, Ends, Order};
use vlot_tls::{Certificate, DisplayTime, KeyPairFiles, Server, ServerOptions};

use crate::config::{ClientTls, Config, OwnCertificate, Url};
use crate::serve::ServeError;

/// Where a node keeps the certificate that it makes for its clients, in its data directory; as in etcd.
const CLIENT_FIXTURES: &str = "fixtures/client";
/// How often the files are looked at where no handshake does so, and the time that is left.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const DAY: i64 = 86_400;

/// Loads what this node shows to its clients; `None` if it speaks in the clear.
///
/// # Errors
/// A file cannot be used.
pub(crate) fn client_server(config: &Config, data_dir: &Path) -> Result<Option<Server>, ServeError> {
    let Some(ClientTls { own, clients }) = &config.client_tls else { return Ok(None) };
    let own = match own {
        OwnCertificate::Files(files) => files.clone(),
        OwnCertificate::SelfSigned => self_signed(config, &data_dir.join(CLIENT_FIXTURES))?,
    };
    let options =
        ServerOptions { clients: clients.clone(), protocols: config.protocols.clone(), ..ServerOptions::new(own) };
    let server = Server::load(options).map_err(ServeError::TlsFile)?;
    // One that has expired is told with the others whose end has come.
    if let Some(warning) = server.warning().filter(|_| server.certificate().seconds_left() >= 0) {
        warn!("{warning}");
    }
    Ok(Some(server))
}

/// A certificate for all hosts at which clients may find this node.
fn self_signed(config: &Config, directory: &Path) -> Result<KeyPairFiles, ServeError> {
    let urls = config.listen.client.iter().chain(&config.listen.metrics).chain(&config.advertise_client);
    let mut hosts: Vec<String> = urls.map(|url: &Url| url.host.clone()).collect();
    hosts.sort();
    hosts.dedup();
    let order = Order { common_name: String::new(), hosts, ends: Ends::Both, days: config.self_signed_days };
    let files = make::kept_in(directory, &order).map_err(ServeError::SelfSigned)?;
    info!(cert = %files.cert.display(), "clients are shown a self-signed certificate");
    Ok(files)
}

/// Follows the files of what is shown, to clients or to peers, and warns in time before its end.
pub(crate) async fn watch_end(server: Server, shown_to: &'static str) {
    let mut told: Option<(Arc<str>, i64)> = None;
    loop {
        server.refresh().await;
        let certificate = server.certificate();
        let left = certificate.seconds_left();
        let told_left = told.as_ref().filter(|(serial, _)| **serial == *certificate.serial).map(|(_, left)| *left);
        if is_due(left, told_left) {
            warn_of_end(&server, shown_to, &certificate, left);
            told = Some((certificate.serial.into(), left));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn warn_of_end(server: &Server, shown_to: &str, certificate: &Certificate, left: i64) {
    let (file, until) = (server.files().cert.display(), DisplayTime(certificate.not_after));
    if let Some(expired) = server.warning().filter(|_| left < 0) {
        warn!("{expired}; it is shown to {shown_to} all the same, and a new one is used at once");
    } else {
        let days = left / DAY;
        warn!(%file, %until, days, "the certificate that is shown to {shown_to} expires soon; renew it in time");
    }
}

/// Whether the end of a certificate is to be told that is good for so many seconds more: 30 and 7 days before, and then
/// every day. `told` is how many there were when it was last told.
fn is_due(left: i64, told: Option<i64>) -> bool {
    match told {
        _ if left > 30 * DAY => false,
        None => true,
        Some(told) if left > 7 * DAY => told > 30 * DAY,
        Some(told) => told > 7 * DAY || told - left >= DAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_a_month_and_a_week_before_and_then_daily() {
        let rows = [
            (31 * DAY, None, false),
            (30 * DAY, None, true),
            (29 * DAY, Some(30 * DAY), false),
            (8 * DAY, Some(30 * DAY), false),
            (7 * DAY, Some(30 * DAY), true),
            (7 * DAY - 60, Some(7 * DAY), false),
            (6 * DAY, Some(7 * DAY), true),
            (3, None, true),
            (-1, Some(3), false),
            (-DAY, Some(3), true),
            (-9 * DAY, None, true),
        ];
        for (left, told, expected) in rows {
            assert_eq!(is_due(left, told), expected, "{left} {told:?}");
        }
    }
}
