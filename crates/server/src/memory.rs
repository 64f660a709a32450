//! How the memory of a node is divided between its caches and queues.
//!
//! Owns their bounds. Must not know what is in them. The index of keys is in no budget: it has to be in memory, and the size of the
//! store is bounded by quotas.

use vlot_store::store;

/// The least that can be divided: two requests of the usual size find room in each queue.
pub(crate) const MEMORY_BUDGET_MIN: u64 = 64 << 20;

/// At most so many bytes of each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Memory {
    /// Recent values; older ones are read from disk.
    pub(crate) values: usize,
    /// Pages of the engine.
    pub(crate) engine_cache: usize,
    /// History that waits for the engine.
    pub(crate) backlog: usize,
    /// Recent entries of the log, for members that lag behind a little.
    pub(crate) recent_entries: usize,
    /// Entries that are decided and not applied.
    pub(crate) applying: usize,
    /// Proposals that are not decided.
    pub(crate) proposals: usize,
    /// Frames to each peer that it has not taken, and frames of each that are not handled.
    pub(crate) frames: usize,
}

impl Default for Memory {
    fn default() -> Memory {
        let store::Options { value_cache_bytes, engine_cache_bytes, backlog_bytes_max, .. } = store::Options::default();
        let node = vlot::Options::new("");
        Memory {
            values: value_cache_bytes,
            engine_cache: engine_cache_bytes,
            backlog: backlog_bytes_max,
            recent_entries: node.recent_bytes_max,
            applying: node.apply_bytes_max,
            proposals: node.group.waiting_bytes_max,
            frames: node.net.entries.queue_bytes_max,
        }
    }
}

impl Memory {
    /// Divides a budget. Two peers are thought of; a quarter is left to connections of clients and to what an allocator wastes.
    pub(crate) fn divided(bytes: usize) -> Memory {
        let share = |sixteenths: usize| bytes / 16 * sixteenths;
        Memory {
            values: share(4),
            engine_cache: share(1),
            backlog: share(2),
            recent_entries: share(1),
            applying: share(1),
            proposals: share(1),
            frames: share(1),
        }
    }

    /// What the store is told.
    pub(crate) fn store_options(&self) -> store::Options {
        store::Options {
            value_cache_bytes: self.values,
            engine_cache_bytes: self.engine_cache,
            backlog_bytes_max: self.backlog,
            ..store::Options::default()
        }
    }

    /// Narrows what a node holds.
    pub(crate) fn narrow(&self, options: &mut vlot::Options) {
        options.recent_bytes_max = self.recent_entries;
        options.apply_bytes_max = self.applying;
        options.group.waiting_bytes_max = self.proposals;
        for lane in [&mut options.net.control, &mut options.net.entries, &mut options.net.snapshot] {
            // Nodes must agree on how long a frame may be, not on how many wait.
            lane.queue_bytes_max = lane.queue_bytes_max.min(self.frames);
            lane.inbox_bytes_max = lane.inbox_bytes_max.min(self.frames);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_together_are_within_the_budget() {
        for bytes in [MEMORY_BUDGET_MIN as usize, 100_000_001, 1 << 30] {
            let Memory { values, engine_cache, backlog, recent_entries, applying, proposals, frames } =
                Memory::divided(bytes);
            let all = values + engine_cache + backlog + recent_entries + applying + proposals + 2 * frames;
            assert!(all <= bytes / 4 * 3 + 64 && all > bytes / 3 * 2, "{all} of {bytes}");
            assert!(proposals >= 2 * 1_572_864, "two requests of the usual size");
        }
    }
}
