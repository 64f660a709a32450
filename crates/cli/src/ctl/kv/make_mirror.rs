//! `vlot make-mirror`: copy keys to another cluster, and go on copying what changes.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
    WatchCreateRequest, WatchResponse,
};
use vlot_proto::mvccpb::event::EventType;

use super::keys::KeyRange;
use super::watcher::{Watcher, cancel_reason};
use crate::client::{Client, Endpoint, Options, Repeat, Security, path, security};
use crate::ctl::flags::{self, Settings, exit_of, is_set, number, number_of, switch, text, text_of, words, words_of};
use crate::ctl::{Exit, show};

/// Keys that are read at once.
const PAGE_KEYS: i64 = 1000;
/// How often the number of copied keys is printed.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// The command and its flags.
pub fn command() -> Command {
    Command::new("make-mirror").about("Makes a mirror at the destination etcd cluster").arg(words("DESTINATION")).args(
        [
            text("prefix", "", "Key-value prefix to mirror"),
            text("dest-prefix", "", "Destination prefix, to mirror a prefix to a different one"),
            switch("no-dest-prefix", "Mirror key-values to the root of the destination cluster"),
            number("rev", "Specify the kv revision to start to mirror"),
            number("max-txn-ops", "Maximum number of operations permitted in a transaction").default_value("128"),
            switch("dest-insecure-transport", "Speak in the clear where nothing says otherwise").default_value("true"),
            text("dest-cacert", "", "Verify certificates of the destination by the CAs in this file"),
            text("dest-cert", "", "Show the destination the certificate in this file"),
            text("dest-key", "", "Key of --dest-cert"),
            text("dest-user", "", "Who calls at the destination, as --user"),
            text("dest-password", "", "Password of --dest-user, which then is the name alone"),
        ],
    )
}

/// Copies until something fails.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let words = words_of(matches);
    let [destination] = words.as_slice() else {
        return Err(Exit::bad_args("make-mirror takes one destination argument"));
    };
    let (dest_prefix, no_dest_prefix) = (text_of(matches, "dest-prefix"), is_set(matches, "no-dest-prefix"));
    if no_dest_prefix && !dest_prefix.is_empty() {
        let flaw = "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one";
        return Err(Exit::bad_args(flaw));
    }
    let prefix = text_of(matches, "prefix");
    let rename = Rename {
        from_bytes: prefix.len(),
        to: if no_dest_prefix || !dest_prefix.is_empty() { dest_prefix } else { prefix }.to_owned(),
    };
    let copied = Rc::new(Cell::new(0));
    let mut mirror = Mirror {
        settings,
        source: settings.client(),
        destination: client_of_destination(settings, matches, destination).await?,
        range: KeyRange::with_prefix(Bytes::copy_from_slice(prefix.as_bytes())),
        rename,
        operations_max: usize::try_from(number_of(matches, "max-txn-ops")).unwrap_or(0).max(1),
        copied: copied.clone(),
    };
    tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(REPORT_EVERY).await;
            // A terminal that is gone needs no figures; the copying goes on.
            let _ = show(format!("{}\n", copied.get()).as_bytes());
        }
    });
    let mut revision = (number_of(matches, "rev") - 1).max(0);
    if revision == 0 {
        revision = mirror.copy_all().await?;
    }
    mirror.follow(revision + 1).await
}

async fn client_of_destination(settings: &Settings, matches: &ArgMatches, destination: &Bytes) -> Result<Client, Exit> {
    let text = |name| text_of(matches, name).to_owned();
    let tls = security::Flags {
        cacert: text("dest-cacert"),
        cert: text("dest-cert"),
        key: text("dest-key"),
        insecure_transport: is_set(matches, "dest-insecure-transport"),
        ..security::Flags::default()
    };
    let security = Security::new(tls).map_err(Exit::bad_connection)?;
    let endpoint: Endpoint = String::from_utf8_lossy(destination).parse().map_err(Exit::bad_args)?;
    let (user, password) = (text_of(matches, "dest-user"), text_of(matches, "dest-password"));
    let credentials = flags::credentials(user.to_owned(), password.to_owned(), "Destination Password: ").await?;
    Ok(Client::new(vec![endpoint], Options { credentials, security, ..settings.options.clone() }))
}

/// What keys are called at the destination.
struct Rename {
    from_bytes: usize,
    to: String,
}

impl Rename {
    fn of(&self, key: &[u8]) -> Bytes {
        [self.to.as_bytes(), &key[self.from_bytes.min(key.len())..]].concat().into()
    }
}

struct Mirror<'s> {
    settings: &'s Settings,
    source: Client,
    destination: Client,
    range: KeyRange,
    rename: Rename,
    operations_max: usize,
    copied: Rc<Cell<u64>>,
}

impl Mirror<'_> {
    /// Copies what there is, page by page, all of the same revision; returns that.
    async fn copy_all(&mut self) -> Result<i64, Exit> {
        let mut request = RangeRequest {
            key: self.range.key.clone(),
            range_end: self.range.end.clone(),
            limit: PAGE_KEYS,
            ..RangeRequest::default()
        };
        loop {
            let page: RangeResponse =
                self.settings.call_with(&mut self.source, path::RANGE, &request, Repeat::Freely).await?;
            if request.revision == 0 {
                request.revision = page.header.map_or(0, |header| header.revision);
            }
            for kv in &page.kvs {
                let put = PutRequest { key: self.rename.of(&kv.key), value: kv.value.clone(), ..PutRequest::default() };
                // The same value once more does no harm.
                let _: PutResponse =
                    self.settings.call_with(&mut self.destination, path::PUT, &put, Repeat::Freely).await?;
                self.count();
            }
            match page.kvs.last() {
                Some(last) if page.more => request.key = [&last.key[..], b"\0"].concat().into(),
                _ => return Ok(request.revision),
            }
        }
    }

    /// Copies what changes from this revision on.
    async fn follow(&mut self, revision: i64) -> Result<(), Exit> {
        let create = WatchCreateRequest {
            key: self.range.key.clone(),
            range_end: self.range.end.clone(),
            start_revision: revision,
            ..WatchCreateRequest::default()
        };
        let mut watcher = Watcher::new(self.settings.client(), create);
        loop {
            let reply = watcher.next().await.map_err(|failure| exit_of(&failure))?;
            if reply.canceled {
                return Err(Exit::error(cancel_reason(&reply)));
            }
            self.copy_changes(&reply).await?;
        }
    }

    /// Applies what happened at the same revision as one, unless it is too much for that.
    async fn copy_changes(&mut self, reply: &WatchResponse) -> Result<(), Exit> {
        let mut operations = Vec::new();
        let mut last_revision = 0;
        for event in &reply.events {
            let Some(kv) = &event.kv else { continue };
            if operations.len() == self.operations_max || (last_revision != 0 && kv.mod_revision > last_revision) {
                self.apply(std::mem::take(&mut operations)).await?;
            }
            last_revision = kv.mod_revision;
            let key = self.rename.of(&kv.key);
            let request = match event.r#type() {
                EventType::Put => {
                    Request::RequestPut(PutRequest { key, value: kv.value.clone(), ..PutRequest::default() })
                }
                EventType::Delete => {
                    Request::RequestDeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() })
                }
            };
            operations.push(RequestOp { request: Some(request) });
            self.count();
        }
        if operations.is_empty() { Ok(()) } else { self.apply(operations).await }
    }

    async fn apply(&mut self, operations: Vec<RequestOp>) -> Result<(), Exit> {
        let request = TxnRequest { success: operations, ..TxnRequest::default() };
        // The same values once more do no harm: nothing else is sent until this is done.
        let _: TxnResponse =
            self.settings.call_with(&mut self.destination, path::TXN, &request, Repeat::Freely).await?;
        Ok(())
    }

    fn count(&self) {
        self.copied.set(self.copied.get() + 1);
    }
}
