//! The small records beside history: where the store stands, the attributes, the leases, users and roles, quotas.
//!
//! Owns their names and bytes, as `docs/disk-format.md` describes them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use vlot_proto::authpb;

use crate::auth::TokenKey;
use crate::damage::BadRecord;
use crate::engine::Record;
use crate::lease::Time;
use crate::mvcc::revision::Position;
use crate::quota::Limit;

const STANDING: &[u8] = b"s";
const ATTRIBUTE: u8 = b'a';
const LEASE: u8 = b'l';
const LEASE_TIME: &[u8] = b"t";
const AUTH: &[u8] = b"e";
const USER: u8 = b'u';
const ROLE: u8 = b'r';
const QUOTA: u8 = b'q';
/// The first byte of the standing: how blocks and records are encoded.
const FORMAT: u8 = 1;
const STANDING_BYTES: usize = 1 + 4 * 8 + 4;

/// Where the store stands. Written in the same transaction as the history that led there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Standing {
    pub position: Position,
    /// Kept apart from history, which may lose its newest event to compaction: the revision never falls.
    pub revision: i64,
    pub compacted: i64,
}

impl Standing {
    pub const EMPTY: Self = Self { position: Position { term: 0, index: 0 }, revision: 1, compacted: -1 };

    pub fn record(&self) -> Record {
        let mut bytes = Vec::with_capacity(STANDING_BYTES);
        bytes.push(FORMAT);
        for number in [self.position.term, self.position.index, self.revision as u64, self.compacted as u64] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        (STANDING.to_vec(), bytes)
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let (numbers, checksum) = bytes.split_last_chunk::<4>()?;
        if bytes.len() != STANDING_BYTES
            || u32::from_le_bytes(*checksum) != crc32c::crc32c(numbers)
            || bytes[0] != FORMAT
        {
            return None;
        }
        let number = |place: usize| {
            let bytes = &numbers[1 + 8 * place..][..8];
            u64::from_le_bytes(bytes.try_into().expect("a slice of eight bytes"))
        };
        let position = Position { term: number(0), index: number(1) };
        Some(Self { position, revision: number(2) as i64, compacted: number(3) as i64 })
    }
}

/// The record of an attribute; an empty value removes it.
pub(crate) fn attribute(name: &[u8], value: &[u8]) -> Record {
    let mut full = Vec::with_capacity(1 + name.len());
    full.push(ATTRIBUTE);
    full.extend_from_slice(name);
    (full, value.to_vec())
}

/// A lease as it is written down. Its keys are found in history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LeaseRecord {
    pub id: i64,
    pub ttl: i64,
    pub renewal: u64,
    pub end: Option<u64>,
}

impl LeaseRecord {
    pub fn record(&self) -> Record {
        // Zero says that it does not run: no lease ends at zero, since each lives for a second at least.
        let numbers = [self.ttl as u64, self.renewal, self.end.unwrap_or(0)];
        (lease_name(self.id), numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }

    fn of(short: &[u8], value: &[u8]) -> Option<Self> {
        let id = i64::from_be_bytes(short.try_into().ok()?);
        let [ttl, renewal, end] = numbers(value)?;
        Some(Self { id, ttl: ttl as i64, renewal, end: (end != 0).then_some(end) })
    }
}

/// Takes the record of a lease away.
pub(crate) fn no_lease(id: i64) -> Record {
    (lease_name(id), Vec::new())
}

fn lease_name(id: i64) -> Vec<u8> {
    let mut name = vec![LEASE];
    name.extend_from_slice(&id.to_be_bytes());
    name
}

/// The record of cluster time.
pub(crate) fn lease_time(Time { now, renewals }: Time) -> Record {
    (LEASE_TIME.to_vec(), [now, renewals].iter().flat_map(|number| number.to_le_bytes()).collect())
}

/// Whether users and roles count, and what goes with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AuthRecord {
    pub is_enabled: bool,
    pub revision: u64,
    pub token_key: TokenKey,
}

impl AuthRecord {
    pub fn record(&self) -> Record {
        let revision = self.revision.to_le_bytes();
        (AUTH.to_vec(), sealed(&[&[u8::from(self.is_enabled)], &revision, &self.token_key.0]))
    }

    fn of(value: &[u8]) -> Option<Self> {
        let (enabled, rest) = unsealed(value)?.split_first()?;
        let (revision, key) = rest.split_first_chunk::<8>()?;
        let is_enabled = match enabled {
            0 => false,
            1 => true,
            _ => return None,
        };
        let revision = u64::from_le_bytes(*revision);
        Some(Self { is_enabled, revision, token_key: TokenKey(key.try_into().ok()?) })
    }
}

/// A user as it is written down.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct UserRecord {
    pub name: Arc<str>,
    pub hash: Option<Arc<str>>,
    pub roles: BTreeSet<Arc<str>>,
    pub generation: u64,
}

impl UserRecord {
    pub fn record(&self) -> Record {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let user = authpb::User {
            name: bytes(&self.name),
            password: self.hash.as_deref().map(bytes).unwrap_or_default(),
            roles: self.roles.iter().map(|role| role.to_string()).collect(),
            options: Some(authpb::UserAddOptions { no_password: self.hash.is_none() }),
        };
        (named(USER, &self.name), sealed(&[&self.generation.to_le_bytes(), &user.encode_to_vec()]))
    }

    fn of(short: &[u8], value: &[u8]) -> Option<Self> {
        let (generation, user) = unsealed(value)?.split_first_chunk::<8>()?;
        let user = authpb::User::decode(user).ok()?;
        if user.name != short {
            return None;
        }
        let has_password = !user.options.is_some_and(|options| options.no_password);
        let hash = str::from_utf8(&user.password).ok()?;
        Some(Self {
            name: str::from_utf8(short).ok()?.into(),
            hash: has_password.then(|| hash.into()),
            roles: user.roles.into_iter().map(Arc::from).collect(),
            generation: u64::from_le_bytes(*generation),
        })
    }
}

/// Takes the record of a user away.
pub(crate) fn no_user(name: &str) -> Record {
    (named(USER, name), Vec::new())
}

/// The record of a role.
pub(crate) fn role(role: authpb::Role) -> Record {
    let mut name = vec![ROLE];
    name.extend_from_slice(&role.name);
    (name, sealed(&[&role.encode_to_vec()]))
}

fn role_of(short: &[u8], value: &[u8]) -> Option<authpb::Role> {
    let role = authpb::Role::decode(unsealed(value)?).ok()?;
    (role.name == short && str::from_utf8(short).is_ok()).then_some(role)
}

/// Takes the record of a role away.
pub(crate) fn no_role(name: &str) -> Record {
    (named(ROLE, name), Vec::new())
}

fn named(kind: u8, short: &str) -> Vec<u8> {
    [&[kind], short.as_bytes()].concat()
}

/// The record of a quota. How much of it is used is found in history.
pub(crate) fn quota(prefix: &[u8], Limit { bytes, keys }: Limit) -> Record {
    // Zero says that there is no limit: none is zero.
    let numbers = [bytes, keys].map(|limit| limit.unwrap_or(0).to_le_bytes());
    (quota_name(prefix), sealed(&[&numbers[0], &numbers[1]]))
}

fn quota_of(value: &[u8]) -> Option<Limit> {
    let limits: [u64; 2] = numbers(unsealed(value)?)?;
    let [bytes, keys] = limits.map(|limit| Some(limit).filter(|limit| *limit > 0));
    (bytes.is_some() || keys.is_some()).then_some(Limit { bytes, keys })
}

/// Takes the record of a quota away.
pub(crate) fn no_quota(prefix: &[u8]) -> Record {
    (quota_name(prefix), Vec::new())
}

fn quota_name(prefix: &[u8]) -> Vec<u8> {
    [&[QUOTA], prefix].concat()
}

/// The pieces, and a checksum of them.
fn sealed(pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes = pieces.concat();
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn unsealed(value: &[u8]) -> Option<&[u8]> {
    let (bytes, checksum) = value.split_last_chunk::<4>()?;
    (u32::from_le_bytes(*checksum) == crc32c::crc32c(bytes)).then_some(bytes)
}

/// Exactly so many numbers of eight bytes.
fn numbers<const COUNT: usize>(bytes: &[u8]) -> Option<[u64; COUNT]> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let chunks: &[[u8; 8]; COUNT] = chunks.try_into().ok().filter(|_| rest.is_empty())?;
    Some(chunks.map(u64::from_le_bytes))
}

/// What a store finds in its records.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// None in an engine that was never written to.
    pub standing: Option<Standing>,
    pub attributes: Vec<(Bytes, Bytes)>,
    pub leases: Vec<LeaseRecord>,
    pub lease_time: Time,
    /// None in a store that never had a user or a role.
    pub auth: Option<AuthRecord>,
    pub users: Vec<UserRecord>,
    pub roles: Vec<authpb::Role>,
    pub quotas: Vec<(Bytes, Limit)>,
}

/// Reads the records, or names the first that is not as it should be.
pub(crate) fn read(records: Vec<Record>) -> Result<Found, BadRecord> {
    let mut found = Found::default();
    for (name, value) in records {
        match name.split_first() {
            Some((&ATTRIBUTE, short)) => {
                found.attributes.push((Bytes::copy_from_slice(short), value.into()));
            }
            Some((&LEASE, short)) => {
                let lease = LeaseRecord::of(short, &value);
                found.leases.push(lease.ok_or_else(|| BadRecord::Lease { name: name.clone() })?);
            }
            Some((&USER, short)) => {
                let user = UserRecord::of(short, &value);
                found.users.push(user.ok_or_else(|| BadRecord::Auth { name: name.clone() })?);
            }
            Some((&ROLE, short)) => {
                let role = role_of(short, &value);
                found.roles.push(role.ok_or_else(|| BadRecord::Auth { name: name.clone() })?);
            }
            Some((&QUOTA, short)) => {
                let limit = quota_of(&value).ok_or_else(|| BadRecord::Quota { name: name.clone() })?;
                found.quotas.push((Bytes::copy_from_slice(short), limit));
            }
            _ if name == AUTH => {
                found.auth = Some(AuthRecord::of(&value).ok_or(BadRecord::Auth { name })?);
            }
            _ if name == LEASE_TIME => {
                let [now, renewals] = numbers(&value).ok_or(BadRecord::Lease { name })?;
                found.lease_time = Time { now, renewals };
            }
            _ if name == STANDING => {
                let standing = Standing::of(&value).ok_or(BadRecord::Standing)?;
                found.standing = Some(standing);
            }
            _ => return Err(BadRecord::Unknown { name }),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_and_damage_is_seen() {
        let standing = Standing { position: Position { term: 3, index: 9 }, revision: 7, compacted: -1 };
        let found = read(vec![standing.record(), attribute(b"name", b"value")]).unwrap();
        assert_eq!(found.standing, Some(standing));
        assert_eq!(found.attributes, [(Bytes::from("name"), Bytes::from("value"))]);
        let leases = [
            LeaseRecord { id: -3, ttl: 60, renewal: 9, end: None },
            LeaseRecord { id: 5, ttl: 2, renewal: 11, end: Some(7) },
        ];
        let time = Time { now: 5, renewals: 11 };
        let found = read(vec![leases[0].record(), lease_time(time), leases[1].record()]).unwrap();
        assert_eq!((&found.leases[..], found.lease_time), (&leases[..], time));
        for (name, value) in [leases[0].record(), lease_time(time)] {
            assert!(read(vec![(name.clone(), value[1..].to_vec())]).is_err());
            assert!(read(vec![([&name[..], &[0]].concat(), value)]).is_err());
        }
        let auth = AuthRecord { is_enabled: true, revision: 7, token_key: TokenKey([3; 32]) };
        let users = ["a", "b"].map(|name| UserRecord {
            name: name.into(),
            hash: (name == "a").then(|| "hash".into()),
            roles: ["r".into(), "root".into()].into(),
            generation: 5,
        });
        let permission = authpb::Permission { perm_type: 2, key: "k".into(), range_end: "l".into() };
        let a_role = authpb::Role { name: "r".into(), key_permission: vec![permission] };
        let written = [auth.record(), users[0].record(), users[1].record(), role(a_role.clone())];
        let found = read(written.to_vec()).unwrap();
        assert_eq!((found.auth, &found.users[..], &found.roles[..]), (Some(auth), &users[..], &[a_role][..]));
        for (name, value) in written {
            for bit in 0..value.len() * 8 {
                let mut damaged = value.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(read(vec![(name.clone(), damaged)]).is_err(), "{name:?}, bit {bit}");
            }
            assert!(read(vec![([&name[..], &[0]].concat(), value)]).is_err());
        }
        let limits = [(Some(7), None), (None, Some(u64::MAX)), (Some(1), Some(1))];
        for (prefix, (bytes, keys)) in ["", "a/", "\u{e9}"].into_iter().zip(limits) {
            let limit = Limit { bytes, keys };
            let (name, value) = quota(prefix.as_bytes(), limit);
            let found = read(vec![(name.clone(), value.clone())]).unwrap();
            assert_eq!(found.quotas, [(Bytes::from(prefix), limit)]);
            for bit in 0..value.len() * 8 {
                let mut damaged = value.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(read(vec![(name.clone(), damaged)]).unwrap_err(), BadRecord::Quota { name: name.clone() });
            }
        }
        let (name, value) = quota(b"none", Limit { bytes: None, keys: None });
        assert!(read(vec![(name, value)]).is_err());
        let (name, bytes) = standing.record();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(vec![(name.clone(), damaged)]).is_err(), "bit {bit}");
        }
        assert!(read(vec![(b"x".to_vec(), vec![])]).is_err());
    }
}
