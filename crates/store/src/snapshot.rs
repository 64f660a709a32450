//! The whole store as a stream of bytes, and a store from such a stream.
//!
//! Owns the layout of the stream (`docs/disk-format.md`, *The store's snapshot*). A snapshot is what the engine has
//! durably at one moment: all history that is not compacted, the attributes, and the position to which they belong. Must
//! not know why one is made or where it goes.

use std::fmt;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;

use std::sync::Arc;

use crate::damage::{BadBlock, BadRecord, Damage};
use crate::engine::{EngineError, EngineView, OpenError, WriteBatch};
use crate::mvcc::history;
use crate::mvcc::revision::{Position, Revision};
use crate::records;
use crate::store::Store;

mod contents;

pub use contents::{Contents, inspect};

const MAGIC: &[u8; 8] = b"vlotkv\0\x01";
const RECORD: u8 = 1;
const BLOCK: u8 = 2;
const END: u8 = 3;
/// A part's kind and length.
const FRONT_BYTES: usize = 5;
/// More than this no part was ever long.
const PART_BYTES_MAX: u32 = 1 << 30;
/// How much is put into the new engine at once.
const BATCH_BYTES: usize = 4 << 20;

/// A store as it was at one position. Holds no lock; while it lives the engine uses no space again that is freed.
pub struct Snapshot {
    view: Arc<dyn EngineView>,
    position: Position,
}

/// Why a store did not become what a stream holds. It is as it was, if not said otherwise.
#[derive(Debug)]
pub enum RestoreError {
    /// The stream cannot be read.
    Io(io::Error),
    /// The stream is not as it was written.
    Damaged {
        /// About where in it, in bytes.
        offset: u64,
        /// In what way.
        flaw: Flaw,
    },
    /// The stream holds an earlier state: nothing that was applied is taken back.
    Older {
        /// The position of the state in the stream.
        found: Position,
        /// What is applied here.
        applied: Position,
    },
    /// The new state cannot be kept. The store writes nothing more; the owner must stop.
    Engine(EngineError),
    /// The new state has taken the place of the old one and cannot be opened. The owner must stop.
    Open(OpenError),
}

/// In what way a stream is not as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// It does not begin as such a stream does.
    Magic,
    /// It ends in the midst of something.
    Truncated,
    /// A part says that it is longer than any.
    PartTooLong,
    /// The checksum (CRC32C) of a part and all before it does not match.
    Checksum,
    /// A part is of no kind that is known, or its length is not that of its kind.
    UnknownPart,
    /// A record cannot be read.
    Record(BadRecord),
    /// A block cannot be read.
    Block(BadBlock),
    /// A block does not come after the one before it.
    BlocksOutOfOrder,
    /// There are not as many records and blocks as its end says.
    PartsMissing,
    /// Something follows its end.
    TrailingBytes,
    /// No record says which position it is of.
    NoPosition,
}

impl Store {
    /// A consistent handle to what is durable.
    ///
    /// # Errors
    /// The engine cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot, EngineError> {
        let view = self.backlog.engine_view()?;
        let found = records::read(view.records()?).map_err(|bad| EngineError::Damaged(Damage::Record(bad)))?;
        let position = found.standing.unwrap_or(records::Standing::EMPTY).position;
        Ok(Snapshot { view, position })
    }

    /// Becomes what a snapshot holds: in one step, durable when this returns, or not at all. A snapshot of the very
    /// position that is applied here changes nothing. Watches go on: they read from the new history what they missed, or
    /// are told that it is compacted.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn restore(&mut self, from: &mut dyn Read) -> Result<(), RestoreError> {
        let mut stream = Reader { from, offset: 0, crc: 0 };
        stream.expect_magic()?;
        let mut next = self.engine.successor().map_err(RestoreError::Engine)?;
        let mut batch = Batch::default();
        let mut newest = None;
        loop {
            match stream.next_part()? {
                Part::Record(name, value) => {
                    batch.add_record(name, value).map_err(|bad| stream.damaged(Flaw::Record(bad)))?;
                }
                Part::Block(revision, block) => {
                    if newest.is_some_and(|newest| newest >= revision) {
                        return Err(stream.damaged(Flaw::BlocksOutOfOrder));
                    }
                    newest = Some(revision);
                    check_block(&block).map_err(|bad| stream.damaged(Flaw::Block(bad)))?;
                    batch.add_block(revision, block);
                }
                Part::End { records, blocks } => {
                    if (records, blocks) != (batch.records, batch.blocks) {
                        return Err(stream.damaged(Flaw::PartsMissing));
                    }
                    break;
                }
            }
            if batch.bytes > BATCH_BYTES {
                next.write(&batch.take()).map_err(RestoreError::Engine)?;
            }
        }
        stream.expect_end()?;
        let found = batch.position.ok_or_else(|| stream.damaged(Flaw::NoPosition))?;
        let applied = self.applied;
        if found == applied {
            return Ok(());
        }
        if (found.term, found.index) < (applied.term, applied.index) {
            return Err(RestoreError::Older { found, applied });
        }
        next.write(&batch.take()).map_err(RestoreError::Engine)?;
        let threaded = self.stop_writing();
        let engine = next.take_over().map_err(RestoreError::Engine)?;
        self.become_that_of(engine, threaded).map_err(RestoreError::Open)
    }
}

impl Snapshot {
    /// The position whose effect it has, and that of all before.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// How many bytes [`Snapshot::write_to`] writes. Reads all of it.
    ///
    /// # Errors
    /// The engine cannot be read.
    pub fn encoded_len(&self) -> io::Result<u64> {
        let mut count = Count(0);
        self.write_to(&mut count)?;
        Ok(count.0)
    }

    /// Writes it.
    ///
    /// # Errors
    /// The engine cannot be read, or `out` fails.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(MAGIC)?;
        let mut parts = Writer { out, crc: 0 };
        let records = self.view.records().map_err(io::Error::other)?;
        for (name, value) in &records {
            // A record's name and value each fit into one entry of a log.
            let name_bytes = (name.len() as u32).to_le_bytes();
            parts.write(RECORD, &[&name_bytes, name, value])?;
        }
        let mut blocks = 0_u64;
        let mut failed = None;
        let visited = self.view.scan(Revision::default(), &mut |revision, block| {
            blocks += 1;
            let (main, sub) = ((revision.main as u64).to_le_bytes(), revision.sub.to_le_bytes());
            match parts.write(BLOCK, &[&main, &sub, block]) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        visited.map_err(io::Error::other)?;
        if let Some(error) = failed {
            return Err(error);
        }
        parts.write(END, &[&(records.len() as u64).to_le_bytes(), &blocks.to_le_bytes()])
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("position", &self.position).finish_non_exhaustive()
    }
}

/// Counts what is written, and keeps nothing.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Every event of a block can be read.
fn check_block(block: &[u8]) -> Result<(), BadBlock> {
    history::unseal(block)?.try_for_each(|event| event.map(drop))
}

/// What goes into the new engine next.
#[derive(Default)]
struct Batch {
    waiting: WriteBatch,
    bytes: usize,
    records: u64,
    blocks: u64,
    /// What the record of the standing says, once it has come.
    position: Option<Position>,
}

impl Batch {
    fn add_record(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), BadRecord> {
        self.bytes += name.len() + value.len();
        self.records += 1;
        let found = records::read(vec![(name.clone(), value.clone())])?;
        self.position = found.standing.map(|standing| standing.position).or(self.position);
        self.waiting.records.push((name, value));
        Ok(())
    }

    fn add_block(&mut self, revision: Revision, block: Vec<u8>) {
        self.bytes += block.len();
        self.blocks += 1;
        self.waiting.blocks.push((revision, block));
    }

    fn take(&mut self) -> WriteBatch {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }
}

/// Writes parts, each with a checksum of itself and of all before it.
struct Writer<'a> {
    out: &'a mut dyn Write,
    crc: u32,
}

impl Writer<'_> {
    fn write(&mut self, kind: u8, pieces: &[&[u8]]) -> io::Result<()> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let length = u32::try_from(length).ok().filter(|&length| length <= PART_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("a part is longer than a snapshot may hold"))?;
        let mut front = [kind; FRONT_BYTES];
        front[1..].copy_from_slice(&length.to_le_bytes());
        for piece in std::iter::once(&&front[..]).chain(pieces) {
            self.crc = crc32c::crc32c_append(self.crc, piece);
            self.out.write_all(piece)?;
        }
        self.out.write_all(&self.crc.to_le_bytes())
    }
}

enum Part {
    Record(Vec<u8>, Vec<u8>),
    Block(Revision, Vec<u8>),
    End { records: u64, blocks: u64 },
}

/// Reads parts and checks each.
struct Reader<'a> {
    from: &'a mut dyn Read,
    offset: u64,
    crc: u32,
}

impl Reader<'_> {
    fn damaged(&self, flaw: Flaw) -> RestoreError {
        RestoreError::Damaged { offset: self.offset, flaw }
    }

    /// Exactly so many bytes; memory grows with what comes, not with what is announced.
    fn read(&mut self, bytes: u32) -> Result<Vec<u8>, RestoreError> {
        let mut read = Vec::new();
        (&mut *self.from).take(u64::from(bytes)).read_to_end(&mut read).map_err(RestoreError::Io)?;
        self.offset += read.len() as u64;
        if read.len() == bytes as usize { Ok(read) } else { Err(self.damaged(Flaw::Truncated)) }
    }

    fn expect_magic(&mut self) -> Result<(), RestoreError> {
        if self.read(MAGIC.len() as u32)? == MAGIC { Ok(()) } else { Err(self.damaged(Flaw::Magic)) }
    }

    fn expect_end(&mut self) -> Result<(), RestoreError> {
        let more = self.from.read(&mut [0]).map_err(RestoreError::Io)?;
        if more == 0 { Ok(()) } else { Err(self.damaged(Flaw::TrailingBytes)) }
    }

    fn next_part(&mut self) -> Result<Part, RestoreError> {
        let front = self.read(FRONT_BYTES as u32)?;
        let length = u32::from_le_bytes([front[1], front[2], front[3], front[4]]);
        if length > PART_BYTES_MAX {
            return Err(self.damaged(Flaw::PartTooLong));
        }
        let body = self.read(length)?;
        let written = self.read(4)?;
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, &front), &body);
        if written != self.crc.to_le_bytes() {
            return Err(self.damaged(Flaw::Checksum));
        }
        part_of(front[0], &body).ok_or_else(|| self.damaged(Flaw::UnknownPart))
    }
}

fn part_of(kind: u8, body: &[u8]) -> Option<Part> {
    let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    match kind {
        RECORD => {
            let (length, rest) = body.split_first_chunk::<4>()?;
            let (name, value) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            Some(Part::Record(name.to_vec(), value.to_vec()))
        }
        BLOCK => {
            let (main, rest) = body.split_first_chunk::<8>()?;
            let (sub, block) = rest.split_first_chunk::<4>()?;
            let revision = Revision { main: number(main) as i64, sub: u32::from_le_bytes(*sub) };
            Some(Part::Block(revision, block.to_vec()))
        }
        END => {
            let (records, rest) = body.split_first_chunk::<8>()?;
            let (blocks, rest) = rest.split_first_chunk::<8>()?;
            rest.is_empty().then(|| Part::End { records: number(records), blocks: number(blocks) })
        }
        _ => None,
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the snapshot cannot be read: {error}"),
            Self::Damaged { offset, flaw } => write!(f, "the snapshot is damaged at byte {offset}: {flaw}"),
            Self::Older { found, applied } => {
                write!(f, "the snapshot is of {found}, which is before {applied}, which is applied here")
            }
            Self::Engine(error) => write!(f, "the snapshot cannot be kept: {error}"),
            Self::Open(error) => write!(f, "the restored store cannot be opened: {error}"),
        }
    }
}

impl std::error::Error for RestoreError {}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Record(bad) => return bad.fmt(f),
            Self::Block(bad) => return bad.fmt(f),
            Self::Magic => "it is no snapshot of a store, or of a version that is not known here",
            Self::Truncated => "it ends too early",
            Self::PartTooLong => "a part is longer than any that was written",
            Self::Checksum => "a checksum does not match",
            Self::UnknownPart => "a part is none that is known here",
            Self::BlocksOutOfOrder => "its blocks are not in order",
            Self::PartsMissing => "parts are missing",
            Self::TrailingBytes => "something follows its end",
            Self::NoPosition => "it does not say where it stands",
        })
    }
}
