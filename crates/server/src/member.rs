//! Who this node is: its member id, its cluster's id, the members beside it, and the mark that binds a data directory
//! to one of them.
//!
//! Owns how ids are computed: they must never change for the same addresses, or a node that starts again would be a
//! stranger to its own data.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::Member;
use vlot_store::command::Command;
use vlot_store::store::Store;

use crate::config::{Config, InitialCluster, Url};

/// The ids by which a node and its cluster are known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    pub(crate) cluster: u64,
    pub(crate) member: u64,
}

/// The members of a cluster, as its initial configuration names them.
#[derive(Debug)]
pub(crate) struct Membership {
    identity: Identity,
    members: Vec<InitialMember>,
    /// What this node tells the others about itself.
    own: Member,
}

/// One member of the initial configuration.
#[derive(Debug)]
pub(crate) struct InitialMember {
    pub(crate) id: u64,
    name: String,
    pub(crate) peer_urls: Vec<Url>,
}

impl Membership {
    /// The members of the initial cluster, ordered by id.
    pub(crate) fn of(config: &Config) -> Membership {
        let InitialCluster { members, token, .. } = &config.cluster;
        let mut members: Vec<_> = members
            .iter()
            .map(|(name, urls)| InitialMember {
                id: member_id(urls, token),
                name: name.clone(),
                peer_urls: urls.clone(),
            })
            .collect();
        members.sort_by_key(|member| member.id);
        let cluster = cluster_id(members.iter().map(|member| member.id), token);
        // The configuration was refused if this node was not in it.
        let own = members.iter().find(|member| member.name == config.name);
        let own = Member {
            id: own.map_or(0, |own| own.id),
            name: config.name.clone(),
            peer_ur_ls: own.map_or_else(Vec::new, |own| texts(&own.peer_urls)),
            client_ur_ls: texts(&config.advertise_client),
            is_learner: false,
        };
        Membership { identity: Identity { cluster, member: own.id }, members, own }
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn initial(&self) -> &[InitialMember] {
        &self.members
    }

    /// The members as clients see them: one that has not told about itself yet has no client URLs.
    pub(crate) fn list(&self, store: &Store) -> Vec<Member> {
        let published = |id| Member::decode(store.attribute(&attribute_name(id))?.clone()).ok();
        let listed = self.members.iter().map(|member| {
            let told = published(member.id).unwrap_or_default();
            let name = if told.name.is_empty() { member.name.clone() } else { told.name };
            let peer_ur_ls = texts(&member.peer_urls);
            Member { id: member.id, name, peer_ur_ls, client_ur_ls: told.client_ur_ls, is_learner: false }
        });
        listed.collect()
    }

    /// The command by which this node tells the others its name and client URLs, unless they know them.
    pub(crate) fn publication(&self, store: &Store) -> Option<Command> {
        let (name, value) = (attribute_name(self.own.id), Bytes::from(self.own.encode_to_vec()));
        let known = store.attribute(&name) == Some(&value);
        if known { None } else { Some(Command::SetAttribute { name, value }) }
    }
}

fn attribute_name(id: u64) -> Bytes {
    Bytes::from(format!("member/{id:016x}"))
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

/// A member's id: a hash of its peer URLs, in order, and the cluster's token. Its name is not part of it, so that a
/// member may be renamed.
fn member_id(peer_urls: &[Url], token: &str) -> u64 {
    let mut urls = texts(peer_urls);
    urls.sort();
    let mut hash = StableHash::new(b"vlot member 1");
    urls.iter().for_each(|url| hash.field(url.as_bytes()));
    hash.field(token.as_bytes());
    hash.id()
}

/// A cluster's id: a hash of its first members' ids, in order, and its token.
fn cluster_id(members: impl Iterator<Item = u64>, token: &str) -> u64 {
    let mut members: Vec<u64> = members.collect();
    members.sort_unstable();
    let mut hash = StableHash::new(b"vlot cluster 1");
    members.iter().for_each(|id| hash.field(&id.to_be_bytes()));
    hash.field(token.as_bytes());
    hash.id()
}

/// FNV-1a with 64 bits over fields that are preceded by their lengths, finished by the mixer of SplitMix64 so that
/// ids of neighbouring addresses do not look alike.
struct StableHash(u64);

impl StableHash {
    fn new(purpose: &[u8]) -> StableHash {
        let mut hash = StableHash(0xcbf2_9ce4_8422_2325);
        hash.field(purpose);
        hash
    }

    fn field(&mut self, bytes: &[u8]) {
        for byte in (bytes.len() as u64).to_be_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Never zero, which stands for "none" in etcd's messages.
    fn id(&self) -> u64 {
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).max(1)
    }
}

/// A data directory that belongs to this process for as long as this value lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Whether the directory was marked by an earlier run.
    pub(crate) used: bool,
    _lock: File,
}

impl DataDir {
    /// Takes the directory, makes it if need be, and checks or writes its mark.
    ///
    /// # Errors
    /// One line that names the directory and says what to do.
    pub(crate) fn take(path: &Path, identity: Identity, existing: bool) -> Result<DataDir, String> {
        let shown = path.display();
        let unusable = |error: io::Error| {
            format!("cannot use the data directory {shown}: {error}; make it writable or choose another")
        };
        create_private(path).map_err(unusable)?;
        let lock = File::create(path.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!("the data directory {shown} is in use by another process; stop that one first"));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let used = check_mark(path, identity)?;
        if !used {
            if existing {
                return Err(format!(
                    "--initial-cluster-state=existing, but the data directory {shown} is empty: joining a running \
                     cluster is not supported; use the member's own data directory"
                ));
            }
            write_mark(path, identity).map_err(unusable)?;
        }
        Ok(DataDir { path: path.to_owned(), used, _lock: lock })
    }
}

/// Compares a directory's mark with who wants to use it. Returns whether there is one.
///
/// # Errors
/// One line: the directory is another member's, or cannot be read.
pub(crate) fn check_mark(path: &Path, identity: Identity) -> Result<bool, String> {
    let shown = path.display();
    let found = match fs::read_to_string(path.join(MARK)) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("cannot read the data directory {shown}: {error}")),
    };
    if found == mark(identity) {
        return Ok(true);
    }
    let whose = match identity_in(&found) {
        Some(found) if found.cluster == identity.cluster => format!("member {:x}", found.member),
        Some(found) => format!("another cluster ({:x})", found.cluster),
        None => "a version that is not known here".to_owned(),
    };
    let Identity { cluster, member } = identity;
    Err(format!(
        "the data directory {shown} belongs to {whose}, this is member {member:x} of cluster {cluster:x}; use its own \
         flags, choose another directory, or remove it if its data is not needed"
    ))
}

/// The file that says whose a data directory is.
const MARK: &str = "member";

fn mark(Identity { cluster, member }: Identity) -> String {
    format!("vlot 1\ncluster {cluster:016x}\nmember {member:016x}\n")
}

fn identity_in(mark: &str) -> Option<Identity> {
    let mut lines = mark.lines();
    let mut number = |name| u64::from_str_radix(lines.next()?.strip_prefix(name)?, 16).ok();
    number("vlot ")?;
    Some(Identity { cluster: number("cluster ")?, member: number("member ")? })
}

/// Writes the mark so that a crash leaves all of it or nothing.
fn write_mark(path: &Path, identity: Identity) -> io::Result<()> {
    let unfinished = path.join("member.new");
    let mut file = File::create(&unfinished)?;
    file.write_all(mark(identity).as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path.join(MARK))?;
    File::open(path)?.sync_all()
}

/// Makes a directory that only its owner may look into.
fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(list: &str) -> Vec<Url> {
        Url::parse_list(list).unwrap()
    }

    #[test]
    fn ids_never_change() {
        let member = member_id(&urls("http://localhost:2380"), "etcd-cluster");
        let cluster = cluster_id([member].into_iter(), "etcd-cluster");
        assert_eq!((member, cluster), (0xdc50_1636_4079_6788, 0xd309_f1a8_00c5_2610));
    }

    #[test]
    fn ids_depend_on_addresses_and_token_and_not_on_their_order() {
        let id = |list, token| member_id(&urls(list), token);
        assert_eq!(id("http://a:1,http://b:2", "t"), id("http://b:2,http://a:1", "t"));
        assert_ne!(id("http://a:1", "t"), id("http://a:2", "t"));
        assert_ne!(id("http://a:1", "t"), id("http://a:1", "u"));
        assert_eq!(cluster_id([1, 2].into_iter(), "t"), cluster_id([2, 1].into_iter(), "t"));
        assert_ne!(cluster_id([1, 2].into_iter(), "t"), cluster_id([1, 3].into_iter(), "t"));
    }

    #[test]
    fn a_data_directory_belongs_to_one_member() {
        let dir = std::env::temp_dir().join(format!("vlot-data-dir-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let identity = Identity { cluster: 0xc, member: 0xa };
        assert!(DataDir::take(&dir, identity, true).unwrap_err().contains("joining a running cluster"));
        let taken = DataDir::take(&dir, identity, false).unwrap();
        assert!(!taken.used);
        let busy = DataDir::take(&dir, identity, false).unwrap_err();
        assert!(busy.contains("in use by another process"), "{busy}");
        drop(taken);
        let taken = DataDir::take(&dir, identity, true).unwrap();
        assert!(taken.used);
        drop(taken);
        let rows = [
            (Identity { member: 0xb, ..identity }, "belongs to member a,"),
            (Identity { cluster: 0xd, ..identity }, "belongs to another cluster (c),"),
        ];
        for (other, expected) in rows {
            let line = DataDir::take(&dir, other, false).unwrap_err();
            assert!(line.contains(expected) && !line.contains('\n'), "{line}");
        }
        fs::write(dir.join(MARK), "vlot 2\nsomething else").unwrap();
        assert!(DataDir::take(&dir, identity, false).unwrap_err().contains("a version that is not known"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
