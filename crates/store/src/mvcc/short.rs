//! A short answer to a range request, made in two steps: what is in memory is looked up while nothing is applied, and values
//! that are on disk are read afterwards.
//!
//! Owns what is missing in between. It holds no part of the index and of recent history, so that neither is copied for it
//! when it is changed meanwhile.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use vlot_proto::etcdserverpb::RangeResponse;

use crate::engine::EngineView;
use crate::mvcc::key_index::Version;
use crate::mvcc::reader::{Reader, stored_value};
use crate::refusal::Refusal;

/// A short answer to a range request, whose values may partly be on disk yet.
pub struct ShortRange {
    response: RangeResponse,
    on_disk: Option<OnDisk>,
}

/// What an answer lacks, and where it is.
struct OnDisk {
    /// With the place of each in the answer.
    versions: Vec<(usize, Version)>,
    engine: Arc<dyn EngineView>,
    broken: Arc<AtomicBool>,
}

impl ShortRange {
    pub(super) fn new(
        reader: &Reader<'_>,
        response: RangeResponse,
        versions: Vec<(usize, Version)>,
    ) -> Result<Self, Refusal> {
        if versions.is_empty() {
            return Ok(Self { response, on_disk: None });
        }
        // What is durable at this moment is in the engine as it is now, and what is not durable is in memory.
        let engine = reader.engine().map_err(|_| reader.unreadable())?;
        let broken = Arc::clone(reader.broken);
        Ok(Self { response, on_disk: Some(OnDisk { versions, engine, broken }) })
    }

    /// How many values are to be read from the engine. Each takes some microseconds if the system has it in memory, and what
    /// the disk takes if not.
    #[must_use]
    pub fn values_on_disk(&self) -> usize {
        self.on_disk.as_ref().map_or(0, |on_disk| on_disk.versions.len())
    }

    /// The answer, after what is missing was read.
    ///
    /// # Errors
    /// `Unreadable`.
    pub fn complete(mut self) -> Result<RangeResponse, Refusal> {
        let Some(OnDisk { versions, engine, broken }) = self.on_disk else { return Ok(self.response) };
        for (place, version) in versions {
            let Some(value) = stored_value(&*engine, &version, Bytes::copy_from_slice) else {
                broken.store(true, Ordering::Relaxed);
                return Err(Refusal::Unreadable);
            };
            self.response.kvs[place].value = value;
        }
        Ok(self.response)
    }
}

impl fmt::Debug for ShortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShortRange({} keys, {} values on disk)", self.response.kvs.len(), self.values_on_disk())
    }
}
