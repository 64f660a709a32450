//! What dashboards and alerts are made of: counters and the state of the node, under etcd's names.
//!
//! Owns which figure has which name. Must not count anything itself: `metrics.rs`, the library and the store do.

mod calls;
mod node;
mod process;
mod store;
#[cfg(test)]
mod tests;
mod text;
mod tls;

use crate::service::Services;
use node::Standing;
use text::Exposition;

/// All metrics as Prometheus reads them.
pub(crate) async fn exposition(services: &Services) -> String {
    let mut text = Exposition::default();
    let standing = Standing::of(services);
    node::server(&standing, &services.metrics, &mut text);
    node::figures(&services.meter.read(), &standing, &mut text);
    // A store that has stopped tells nothing.
    if let Ok(glance) = services.store_group.glance().await {
        store::sizes(&glance, &mut text);
        store::quotas(&glance, &mut text);
        store::work(&glance.figures, &services.metrics, &mut text);
    }
    calls::calls(&services.metrics, &mut text);
    calls::refused(&services.rate_limits, &mut text);
    let shown = [("clients", &services.tls), ("peers", &services.tls_to_peers)];
    let shown =
        shown.into_iter().filter_map(|(to, server)| Some((to, tls::Validity::of(&server.as_ref()?.certificate()))));
    tls::validity(&shown.collect::<Vec<_>>(), &mut text);
    if services.tls.is_some() {
        tls::handshakes(&services.metrics.handshakes, &mut text);
    }
    process::process(services.metrics.process_start, &mut text);
    text.0
}
