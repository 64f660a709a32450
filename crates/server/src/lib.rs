//! etcd's v3 interface over a cluster of Vlot nodes, as a library without a command line.
//!
//! A [`Config`](config::Config) is read from etcd's flags and variables; [`serve`](serve::serve) runs one node by it:
//!
//! ```
//! use std::sync::Arc;
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
//! runtime.block_on(serve(config, async { "asked to" }, Arc::default(), Arc::default()))?;
//! # std::fs::remove_dir_all(&dir).ok();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A call comes in through `edge`, which knows HTTP and gRPC; `rpc` is the table of calls; `service` has the function
//! behind each, which knows neither.

mod audit;
mod auth;
mod certificates;
pub mod config;
mod conversation;
pub mod descriptors;
mod edge;
mod edge_thread;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod json;
mod limits;
mod members;
mod peer_certificates;
mod rpc;
pub mod serve;
mod service;
mod share;
mod status;
mod store_group;
mod store_machine;
mod telemetry;
mod upkeep;
mod worker_pool;

pub use files::backup::{BackupError, BackupStatus, backup_status};
pub use files::data_dir::{DataDirError, check_mark};
pub use files::recover::{MemberRecoverError, MemberRecovered, recover_member};
pub use files::restore::{RestoreError, RestoreOptions, Restored, restore};
pub use service::ETCD_VERSION;
pub use status::CODE_NAMES;
