//! `etcdserverpb.KV.RangeStream`: the answer to a range request as a stream of messages of a bounded size.
//!
//! Owns what such a stream refuses, and when each message is made: once the client has room for it. What stands in one is
//! the store's business.

use vlot_proto::etcdserverpb::RangeRequest;
use vlot_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use vlot_store::auth::Asked;
use vlot_store::check;
use vlot_store::chunks::RangeChunks;
use vlot_store::refusal::Refusal;

use super::{Caller, Services, decode};
use crate::conversation::{Batch, Replies, Requests};
use crate::status::{Code, Status};

impl Services {
    pub(super) async fn range_stream(
        &self,
        caller: Caller,
        mut requests: impl Requests,
        replies: Replies,
    ) -> Result<(), Status> {
        let request: RangeRequest = decode(requests.next().await?.ok_or(Status::NO_MESSAGE)?)?;
        check_streamed(&request)?;
        tokio::select! {
            sent = self.send_range(&caller, &request, &replies) => sent,
            () = self.leaderless(), if caller.requires_leader => Err(Status::NO_LEADER),
            () = replies.closed() => Err(Status::CANCELED),
        }
    }

    async fn send_range(&self, caller: &Caller, request: &RangeRequest, replies: &Replies) -> Result<(), Status> {
        if !request.serializable {
            self.store_group.barrier().await?;
        }
        self.store_group.look(|store| caller.may(store, Asked::Range(request))).await??;
        let mut chunks = RangeChunks::new(request, self.request_bytes_max);
        loop {
            // From a new view each time: a client that does not read must not hold the store's past in memory.
            let view = self.store_group.look(|store| {
                // What may be read by now: a client may take its time.
                caller.may_still(store, Asked::Range(request))?;
                Ok::<_, Refusal>(store.view())
            });
            let view = view.await??;
            let header = self.header(0);
            let made = self.readers.run(move || (chunks.next_message(&view, header), chunks)).await?;
            chunks = made.1;
            let Some(message) = made.0? else { return Ok(()) };
            replies.send(Batch::of(&message)).await?;
        }
    }
}

/// Refuses what cannot be answered key by key. Clients go on with the unary call.
fn check_streamed(request: &RangeRequest) -> Result<(), Status> {
    check::check_range(request)?;
    let by_key = request.sort_target == SortTarget::Key as i32 && request.sort_order == SortOrder::Ascend as i32;
    if request.sort_order != SortOrder::None as i32 && !by_key {
        return Err(Status::new(Code::Unimplemented, "RangeStream does not support custom sort orders"));
    }
    let filters =
        [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision];
    if filters != [0; 4] {
        return Err(Status::new(Code::Unimplemented, "RangeStream does not support revision filters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_orders_and_filters_are_refused_as_by_etcd() {
        let plain = || RangeRequest { key: "a".into(), range_end: "b".into(), ..RangeRequest::default() };
        let sorted = |sort_order, sort_target| RangeRequest { sort_order, sort_target, ..plain() };
        let allowed = [
            plain(),
            sorted(0, 4),
            sorted(1, 0),
            RangeRequest { limit: 3, revision: 7, serializable: true, keys_only: true, ..plain() },
            RangeRequest { count_only: true, ..plain() },
        ];
        for request in allowed {
            assert_eq!(check_streamed(&request), Ok(()), "{request:?}");
        }
        let order = "RangeStream does not support custom sort orders";
        let filter = "RangeStream does not support revision filters";
        let refused = [
            (RangeRequest::default(), Code::InvalidArgument, "etcdserver: key is not provided"),
            (sorted(9, 0), Code::InvalidArgument, "etcdserver: invalid sort option"),
            (sorted(2, 0), Code::Unimplemented, order),
            (sorted(1, 1), Code::Unimplemented, order),
            (sorted(2, 3), Code::Unimplemented, order),
            (RangeRequest { min_mod_revision: 1, ..plain() }, Code::Unimplemented, filter),
            (RangeRequest { max_mod_revision: 1, ..plain() }, Code::Unimplemented, filter),
            (RangeRequest { min_create_revision: 1, ..plain() }, Code::Unimplemented, filter),
            (RangeRequest { max_create_revision: -1, ..plain() }, Code::Unimplemented, filter),
        ];
        for (request, code, text) in refused {
            assert_eq!(check_streamed(&request), Err(Status::new(code, text)), "{request:?}");
        }
    }
}
