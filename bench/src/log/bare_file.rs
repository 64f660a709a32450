//! The floor: a file whose blocks have all been written before, so that nothing but the bytes themselves must reach the
//! disk; one `pwrite` and one `fdatasync` a batch. It keeps no index and no checksum and could not be recovered.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use super::Journal;
use super::vlot::frame_bytes;
use crate::Outcome;

const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// The system remembers the file in pieces of this size, and a sync of a small write takes longer in large ones.
const PIECE_BYTES: usize = 256 * 1024;

pub(crate) struct BareFile {
    file: File,
    offset: u64,
    buffer: Vec<u8>,
}

impl BareFile {
    pub(crate) fn create(path: &Path) -> Outcome<Self> {
        let file = OpenOptions::new().create_new(true).read(true).write(true).open(path)?;
        let zeros = vec![0; PIECE_BYTES];
        for offset in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        Ok(Self { file, offset: 0, buffer: Vec::new() })
    }
}

impl Journal for BareFile {
    /// Writes as many bytes as our log does for the same entries.
    fn append(&mut self, batch: &[(u64, Bytes)]) -> Outcome<()> {
        self.buffer.clear();
        for run in batch.chunk_by(|(one, _), (next, _)| one == next) {
            let frame = self.buffer.len() + frame_bytes(run.len());
            run.iter().for_each(|(_, payload)| self.buffer.extend_from_slice(payload));
            self.buffer.resize(frame.max(self.buffer.len()), 0);
        }
        if self.offset + self.buffer.len() as u64 > FILE_BYTES {
            self.offset = 0;
        }
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.file.sync_data()?;
        self.offset += self.buffer.len() as u64;
        Ok(())
    }
}
