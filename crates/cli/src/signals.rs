//! Signals of the process.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
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

/// From here on a signal ends the process no more, and this is told of each. Within a runtime alone.
pub(crate) fn tell_of_each(kind: SignalKind, told: Arc<Notify>) {
    match signal(kind) {
        Ok(mut signals) => drop(tokio::spawn(async move {
            while signals.recv().await.is_some() {
                told.notify_one();
            }
        })),
        Err(error) => warn!(%error, "cannot wait for a signal"),
    }
}
