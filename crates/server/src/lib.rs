//! etcd's v3 interface over a cluster of Vlot nodes, as a library without a command line.
//!
//! A [`Config`](config::Config) is read from etcd's flags and variables; [`serve`](serve::serve) runs one node by it:
//!
//! ```
//! use vlot_server::config::Config;
//! use vlot_server::serve::serve;
//!
//! # let dir = std::env::temp_dir().join(format!("vlot-server-doc-{}", std::process::id()));
//! # let data_dir = format!("--data-dir={}", dir.display());
//! # let any = "http://127.0.0.1:0";
//! # let arguments = [
//! #     data_dir, format!("--listen-client-urls={any}"), format!("--advertise-client-urls={any}"),
//! #     format!("--listen-peer-urls={any}"), format!("--initial-advertise-peer-urls={any}"),
//! #     format!("--initial-cluster=default={any}"),
//! # ];
//! # let environment: [(String, String); 0] = [];
//! let config = Config::read(arguments, environment)?;
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! runtime.block_on(serve(config, async { "asked to" }))?;
//! # std::fs::remove_dir_all(&dir).ok();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A call comes in through `edge`, which knows HTTP and gRPC; `rpc` is the table of calls; `service` has the function
//! behind each, which knows neither.

mod ask;
mod audit;
mod auth;
mod backup;
mod certificates;
mod compaction;
pub mod config;
mod conversation;
mod corruption;
mod data_dir;
mod debug_vars;
pub mod descriptors;
mod edge;
mod exposition;
#[doc(hidden)]
pub mod fuzzing;
mod history_hashes;
mod identity;
mod join;
mod json;
mod limits;
mod member;
mod metrics;
mod peer_certificates;
mod peer_pages;
mod removal;
mod restore;
mod rpc;
pub mod serve;
mod service;
mod share;
mod space;
mod status;
mod store_group;
mod store_machine;
mod worker_pool;

pub use backup::{BackupError, BackupStatus, backup_status};
pub use data_dir::{DataDirError, check_mark};
pub use restore::{RestoreError, RestoreOptions, Restored, restore};
pub use service::ETCD_VERSION;
pub use status::CODE_NAMES;
