//! Work that is done for operators and takes long, by the RPC that asks for it.
//!
//! Counted at the call, so that it is the same whatever is behind one.

use std::time::Duration;

use vlot_figures::Histogram;

use crate::rpc::Rpc;

/// How long each kind of work took that was done.
pub(crate) struct Upkeep {
    pub(crate) defragmentations: Histogram,
    pub(crate) hashes: Histogram,
    pub(crate) hashes_at_revision: Histogram,
}

impl Upkeep {
    pub(super) fn new() -> Upkeep {
        let of_hashes = || Histogram::doubling(Duration::from_millis(10), 15);
        Upkeep {
            defragmentations: Histogram::doubling(Duration::from_millis(100), 13),
            hashes: of_hashes(),
            hashes_at_revision: of_hashes(),
        }
    }

    /// A call was answered that took so long.
    pub(crate) fn answered(&self, rpc: Rpc, took: Duration) {
        match rpc.path() {
            DEFRAGMENT => self.defragmentations.observe(took),
            "/etcdserverpb.Maintenance/Hash" => self.hashes.observe(took),
            "/etcdserverpb.Maintenance/HashKV" => self.hashes_at_revision.observe(took),
            _ => {}
        }
    }
}

/// The RPC that asks for a defragmentation.
pub(crate) const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_by_its_rpc() {
        let upkeep = Upkeep::new();
        let rpc = |path| Rpc::of_path(path).unwrap();
        upkeep.answered(rpc("/etcdserverpb.KV/Put"), Duration::from_secs(1));
        upkeep.answered(rpc(DEFRAGMENT), Duration::from_secs(1));
        upkeep.answered(rpc("/etcdserverpb.Maintenance/HashKV"), Duration::from_secs(1));
        let counts = [&upkeep.defragmentations, &upkeep.hashes, &upkeep.hashes_at_revision].map(|it| it.read().count());
        assert_eq!(counts, [1, 0, 1]);
    }
}
