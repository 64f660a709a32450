//! A lease of one's own that is renewed while its owner lives: what locks and elections are held by.

use tokio::sync::oneshot;
use vlot_proto::etcdserverpb::{LeaseGrantRequest, LeaseGrantResponse};

use super::renewal::Renewal;
use crate::client::{Repeat, path};
use crate::ctl::Exit;
use crate::ctl::flags::Settings;

/// A lease that is renewed until it is over.
pub struct Session {
    pub lease: i64,
    over: oneshot::Receiver<()>,
}

impl Session {
    /// Gets a lease of so many seconds, and renews it from now on.
    ///
    /// # Errors
    /// If it is not granted.
    pub async fn begin(settings: &Settings, ttl: i64) -> Result<Session, Exit> {
        let request = LeaseGrantRequest { ttl, id: 0 };
        let granted: LeaseGrantResponse = settings.call(path::LEASE_GRANT, &request, Repeat::IfUnsent).await?;
        let mut renewal = Renewal::new(settings.client(), granted.id);
        let (sender, over) = oneshot::channel();
        tokio::task::spawn_local(async move {
            while renewal.next().await.is_ok() {}
            // The receiver may be gone.
            let _ = sender.send(());
        });
        Ok(Session { lease: granted.id, over })
    }

    /// Waits until the lease is over. May be dropped and called again until it returns.
    pub async fn over(&mut self) {
        // An error means that the task is gone, and with it what kept the lease.
        let _ = (&mut self.over).await;
    }
}
