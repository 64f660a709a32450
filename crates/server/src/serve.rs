//! One node from start to stop: data directory, replica, listeners.
//!
//! Owns the order in which things begin and end. Must not know of signals, exit codes or where a log line goes.

mod error;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use vlot::net::Listen;
use vlot::tasks::{Runtime, Work};
use vlot::{GroupId, Node, NodeId};
use vlot_store::store::Store;
use vlot_tls::Server;

use crate::audit::Audit;
use crate::auth::Authenticator;
use crate::certificates;
use crate::config::{Config, LogKept, Url};
use crate::edge::{self, Edge, EdgeThreads, ListenError, Listener, Security, Serves};
use crate::files::data_dir::DataDir;
use crate::members::ask::PageClient;
use crate::members::identity::Identity;
use crate::members::join;
use crate::members::member::Membership;
use crate::members::peer_pages::PeerPages;
use crate::members::removal;
use crate::peer_certificates::Peers;
use crate::service::{Parts, Services};
use crate::store_group::{StoreFailure, StoreGroup};
use crate::store_machine::StoreMachine;
use crate::telemetry::metrics::Metrics;
use crate::upkeep::compaction;
use crate::upkeep::corruption;
use crate::upkeep::space;
pub use error::ServeError;

/// Serves as one node of a cluster until it is asked to stop, the node fails, or the cluster has removed it. `asked_to_stop`
/// says in its end why, for the log; `asked_to_reopen` is told when the file of the audit log is to be opened anew, and
/// `asked_to_dump` when the flight record is to be written.
///
/// # Errors
/// The node does not start, or cannot go on.
pub async fn serve(
    config: Config,
    asked_to_stop: impl Future<Output = &'static str>,
    asked_to_reopen: Arc<Notify>,
    asked_to_dump: Arc<Notify>,
) -> Result<(), ServeError> {
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    // Ports first: a second start of the same node by mistake must not touch the data.
    let sockets = listen(&config)?;
    let (authenticator, key_files) = Authenticator::open(&config.auth).map_err(ServeError::AuthToken)?;
    let mut data_dir = DataDir::take(&config.data_dir)?;
    let fresh = data_dir.mark.is_none();
    let tls = certificates::client_server(&config, &data_dir.path)?;
    let Peers { tls: peer_tls, page_client, shown: shown_to_peers } = Peers::load(&config, &data_dir.path)?;
    let audit = config.audit.as_ref().map(Audit::start).transpose();
    let audit = audit.map_err(|error| ServeError::Audit { path: audit_path(&config), error })?;
    let Start { membership, peers } = start(&config, &page_client, &mut data_dir).await?;
    let identity = membership.identity();
    let metrics = Arc::new(Metrics::new(config.extensive_metrics));
    let store = Store::open(&data_dir.path.join("store"), config.memory.store_options())
        .map_err(|error| ServeError::Store { data_dir: data_dir.path.clone(), error })?;
    let pages = PeerPages::default();
    let options = node_options(&config, identity, peers, &pages, &data_dir.path)?;
    let options = vlot::Options { tls: peer_tls, ..options };
    let node = Node::open(options).await.map_err(ServeError::Node)?;
    let (machine, told, compactions) = StoreMachine::new(store, metrics.clone(), config.slow_apply);
    let voters = membership.first_members().iter().map(|member| NodeId(member.id));
    let group = node.group(STORE, voters, machine).await;
    let group = group.map_err(|error| ServeError::Group { data_dir: data_dir.path.clone(), error })?;
    let (stop, stopping) = watch::channel(false);
    let threads = EdgeThreads::start(config.edge_threads, &stopping).map_err(ServeError::EdgeThread)?;
    let request_timeout = config.request_timeout();
    let store_group =
        StoreGroup::new(group, threads.runtimes(), identity.member, told, metrics.clone(), request_timeout);
    let store_group = Arc::new(store_group);
    let parts = Parts {
        store_group: store_group.clone(),
        membership: membership.clone(),
        metrics,
        meter: node.meter(),
        authenticator,
        audit: audit.clone(),
        page_client: page_client.clone(),
        tls: tls.clone(),
        tls_to_peers: shown_to_peers.clone(),
    };
    let services = Services::new(&config, parts);
    pages.open(services.clone());
    let edge = Edge::new(&config, services.clone(), stopping.clone());
    info!(
        name = config.name,
        member = format!("{:x}", identity.member),
        cluster = format!("{:x}", identity.cluster),
        members = store_group.members().iter().count(),
        data_dir = %data_dir.path.display(),
        fresh,
        "node started"
    );
    let mut background = JoinSet::new();
    background.spawn({
        let store_group = store_group.clone();
        async move { store_group.run_maintenance().await }
    });
    background.spawn(publish(store_group.clone(), membership.clone()));
    background.spawn({
        let services = services.clone();
        async move { services.hashes.keep_those_of(compactions).await }
    });
    background.spawn({
        let services = services.clone();
        async move { space::watch_quota(&services).await }
    });
    if let Some(files) = key_files {
        background.spawn(files.watch());
    }
    if let Some(audit) = audit.clone() {
        background.spawn(reopen(audit, asked_to_reopen));
    }
    let mut asked_to_stop = std::pin::pin!(asked_to_stop);
    if config.corruption_checks.at_start {
        let asked = tokio::select! {
            checked = corruption::check_at_start(&services) => checked.map_err(ServeError::Corrupt).map(|()| None),
            reason = &mut asked_to_stop => Ok(Some(reason)),
        };
        if let Some(reason) = asked? {
            info!(reason, "stopping before clients were served");
            background.shutdown().await;
            node.shutdown().await;
            return Ok(());
        }
    }
    background.spawn(async move { corruption::check_by(config.corruption_checks, &services).await });
    if let Some(rule) = config.auto_compaction {
        background.spawn(compaction::compact_by(rule, store_group.clone(), identity.member));
    }
    let mut edges = JoinSet::new();
    for listener in secured(sockets, tls.as_ref()) {
        edges.spawn(edge.clone().serve(listener, threads.placing()));
    }
    for (shown, to) in [(tls, "clients"), (shown_to_peers, "peers")] {
        if let Some(shown) = shown {
            background.spawn(certificates::watch_end(shown, to));
        }
    }
    for url in &config.listen.client {
        info!(%url, "serving clients");
    }
    let outcome = tokio::select! {
        reason = &mut asked_to_stop => {
            info!(reason, "stopping");
            Ok(())
        }
        failure = failed(&store_group) => {
            error!(%failure, "stopping: the store has failed");
            Err(ServeError::StoreFailed(failure))
        }
        failure = node.failed() => {
            error!(%failure, "stopping: the node cannot go on");
            Err(ServeError::NodeFailed(failure))
        }
        never = dump_when_asked(&node, &asked_to_dump) => match never {},
        () = removed(&config, &page_client, &store_group, &membership) => {
            data_dir.mark_removed()?;
            Err(ServeError::Removed { identity, data_dir: data_dir.path.clone() })
        }
    };
    stop.send_replace(true);
    while edges.join_next().await.is_some() {}
    threads.ended().await;
    background.shutdown().await;
    node.shutdown().await;
    if let Some(audit) = audit {
        audit.flush();
    }
    info!("stopped");
    outcome
}

/// Writes the flight record each time it is asked for.
async fn dump_when_asked(node: &Node, asked: &Notify) -> Infallible {
    loop {
        asked.notified().await;
        match node.dump_flight().await {
            Ok(path) => info!(path = %path.display(), "wrote the flight record, as asked"),
            Err(error) => warn!(%error, "did not write the flight record"),
        }
    }
}

async fn reopen(audit: Arc<Audit>, asked: Arc<Notify>) {
    loop {
        asked.notified().await;
        info!("the audit log's file is opened anew");
        audit.reopen();
    }
}

impl Config {
    /// Whether there is a file that [`serve`] opens anew when it is asked to.
    pub fn has_audit_file(&self) -> bool {
        self.audit.as_ref().is_some_and(|audit| audit.path.is_some())
    }
}

fn audit_path(config: &Config) -> PathBuf {
    config.audit.as_ref().and_then(|audit| audit.path.clone()).unwrap_or_else(|| "standard error".into())
}

/// As what a node starts.
struct Start {
    membership: Arc<Membership>,
    /// Where the others are, as far as its log may not know it.
    peers: BTreeMap<NodeId, String>,
}

/// Finds out which node this is, and binds the data directory to it: the one that the directory belongs to already, one
/// of a cluster's first members, or one that was added to a cluster that runs.
async fn start(config: &Config, page_client: &PageClient, data_dir: &mut DataDir) -> Result<Start, ServeError> {
    let (identity, joined, others) = match &data_dir.mark {
        Some(mark) if data_dir.was_removed() => {
            return Err(ServeError::Removed { identity: mark.identity, data_dir: data_dir.path.clone() });
        }
        Some(mark) => (mark.identity, mark.joined, Vec::new()),
        None if config.cluster.existing => {
            let place = join::find_place(config, page_client).await?;
            (place.identity, true, place.others)
        }
        None => {
            let membership = Membership::first(config);
            join::refuse_second_beginning(config, page_client, &membership).await?;
            (membership.identity(), false, Vec::new())
        }
    };
    data_dir.bind(config, identity, joined)?;
    let membership = Membership::of(config, identity);
    let first = membership.first_members().iter();
    let first = first.filter_map(|member| Some((NodeId(member.id), member.peer_urls.first()?.peer_address())));
    let peers = first.chain(others.into_iter().map(|(id, address)| (NodeId(id), address))).collect();
    Ok(Start { membership: Arc::new(membership), peers })
}

/// The group that holds the store; the only one there is.
pub(crate) const STORE: GroupId = GroupId(1);
/// How long a node serves on that was removed: the client that has asked for it here is to be told.
const FAREWELL: Duration = Duration::from_secs(1);

/// Waits until this node is no member any more, and a little longer.
async fn removed(config: &Config, page_client: &PageClient, store_group: &StoreGroup, membership: &Membership) {
    tokio::select! {
        () = store_group.removed() => {}
        () = removal::ask_whether_removed(config, page_client, store_group, membership) => {}
    }
    warn!("this member was removed from its cluster");
    tokio::time::sleep(FAREWELL).await;
}

fn node_options(
    config: &Config,
    identity: Identity,
    peers: BTreeMap<NodeId, String>,
    pages: &PeerPages,
    data_dir: &Path,
) -> Result<vlot::Options, ServeError> {
    let listen = match config.listen.peer.as_slice() {
        [url] => url.bind_address().ok_or_else(|| ServeError::PeerAddress(url.clone()))?,
        urls => return Err(ServeError::PeerUrls(urls.len())),
    };
    let own = config.cluster.members.iter().find(|(name, _)| *name == config.name);
    let LogKept { snapshot_count, catch_up } = config.log_kept;
    let mut options = vlot::Options {
        cluster: identity.cluster,
        node: NodeId(identity.member),
        listen: Listen::At(listen.to_string()),
        advertise: own.and_then(|(_, urls)| Some(urls.first()?.peer_address())),
        peers,
        pages: Some(pages.pages()),
        heartbeat: config.heartbeat,
        // There is one group, and clients watch its leader's signs of life.
        sleep_after: None,
        election_timeout: config.election_timeout,
        headroom_bytes: HEADROOM_BYTES,
        share_entries: config.share_entries,
        retention: vlot::retention::Limits { entries: snapshot_count, entries_kept: catch_up, ..Default::default() },
        group: vlot::group::Limits { timeout: config.request_timeout(), ..Default::default() },
        runtime: Some(Arc::new(NamedThreads(Handle::current()))),
        recorder: Some(vlot::recorder::Limits { label: config.name.clone(), ..Default::default() }),
        ..vlot::Options::new(data_dir.join("log"))
    };
    config.memory.narrow(&mut options);
    Ok(options)
}

/// The runtime that the node is served on, with threads whose names say whose they are.
#[derive(Debug)]
struct NamedThreads(Handle);

impl Runtime for NamedThreads {
    fn tasks(&self) -> Handle {
        self.0.clone()
    }

    fn spawn_thread(&self, name: &str, work: Work) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name(format!("vlot-{name}")).spawn(work)
    }
}

/// How much of the data directory's file system must be free for the log to take entries: the store writes down there
/// what the log has decided, and its file cannot be written to any more once that has failed.
const HEADROOM_BYTES: u64 = 64 << 20;

/// A socket, and what is spoken on it: a port may have an URL of each scheme.
struct Socket {
    socket: tokio::net::TcpListener,
    serves: Serves,
    in_the_clear: bool,
    by_tls: bool,
}

fn listen(config: &Config) -> Result<Vec<Socket>, ListenError> {
    let listen = &config.listen;
    let clients = if listen.client_http.is_empty() { Serves::GrpcAndHttp } else { Serves::Grpc };
    let all = [(&listen.client, clients), (&listen.client_http, Serves::Http), (&listen.metrics, Serves::Metrics)];
    let mut sockets = Vec::new();
    for (urls, serves) in all {
        let mut schemes: BTreeMap<_, (&Url, [bool; 2])> = BTreeMap::new();
        for url in urls {
            let (_, has) = schemes.entry(url.bind_address()).or_insert((url, [false; 2]));
            has[usize::from(url.is_tls)] = true;
        }
        for (url, [in_the_clear, by_tls]) in schemes.into_values() {
            let socket = edge::listen(url, listen.reuse_port, listen.reuse_address)?;
            sockets.push(Socket { socket, serves, in_the_clear, by_tls });
        }
    }
    Ok(sockets)
}

/// Each socket with what is spoken on it. Where an URL is https there is a certificate: the configuration was refused
/// otherwise.
fn secured(sockets: Vec<Socket>, tls: Option<&Server>) -> impl Iterator<Item = Listener> {
    sockets.into_iter().map(move |Socket { socket, serves, in_the_clear, by_tls }| {
        let security = match tls.filter(|_| by_tls) {
            None => Security::Clear,
            Some(server) if in_the_clear => Security::Both(server.clone()),
            Some(server) => Security::Tls(server.clone()),
        };
        Listener { socket, serves, security }
    })
}

/// Tells the other members the name of a witness. It applies nothing, so it never learns whether it was told: a few times are
/// enough where a leader is known.
async fn publish_witness(store_group: &StoreGroup, membership: &Membership) {
    for _ in 0..WITNESS_PUBLICATIONS {
        drop(store_group.propose_own(membership.publication_of_witness()).await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// How often a witness tells its name.
const WITNESS_PUBLICATIONS: u32 = 3;

/// Tells the other members this node's name and client URLs, as soon as the cluster can agree on it.
async fn publish(store_group: Arc<StoreGroup>, membership: Arc<Membership>) {
    loop {
        let current = tokio::select! {
            current = store_group.barrier() => current,
            () = store_group.becomes_witness() => return publish_witness(&store_group, &membership).await,
        };
        let publication = membership.publication(&store_group.facts());
        match (current, publication) {
            (Ok(()), None) => return,
            // Comes round again to see it in the store.
            (Ok(()), Some(command)) => drop(store_group.propose_own(command).await),
            (Err(_), _) => {}
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Returns why the store can write nothing more, once that is so.
async fn failed(store_group: &StoreGroup) -> StoreFailure {
    loop {
        if let Some(failure) = store_group.failure().await {
            return failure;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
