//! A gRPC client of a few lines, for tests that need to see how an answer comes.

use std::net::Ipv4Addr;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream, client};
use http::{HeaderMap, HeaderName, Request};
use prost::Message;
use tokio::net::TcpSocket;

/// What stands before a message: a flag, and its length.
const PREFIX_BYTES: usize = 5;
/// As Go's client, which grows its windows to this.
const WINDOW_BYTES: u32 = 16 << 20;

/// One connection to a node. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    send: SendRequest<Bytes>,
    authority: String,
    /// What stands in the head of each call besides what must.
    headers: HeaderMap,
}

impl Client {
    /// Connects. The connection lives as long as the runtime that this is called in.
    pub async fn connect(port: u16) -> Client {
        Client::connect_from(Ipv4Addr::LOCALHOST, port).await
    }

    /// The same from another address of this machine.
    pub async fn connect_from(address: Ipv4Addr, port: u16) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.expect("the node listens");
        stream.set_nodelay(true).unwrap();
        let mut builder = client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (send, connection) = builder.handshake(stream).await.expect("the node speaks HTTP/2");
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Client { send, authority: format!("127.0.0.1:{port}"), headers: HeaderMap::new() }
    }

    /// The same connection, for calls with one more header.
    pub fn with_header(&self, name: &'static str, value: &str) -> Client {
        let mut client = self.clone();
        client.headers.append(name, value.parse().expect("a header's value"));
        client
    }

    /// Sends a request and returns the reply as it comes.
    pub async fn begin(&self, path: &str, request: &impl Message) -> Result<Reply, String> {
        let (response, mut body) = self.start(path).await?;
        body.send_data(framed(request), true).map_err(|error| error.to_string())?;
        reply(response).await
    }

    /// Begins a call of many messages each way.
    pub async fn converse(&self, path: &str) -> Result<Conversation, String> {
        let (response, requests) = self.start(path).await?;
        Ok(Conversation { requests, messages: Messages::of(response) })
    }

    /// Sends a request and returns the messages of the reply as they come.
    pub async fn messages(&self, path: &str, request: &impl Message) -> Result<Messages, String> {
        let mut conversation = self.converse(path).await?;
        conversation.requests.send_data(framed(request), true).map_err(|error| error.to_string())?;
        Ok(conversation.messages)
    }

    async fn start(&self, path: &str) -> Result<(ResponseFuture, SendStream<Bytes>), String> {
        let head = Request::post(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let mut send = self.send.clone().ready().await.map_err(|error| error.to_string())?;
        let mut head = head.body(()).unwrap();
        head.headers_mut().extend(self.headers.clone());
        send.send_request(head, false).map_err(|error| error.to_string())
    }

    /// Sends a request and returns the whole reply, or the status with which the call failed.
    pub async fn call<R: Message + Default>(&self, path: &str, request: &impl Message) -> Result<R, String> {
        let mut reply = self.begin(path, request).await?;
        let mut bytes = BytesMut::new();
        while let Some(piece) = reply.next().await? {
            bytes.extend_from_slice(&piece);
        }
        let length = bytes.get(1..PREFIX_BYTES).ok_or("no message")?;
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        assert_eq!(bytes.len(), PREFIX_BYTES + length, "a message is as long as its prefix says");
        R::decode(&bytes[PREFIX_BYTES..]).map_err(|error| error.to_string())
    }
}

impl Client {
    /// Sends headers and bytes as they are, and returns what comes back until its end.
    pub async fn exchange(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Exchanged {
        let uri = format!("http://{}{path}", self.authority);
        let mut head = Request::builder().method(method).uri(uri).body(()).unwrap();
        for (name, value) in headers {
            head.headers_mut().append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let mut send = self.send.clone().ready().await.expect("the connection stands");
        let (response, mut sending) = send.send_request(head, false).expect("the connection stands");
        // A server may answer, and end the call, before all of it has come.
        let _ = sending.send_data(body, true);
        let response = response.await.expect("an answer");
        let (parts, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        while let Some(Ok(piece)) = body.data().await {
            body.flow_control().release_capacity(piece.len()).expect("no more than has come");
            bytes.extend_from_slice(&piece);
        }
        let trailers = body.trailers().await.ok().flatten();
        let header = |name: &str| Some(parts.headers.get(name)?.to_str().ok()?.to_owned());
        Exchanged {
            http: parts.status.as_u16(),
            status: status(&parts.headers).or_else(|| status(trailers.as_ref()?)).unwrap_or_default(),
            content_type: header("content-type").unwrap_or_default(),
            encoding: header("grpc-encoding").unwrap_or_default(),
            body: bytes,
        }
    }
}

fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

async fn reply(response: ResponseFuture) -> Result<Reply, String> {
    let (parts, body) = response.await.map_err(|error| error.to_string())?.into_parts();
    match status(&parts.headers) {
        Some(status) if !status.starts_with('0') => Err(status),
        _ => Ok(Reply { body }),
    }
}

/// A call of many messages each way.
pub struct Conversation {
    requests: SendStream<Bytes>,
    pub messages: Messages,
}

impl Conversation {
    pub fn send(&mut self, message: &impl Message) {
        self.requests.send_data(framed(message), false).expect("the call goes on");
    }

    /// Says that no more requests will come.
    pub fn finish(&mut self) {
        self.requests.send_data(Bytes::new(), true).expect("the call goes on");
    }
}

/// The messages of a reply, cut from its bytes.
pub struct Messages {
    /// etcd sends its headers with the first message.
    response: Option<ResponseFuture>,
    reply: Option<Reply>,
    pending: BytesMut,
}

impl Messages {
    fn of(response: ResponseFuture) -> Messages {
        Messages { response: Some(response), reply: None, pending: BytesMut::new() }
    }

    /// The next message; `None` at the end of a call that went well. Cancel-safe.
    pub async fn next<R: Message + Default>(&mut self) -> Result<Option<R>, String> {
        if let Some(response) = &mut self.response {
            let (parts, body) = response.await.map_err(|error| error.to_string())?.into_parts();
            self.response = None;
            if let Some(status) = status(&parts.headers).filter(|status| !status.starts_with('0')) {
                return Err(status);
            }
            self.reply = Some(Reply { body });
        }
        loop {
            if let Some(prefix) = self.pending.get(1..PREFIX_BYTES) {
                let length = u32::from_be_bytes(prefix.try_into().unwrap()) as usize;
                if self.pending.len() >= PREFIX_BYTES + length {
                    let message = self.pending.split_to(PREFIX_BYTES + length);
                    return R::decode(&message[PREFIX_BYTES..]).map(Some).map_err(|error| error.to_string());
                }
            }
            let Some(reply) = &mut self.reply else { return Err("the call has failed".into()) };
            match reply.next().await? {
                Some(bytes) => self.pending.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}

/// What has come back of one exchange.
#[derive(Debug)]
pub struct Exchanged {
    /// HTTP's status.
    pub http: u16,
    /// gRPC's, with its text.
    pub status: String,
    pub content_type: String,
    pub encoding: String,
    pub body: Vec<u8>,
}

/// A reply on its way.
pub struct Reply {
    body: RecvStream,
}

impl Reply {
    /// The next bytes, the prefix among them, and room for as many again. `None` at the end of a call that went well.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        match self.body.data().await {
            Some(Ok(bytes)) => {
                self.body.flow_control().release_capacity(bytes.len()).map_err(|error| error.to_string())?;
                Ok(Some(bytes))
            }
            Some(Err(error)) => Err(error.to_string()),
            None => match self.body.trailers().await {
                Ok(Some(trailers)) if status(&trailers).is_some_and(|status| status.starts_with('0')) => Ok(None),
                Ok(trailers) => Err(trailers.as_ref().and_then(status).unwrap_or_else(|| "no status".into())),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// How many bytes come until the end.
    pub async fn count(mut self) -> Result<usize, String> {
        let mut bytes = 0;
        while let Some(piece) = self.next().await? {
            bytes += piece.len();
        }
        Ok(bytes)
    }
}

fn status(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    text("grpc-status").map(|code| format!("{code} {}", text("grpc-message").unwrap_or_default()))
}
