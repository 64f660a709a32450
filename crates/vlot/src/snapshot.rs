//! Snapshots as files, and as streams between nodes.
//!
//! A snapshot that is saved, sent and received has one form: a header that names group, entry and members, the state
//! machine's own bytes, and a trailer with their length and checksum (`docs/disk-format.md`). Owns that form and the
//! names of the files. Must not know when a snapshot is taken or who needs one.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crc32c::{crc32c, crc32c_append};
use vlot_raft::id::{GroupId, LogId};

use crate::members::MembersAt;
use crate::state_machine::Snapshot;

const MAGIC: &[u8; 8] = b"vlotsnap";
const VERSION: u32 = 1;
/// Before the members: magic, version, length of the members, group, term, index.
const FRONT_BYTES: usize = 40;
/// After the state: its length and its checksum.
const TRAILER_BYTES: u64 = 12;
/// More members' bytes than this were never written.
const MEMBERS_BYTES_MAX: u32 = 1 << 20;

/// What a snapshot is of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) group: GroupId,
    /// The last entry whose effect it has.
    pub(crate) id: LogId,
    /// Who belonged to the group then.
    pub(crate) members: MembersAt,
}

/// Writes a snapshot in its one form.
///
/// # Errors
/// If the state machine or `out` fails.
pub(crate) fn write(header: &Header, snapshot: &mut dyn Snapshot, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&header.encode())?;
    let mut body = Checked { out, bytes: 0, crc: 0 };
    snapshot.write_to(&mut body)?;
    let Checked { out, bytes, crc } = body;
    out.write_all(&bytes.to_le_bytes())?;
    out.write_all(&crc.to_le_bytes())?;
    out.flush()
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let members = self.members.encode();
        let mut bytes = Vec::with_capacity(FRONT_BYTES + members.len() + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        // Bounded by what an entry of the log may hold.
        bytes.extend_from_slice(&(members.len() as u32).to_le_bytes());
        for number in [self.group.0, self.id.term.0, self.id.index.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&members);
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header, and leaves `from` where the state begins.
    pub(crate) fn read(from: &mut dyn Read) -> io::Result<Self> {
        let mut front = [0; FRONT_BYTES];
        from.read_exact(&mut front)?;
        let word = |at: usize| u32::from_le_bytes([front[at], front[at + 1], front[at + 2], front[at + 3]]);
        let number = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if &front[..8] != MAGIC || word(8) != VERSION || word(12) > MEMBERS_BYTES_MAX {
            return Err(damaged("its header is none of a version that is known here"));
        }
        let mut rest = vec![0; word(12) as usize + 4];
        from.read_exact(&mut rest)?;
        let (members, crc) = rest.split_at(rest.len() - 4);
        if crc32c_append(crc32c(&front), members).to_le_bytes() != crc {
            return Err(damaged("its header is not as it was written"));
        }
        let members = MembersAt::decode(members).map_err(|_| damaged("its members are none"))?;
        Ok(Self { group: GroupId(number(16)), id: LogId::new(number(24), number(32)), members })
    }
}

/// Counts and checks what passes through to a snapshot's state.
struct Checked<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
    crc: u32,
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.crc = crc32c_append(self.crc, &bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A folder that holds the snapshot files of a node.
#[derive(Clone, Debug)]
pub(crate) struct Shelf(PathBuf);

/// A snapshot file that is whole.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) header: Header,
    path: PathBuf,
}

impl Shelf {
    /// The folder, which is made if need be. What was never finished is removed, and the names of what was are durable,
    /// even if the process that has given them failed to make them so: the log is cut in reliance on what is seen here.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        for file in fs::read_dir(dir)? {
            let path = file?.path();
            if path.extension().is_some_and(|kind| kind == "part") {
                fs::remove_file(path)?;
            }
        }
        File::open(dir)?.sync_all()?;
        Ok(Self(dir.to_owned()))
    }

    /// Begins a file. `kind` tells apart what is written at the same time.
    pub(crate) fn begin(&self, group: GroupId, kind: &str) -> io::Result<Unfinished> {
        let path = self.0.join(format!("{:016x}-{kind}.part", group.0));
        let file = BufWriter::with_capacity(1 << 18, File::create(&path)?);
        Ok(Unfinished { shelf: self.clone(), path, file })
    }

    /// The newest snapshot of a group that is whole and of an entry that is wanted. There may be newer ones: one may
    /// have come that the log does not begin after, yet or ever. Damaged ones are told in the log and left alone.
    pub(crate) fn newest(&self, group: GroupId, is_wanted: impl Fn(LogId) -> bool) -> io::Result<Option<Saved>> {
        let paths = fs::read_dir(&self.0)?.filter_map(|file| Some(file.ok()?.path()));
        let id = |path: &Path| id_of(path.file_name()?.to_str()?, group);
        let mut found: Vec<(LogId, PathBuf)> = paths.filter_map(|path| Some((id(&path)?, path))).collect();
        found.retain(|(id, _)| is_wanted(*id));
        found.sort();
        for (id, path) in found.into_iter().rev() {
            match verify(&path) {
                Ok(header) if header.group == group && header.id == id => return Ok(Some(Saved { header, path })),
                Ok(_) => tracing::warn!(file = %path.display(), "the snapshot is another than its name says"),
                Err(error) => tracing::warn!(file = %path.display(), %error, "the snapshot cannot be used"),
            }
        }
        Ok(None)
    }

    /// Removes a group's snapshots before `keep_from`.
    pub(crate) fn remove_before(&self, group: GroupId, keep_from: LogId) {
        let Ok(files) = fs::read_dir(&self.0) else { return };
        for path in files.filter_map(|file| Some(file.ok()?.path())) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if id_of(name, group).is_some_and(|id| id < keep_from) {
                // What cannot be removed takes room, and harms nobody.
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(file = %path.display(), %error, "cannot remove an old snapshot");
                }
            }
        }
    }
}

fn name(group: GroupId, id: LogId) -> String {
    format!("{:016x}-{:016x}-{:016x}.snapshot", group.0, id.term.0, id.index.0)
}

/// Of which entry a file of this name is a snapshot; none if it is none of the group.
fn id_of(file: &str, group: GroupId) -> Option<LogId> {
    let mut numbers = file.strip_suffix(".snapshot")?.split('-').map(|number| u64::from_str_radix(number, 16).ok());
    let (of, term, index) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let id = LogId::new(term, index);
    (of == group.0 && file == name(group, id)).then_some(id)
}

/// A snapshot file that is being written.
pub(crate) struct Unfinished {
    shelf: Shelf,
    path: PathBuf,
    file: BufWriter<File>,
}

impl Unfinished {
    /// Makes the file durable under its name, if it is a whole snapshot.
    ///
    /// # Errors
    /// If it is none, or the disk fails.
    pub(crate) fn finish(mut self) -> io::Result<Header> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        let header = verify(&self.path)?;
        fs::rename(&self.path, self.shelf.0.join(name(header.group, header.id)))?;
        File::open(&self.shelf.0)?.sync_all()?;
        Ok(header)
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Saved {
    /// The state machine's bytes.
    pub(crate) fn state(&self) -> io::Result<impl Read + use<>> {
        let mut file = BufReader::with_capacity(1 << 18, File::open(&self.path)?);
        Header::read(&mut file)?;
        let begin = file.stream_position()?;
        let end = file.get_ref().metadata()?.len();
        Ok(file.take(end.saturating_sub(begin + TRAILER_BYTES)))
    }
}

/// Reads a whole file and holds it against its checksums.
fn verify(path: &Path) -> io::Result<Header> {
    let mut file = BufReader::with_capacity(1 << 18, File::open(path)?);
    let header = Header::read(&mut file)?;
    let begin = file.stream_position()?;
    let end = file.get_ref().metadata()?.len();
    let bytes = end.checked_sub(begin + TRAILER_BYTES).ok_or_else(|| damaged("it is cut short"))?;
    let (mut crc, mut left) = (0, bytes);
    let mut buffer = vec![0; 1 << 16];
    while left > 0 {
        let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.read_exact(&mut buffer[..part])?;
        crc = crc32c_append(crc, &buffer[..part]);
        left -= part as u64;
    }
    let mut trailer = [0; TRAILER_BYTES as usize];
    file.read_exact(&mut trailer)?;
    let expected = [&bytes.to_le_bytes()[..], &crc.to_le_bytes()[..]].concat();
    if trailer[..] != expected[..] {
        return Err(damaged("its state is not as it was written"));
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(header)
}

fn damaged(how: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a whole snapshot: {how}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlot_raft::id::LogIndex;

    struct Text(&'static str);

    impl Snapshot for Text {
        fn at(&self) -> LogId {
            LogId::new(3, 7)
        }

        fn write_to(&mut self, out: &mut dyn Write) -> io::Result<()> {
            out.write_all(self.0.as_bytes())
        }
    }

    fn header() -> Header {
        let members = MembersAt { at: LogIndex(2), ..MembersAt::default() };
        Header { group: GroupId(5), id: LogId::new(3, 7), members }
    }

    fn shelf(name: &str) -> (Shelf, PathBuf) {
        let dir = std::env::temp_dir().join(format!("vlot-shelf-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        (Shelf::open(&dir).unwrap(), dir)
    }

    #[test]
    fn what_is_saved_is_found_and_replaced_by_a_newer_one() {
        let (shelf, dir) = shelf("found");
        let newest = |group: u64| shelf.newest(GroupId(group), |_| true).unwrap();
        assert!(newest(5).is_none());
        let mut file = shelf.begin(GroupId(5), "test").unwrap();
        write(&header(), &mut Text("state"), &mut file).unwrap();
        assert_eq!(file.finish().unwrap(), header());
        let saved = newest(5).unwrap();
        assert_eq!(saved.header, header());
        let mut state = String::new();
        saved.state().unwrap().read_to_string(&mut state).unwrap();
        assert_eq!(state, "state");
        assert!(newest(6).is_none());
        shelf.remove_before(GroupId(5), LogId::new(3, 7));
        assert!(newest(5).is_some(), "it is not before itself");
        shelf.remove_before(GroupId(5), LogId::new(3, 8));
        assert!(newest(5).is_none());
        fs::remove_dir_all(dir).unwrap();
    }

    /// The log begins after the first; the second has come, and the node stopped before the log was told.
    #[test]
    fn a_newer_one_does_not_hide_the_one_that_is_wanted() {
        let (shelf, dir) = shelf("wanted");
        for index in [7, 9] {
            let mut file = shelf.begin(GroupId(5), "test").unwrap();
            write(&Header { id: LogId::new(3, index), ..header() }, &mut Text("state"), &mut file).unwrap();
            file.finish().unwrap();
        }
        let found = |is_wanted: fn(LogId) -> bool| {
            shelf.newest(GroupId(5), is_wanted).unwrap().map(|saved| saved.header.id.index.0)
        };
        assert_eq!((found(|_| true), found(|id| id == LogId::new(3, 7)), found(|_| false)), (Some(9), Some(7), None));
        shelf.remove_before(GroupId(5), LogId::new(3, 8));
        assert_eq!(found(|_| true), Some(9));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn anything_but_the_whole_is_refused() {
        let (shelf, dir) = shelf("refused");
        let mut whole = Vec::new();
        write(&header(), &mut Text("some state"), &mut whole).unwrap();
        let refused = |bytes: &[u8]| {
            let mut file = shelf.begin(GroupId(5), "test").unwrap();
            file.write_all(bytes).unwrap();
            file.finish().is_err()
        };
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(refused(&damaged), "byte {at} is another");
            assert!(refused(&whole[..at]), "cut to {at} bytes");
        }
        assert!(refused(&[&whole[..], b"x"].concat()));
        assert!(!refused(&whole));
        fs::remove_dir_all(dir).unwrap();
    }
}
