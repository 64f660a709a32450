//! `grpc.health.v1.Health`: whether the server answers at all, as load balancers ask it.

use bytes::Bytes;
use vlot_proto::health::health_check_response::ServingStatus;
use vlot_proto::health::{HealthCheckRequest, HealthCheckResponse};

use super::{decode, encode};
use crate::conversation::{Batch, Replies, Requests};
use crate::status::{Code, Status};

/// The server as a whole, which goes by the empty name, serves; it has no other name.
pub(super) fn check(request: Bytes) -> Result<Bytes, Status> {
    let request: HealthCheckRequest = decode(request)?;
    match request.service.as_str() {
        "" => Ok(reply(ServingStatus::Serving)),
        _ => Err(Status::new(Code::NotFound, "unknown service")),
    }
}

/// Tells the status once: it does not change while the server runs.
pub(super) async fn watch(mut requests: impl Requests, replies: Replies) -> Result<(), Status> {
    let request = requests.next().await?.ok_or(Status::NO_REQUEST)?;
    let request: HealthCheckRequest = decode(request)?;
    let status = if request.service.is_empty() { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
    replies.send(Batch::of(&reply(status))).await?;
    replies.closed().await;
    Ok(())
}

fn reply(status: ServingStatus) -> Bytes {
    encode(&HealthCheckResponse { status: status.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_serves_and_knows_no_other_name() {
        assert_eq!(check(Bytes::new()), Ok(reply(ServingStatus::Serving)));
        let other = encode(&HealthCheckRequest { service: "other".into() });
        assert_eq!(check(other).unwrap_err().code, Code::NotFound);
    }
}
