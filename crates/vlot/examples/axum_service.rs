//! An HTTP service on three nodes: a journal to which clients add lines, each once, however often they have to ask.
//!
//! ```console
//! $ cargo run -p vlot --example axum_service -- 1 127.0.0.1:8001 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 data/1
//! $ curl -X POST 127.0.0.1:8001/sessions                       # 7
//! $ curl -X PUT 127.0.0.1:8001/calls/7-1 -d 'a line'           # 1: its place in the journal
//! $ curl 127.0.0.1:8002/calls/7-1                              # 1, from any node
//! $ curl 127.0.0.1:8003/journal
//! ```
//!
//! A client opens a session, numbers its calls from 1 on, and makes one at a time. The answers it must know:
//!
//! | answer | what became of the line | what to do |
//! |---|---|---|
//! | 200 | it is in the journal, at the place that is answered | |
//! | 503 with `Retry-After` | it is not, and this request will not bring it there | the same again, later |
//! | 504 with `Location` | that is not known | `PUT` the same again at any node, or `GET` its location: that settles it |
//! | 410 | it is not, and never will be | make a new call |
//! | 409 | the call was settled, or its session has ended | |

use std::collections::BTreeMap;
use std::{env, error::Error};

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, serve};
use tokio::net::TcpListener;
use vlot::net::Listen;
use vlot::{
    CallError, CallId, Context, Group, GroupId, Node, NodeId, Options, ProposeError, Resolved, SerdeState, Typed,
};

#[derive(Clone, Default, serde::Deserialize, serde::Serialize)]
struct Journal(Vec<String>);

impl SerdeState for Journal {
    type Command = String;
    /// The place of the line.
    type Reply = usize;

    fn apply(&mut self, _: &Context, line: String) -> usize {
        self.0.push(line);
        self.0.len()
    }
}

type Shared = State<Group<Typed<Journal>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [number, http, addresses, dir] = &env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("usage: axum_service NUMBER HTTP-ADDRESS ADDRESS,ADDRESS,... DIR".into());
    };
    let me = NodeId(number.parse()?);
    let peers: BTreeMap<_, _> = (1..).map(NodeId).zip(addresses.split(',').map(str::to_owned)).collect();
    let listen = Listen::At(peers.get(&me).ok_or("there is no address of this number")?.clone());
    let node = Node::open(Options { node: me, listen, peers: peers.clone(), ..Options::new(dir) }).await?;
    let journal = node.typed(GroupId(1), peers.into_keys(), Journal::default()).await?;
    let service = Router::new()
        .route("/sessions", post(open_session))
        .route("/calls/{id}", get(resolve).put(call))
        .route("/journal", get(read))
        .with_state(journal);
    serve(TcpListener::bind(http).await?, service).await?;
    Ok(())
}

async fn open_session(State(journal): Shared) -> Response {
    match journal.open_session().await {
        Ok(session) => session.to_string().into_response(),
        // A session that nobody knows the name of ends by itself.
        Err(why) => not_now(&why),
    }
}

async fn call(State(journal): Shared, Path(id): Path<String>, line: String) -> Response {
    let id: CallId = match id.parse() {
        Ok(id) => id,
        Err(bad) => return (StatusCode::BAD_REQUEST, format!("{bad}")).into_response(),
    };
    // One call at a time: those before it are settled.
    match journal.call_as(id, id.serial, line).await {
        Ok(place) => place.to_string().into_response(),
        Err(CallError::Refused(why)) => not_now(&why),
        Err(why @ CallError::Unknown(_)) => unknown(id, &why),
        Err(why @ CallError::GivenUp(_)) => (StatusCode::GONE, why.to_string()).into_response(),
        Err(why) => (StatusCode::CONFLICT, why.to_string()).into_response(),
    }
}

async fn resolve(State(journal): Shared, Path(id): Path<String>) -> Response {
    let id: CallId = match id.parse() {
        Ok(id) => id,
        Err(bad) => return (StatusCode::BAD_REQUEST, format!("{bad}")).into_response(),
    };
    match journal.resolve(id).await {
        Ok(Resolved::Applied(place)) => place.to_string().into_response(),
        Ok(Resolved::NotApplied) => {
            (StatusCode::GONE, format!("call {id} was not applied, and never will be")).into_response()
        }
        Ok(Resolved::Forgotten) => {
            (StatusCode::CONFLICT, format!("call {id} is settled, or its session has ended")).into_response()
        }
        Err(why @ (ProposeError::Unknown | ProposeError::Stopped)) => unknown(id, &why),
        Err(why) => not_now(&why),
    }
}

async fn read(State(journal): Shared) -> Response {
    match journal.read(|journal| journal.0.join("\n")).await {
        Ok(lines) => lines.into_response(),
        Err(why) => not_now(&why),
    }
}

/// It was not done: too much waits, say, or there is no leader at this moment.
fn not_now(why: &dyn Error) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], why.to_string()).into_response()
}

fn unknown(id: CallId, why: &dyn Error) -> Response {
    (StatusCode::GATEWAY_TIMEOUT, [(header::LOCATION, format!("/calls/{id}"))], why.to_string()).into_response()
}
