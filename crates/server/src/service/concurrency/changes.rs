//! What changes in some keys, for a service that waits for it.
//!
//! Owns one watch of the server's own. Must not know why something is waited for.

use std::sync::Arc;

use prost::Message;
use tokio::sync::Notify;
use vlot_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use vlot_proto::mvccpb::Event;
use vlot_store::watch::{CancelReason, Next, WatchOut, WatchStream};

use crate::service::{Caller, Services};
use crate::status::Status;

/// How many bytes of events are taken at a time.
const DRAIN_BYTES: usize = 64 * 1024;

/// The changes of some keys, from a revision on.
pub(in crate::service) struct Changes<'s> {
    services: &'s Services,
    /// None while it is caught up.
    stream: Option<WatchStream>,
    woken: Arc<Notify>,
}

/// Some events of one revision, or of several.
pub(in crate::service) struct Changed {
    pub(in crate::service) revision: i64,
    pub(in crate::service) events: Vec<Event>,
}

impl Services {
    /// Watches as a client would.
    pub(in crate::service) async fn changes(
        &self,
        caller: &Caller,
        create: &WatchCreateRequest,
    ) -> Result<Changes<'_>, Status> {
        let woken = Arc::new(Notify::new());
        let wake = woken.clone();
        let mut stream = self.store_group.look(|store| store.watch_stream(Arc::new(move || wake.notify_one()))).await?;
        let caller = caller.renewed(&self.store_group.auth())?;
        stream.create_for(caller.identity.as_ref(), create);
        Ok(Changes { services: self, stream: Some(stream), woken })
    }
}

impl Changes<'_> {
    /// Waits for the next. `None` if history that it needs was given up: the caller looks anew.
    pub(in crate::service) async fn next(&mut self) -> Result<Option<Changed>, Status> {
        loop {
            // It is none only if an earlier call failed or was dropped.
            let Some(mut stream) = self.stream.take() else { return Ok(None) };
            let drained = stream.drain(DRAIN_BYTES);
            self.stream = Some(stream);
            if let Some(said) = said_by(drained.outs)? {
                return Ok(said);
            }
            match drained.next {
                Next::Drain => {}
                Next::Wait => self.woken.notified().await,
                Next::CatchUp => {
                    let turn = self.services.catch_ups.turn().await;
                    let Some(stream) = self.stream.take() else { return Ok(None) };
                    let (stream, caught_up) = self.services.catch_up(stream, turn).await?;
                    self.stream = Some(stream);
                    if let Some(said) = said_by(caught_up.outs)? {
                        return Ok(said);
                    }
                }
            }
        }
    }
}

/// What a watch has said, if it has said something: changes, or that it has ended.
fn said_by(outs: Vec<WatchOut>) -> Result<Option<Option<Changed>>, Status> {
    let mut changed: Option<Changed> = None;
    for out in outs {
        match out {
            WatchOut::Events { revision, events, .. } => {
                let all = changed.get_or_insert_with(|| Changed { revision, events: Vec::new() });
                all.revision = revision;
                for event in events {
                    // What the store has encoded it can decode.
                    let decoded = WatchResponse::decode(event).map_err(|error| Status::malformed(&error))?;
                    all.events.extend(decoded.events);
                }
            }
            WatchOut::Canceled { reason: CancelReason::Compacted { .. }, .. } => return Ok(Some(changed)),
            WatchOut::Canceled { reason: CancelReason::Refused(refusal), .. }
            | WatchOut::NotCreated { reason: CancelReason::Refused(refusal), .. } => return Err(refusal.into()),
            WatchOut::Canceled { .. } | WatchOut::NotCreated { .. } => return Err(Status::CANCELED),
            WatchOut::Created { .. } | WatchOut::Progress { .. } => {}
        }
    }
    Ok(changed.map(Some))
}
