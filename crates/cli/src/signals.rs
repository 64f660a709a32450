//! Signals of the process.

use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;

/// Waits for a signal; for ever, if the system does not let it be waited for.
pub(crate) async fn received(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(error) => {
            warn!(%error, "cannot wait for a signal");
            std::future::pending().await
        }
    }
}
