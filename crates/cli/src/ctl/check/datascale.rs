//! `vlot check datascale`: how much memory a server takes to hold so many keys.

use bytes::Bytes;
use clap::ArgMatches;
use vlot_proto::etcdserverpb::PutRequest;

use super::writers::{Keys, Writers};
use super::{Size, compact_if_asked, defragment_if_asked, delete, memory, require_unused, show_errors};
use crate::client::Endpoint;
use crate::ctl::flags::{Settings, text_of};
use crate::ctl::{Exit, asked_to_stop, show};

pub const PREFIX: &str = "/etcdctl-check-datascale/";

const KEY_BYTES: usize = 512;
const VALUE_BYTES: usize = 512;
/// Progress is shown after each hundredth of the keys.
const STEPS: u64 = 100;

/// Keys, and clients.
fn load(size: Size) -> (u64, usize) {
    match size {
        Size::Small => (10_000, 50),
        Size::Medium => (100_000, 200),
        Size::Large => (1_000_000, 500),
        Size::XLarge => (3_000_000, 1000),
    }
}

pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let (keys, clients) = load(Size::read(matches)?);
    let prefix = text_of(matches, "prefix");
    require_unused(settings, prefix, &format!("etcdctl del --prefix {prefix}")).await?;
    let server = settings.endpoints.first().expect("there is an endpoint");
    let before = memory_of(settings, server, "before").await?;
    let bytes = KEY_BYTES + VALUE_BYTES;
    show(
        format!(
            "Start data scale check for work load [{keys} key-value pairs, {bytes} bytes per key-value, {clients} \
             concurrent clients].\n"
        )
        .as_bytes(),
    )?;

    let writers = Writers::start(settings, clients);
    let interrupted = tokio::select! {
        outcome = write(&writers, prefix, keys) => outcome.map(|()| false)?,
        () = asked_to_stop() => true,
    };
    let outcome = writers.finish().await;
    let after = if interrupted { Ok(before) } else { memory_of(settings, server, "after").await };
    let revision = delete(settings, prefix).await?;
    let after = after?;
    compact_if_asked(settings, matches, revision).await?;
    defragment_if_asked(settings, matches).await?;
    show_errors(&outcome)?;
    if interrupted || !outcome.errors.is_empty() {
        return Err(Exit::error(""));
    }
    let megabytes = (after - before) / f64::from(1 << 20);
    show(format!("PASS: Approximate system memory used : {megabytes:.2} MB.\n").as_bytes())
}

async fn memory_of(settings: &Settings, server: &Endpoint, when: &str) -> Result<f64, Exit> {
    match memory::resident(server, &settings.options.security).await {
        Ok(bytes) => Ok(bytes),
        Err(why) => {
            show(format!("{why}\n").as_bytes())?;
            show(
                format!("FAIL: Could not read process_resident_memory_bytes {when} the put operations.\n").as_bytes(),
            )?;
            Err(Exit::error(""))
        }
    }
}

/// Writes as fast as it goes.
async fn write(writers: &Writers, prefix: &str, count: u64) -> Result<(), Exit> {
    let mut keys = Keys::new(prefix, KEY_BYTES);
    let value = Bytes::from(vec![0; VALUE_BYTES]);
    for number in 0..count {
        if number.is_multiple_of(count / STEPS) {
            show_progress(writers.done(), count)?;
        }
        writers.write(PutRequest { key: keys.draw(), value: value.clone(), ..PutRequest::default() }).await;
    }
    show_progress(count, count)?;
    show(b"\n")
}

fn show_progress(done: u64, count: u64) -> Result<(), Exit> {
    let percent = done as f64 * 100.0 / count as f64;
    show(format!("\r {done} / {count}   {percent:.2}%").as_bytes())
}
