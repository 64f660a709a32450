//! A data directory whose member goes on alone, as the first of a new cluster, after its cluster has lost its quorum for good.
//!
//! Owns the order of the two steps, the log and the mark, and that a command which was killed between them can be given
//! again: the new cluster's id follows from the old one's and the member's.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use vlot::inspect::OpenError;
use vlot::{GroupFound, LogOwner, NodeId, RecoverError, Recovered, Recovery, recover_from_lost_quorum};
use vlot_proto::etcdserverpb::Member;

use crate::config::Url;
use crate::files::data_dir::{DataDir, DataDirError};
use crate::members::identity::{Identity, recovered_cluster_id};

/// A member that goes on alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberRecovered {
    /// The new cluster's id.
    pub cluster: u64,
    /// The member's, as it was.
    pub member: u64,
    /// What its log had; nothing if an earlier command had done that part.
    pub found: Vec<GroupFound>,
    /// Where the log of before is.
    pub replaced: PathBuf,
}

/// Why a member does not go on alone. Its directory is as it was, unless it says otherwise.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are what the variants name")]
pub enum MemberRecoverError {
    DataDir(DataDirError),
    /// It was never used, or there is none.
    Unused {
        path: PathBuf,
    },
    /// Its member was removed.
    Removed {
        path: PathBuf,
    },
    /// Its mark does not tell where the member listens: it is of an early version.
    NoPeerUrls {
        path: PathBuf,
    },
    /// The log.
    Log(RecoverError),
}

/// Makes the member whose data is in `path` the only one of a new cluster. Its keys, with their history and leases, are as it
/// had them; other members are added anew, from empty directories. What `confirmed` means is said at
/// [`Recovery::i_know_that_acknowledged_writes_may_be_lost`].
///
/// # Errors
/// See [`MemberRecoverError`].
pub fn recover_member(path: &Path, confirmed: bool) -> Result<MemberRecovered, MemberRecoverError> {
    if !path.is_dir() {
        return Err(MemberRecoverError::Unused { path: path.to_owned() });
    }
    let mut data_dir = DataDir::take(path).map_err(MemberRecoverError::DataDir)?;
    let Some(mark) = &data_dir.mark else { return Err(MemberRecoverError::Unused { path: path.to_owned() }) };
    if data_dir.was_removed() {
        return Err(MemberRecoverError::Removed { path: path.to_owned() });
    }
    let urls = mark.peer_urls();
    let address = urls.first().and_then(|url| Url::parse(url).ok()).map(|url| url.peer_address());
    let address = address.ok_or_else(|| MemberRecoverError::NoPeerUrls { path: path.to_owned() })?;
    let Identity { cluster, member } = mark.identity;
    let new_cluster = recovered_cluster_id(cluster, member);
    let log = path.join("log");
    let own = Member { id: member, peer_ur_ls: urls, ..Member::default() };
    let recovery = Recovery {
        owner: LogOwner { cluster, node: NodeId(member) },
        new_cluster,
        address,
        context: Bytes::from(own.encode_to_vec()),
        i_know_that_acknowledged_writes_may_be_lost: confirmed,
    };
    let replaced = vlot::recover::beside(&log, new_cluster);
    let done = match recover_from_lost_quorum(&log, &recovery) {
        // An earlier command got so far, and was confirmed.
        Err(RecoverError::Open(OpenError::OtherIdentity { found, .. }))
            if found.cluster == new_cluster && found.node.0 == member =>
        {
            Recovered { found: Vec::new(), replaced }
        }
        done => done.map_err(MemberRecoverError::Log)?,
    };
    data_dir.rebind(new_cluster).map_err(MemberRecoverError::DataDir)?;
    Ok(MemberRecovered { cluster: new_cluster, member, found: done.found, replaced: done.replaced })
}

impl fmt::Display for MemberRecoverError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(error) => error.fmt(out),
            Self::Unused { path } => write!(out, "{} is no data directory of a member", path.display()),
            Self::Removed { path } => {
                write!(out, "the member of {} was removed from its cluster; use another member's", path.display())
            }
            Self::NoPeerUrls { path } => write!(
                out,
                "the data directory {} does not say where its member listens for peers; start the member once with this \
                 version, with its own flags, and stop it again",
                path.display()
            ),
            Self::Log(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for MemberRecoverError {}
