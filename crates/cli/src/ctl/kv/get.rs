//! `vlot get`: read a key or a range of keys.

use bytes::Bytes;
use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::RangeRequest;
use vlot_proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::keys::KeyRange;
use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, is_set, number, number_of, switch, text, text_of, words, words_of};
use crate::ctl::print::Format;
use crate::ctl::{Exit, show};

/// The command and its flags.
pub fn command() -> Command {
    Command::new("get").about("Gets the key or a range of keys").arg(words("KEY [RANGE_END]")).args([
        text("consistency", "l", "Linearizable(l) or Serializable(s)"),
        text("order", "", "Order of results; ASCEND or DESCEND (ASCEND by default)"),
        text("sort-by", "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"),
        number("limit", "Maximum number of results"),
        switch("prefix", "Get keys with matching prefix"),
        switch("from-key", "Get keys that are greater than or equal to the given key using byte compare"),
        number("rev", "Specify the kv revision"),
        number("min-create-rev", "Minimum create revision"),
        number("max-create-rev", "Maximum create revision"),
        number("min-mod-rev", "Minimum modification revision"),
        number("max-mod-rev", "Maximum modification revision"),
        switch("keys-only", "Get only the keys"),
        switch("count-only", "Get only the count"),
        switch("print-value-only", "Only write values when using the \"simple\" output format"),
    ])
}

/// Makes the call and prints what was found.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let request = request(matches)?;
    let reply = settings.call(path::RANGE, &request, Repeat::Freely).await?;
    let mut printer = settings.printer;
    if is_set(matches, "count-only") && printer.format != Format::Fields {
        return Err(Exit::bad_args("--count-only is only for `--write-out=fields`"));
    }
    if is_set(matches, "print-value-only") {
        if printer.format != Format::Simple {
            return Err(Exit::bad_args("print-value-only is only for `--write-out=simple`"));
        }
        printer.value_only = true;
    }
    show(&printer.range(&reply)?)
}

/// The request that the flags and words ask for.
pub fn request(matches: &ArgMatches) -> Result<RangeRequest, Exit> {
    let words = words_of(matches);
    let (prefix, from_key) = (is_set(matches, "prefix"), is_set(matches, "from-key"));
    let Some(key) = words.first() else {
        let flaw = "get command needs one argument as key and an optional argument as range_end";
        return Err(Exit::bad_args(flaw));
    };
    if prefix && from_key {
        return Err(Exit::bad_args("`--prefix` and `--from-key` cannot be set at the same time, choose one"));
    }
    if is_set(matches, "keys-only") && is_set(matches, "count-only") {
        return Err(Exit::bad_args("`--keys-only` and `--count-only` cannot be set at the same time, choose one"));
    }
    let serializable = is_serializable(matches)?;
    let range = range_of(key, words.get(1), prefix, from_key)?;
    let sort_order = match text_of(matches, "order") {
        "" => SortOrder::None,
        order if order.eq_ignore_ascii_case("ascend") => SortOrder::Ascend,
        order if order.eq_ignore_ascii_case("descend") => SortOrder::Descend,
        other => return Err(Exit::bad_feature(format!("bad sort order {other}"))),
    };
    let target = text_of(matches, "sort-by");
    let sort_target = match target.to_ascii_uppercase().as_str() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(Exit::bad_feature(format!("bad sort target {target}"))),
    };
    let (min_create_revision, max_create_revision) =
        revisions(matches, ["min-create-rev", "max-create-rev"], "Create")?;
    let (min_mod_revision, max_mod_revision) = revisions(matches, ["min-mod-rev", "max-mod-rev"], "Mod")?;
    Ok(RangeRequest {
        key: range.key,
        range_end: range.end,
        limit: number_of(matches, "limit"),
        revision: number_of(matches, "rev").max(0),
        sort_order: unless_natural(sort_order, sort_target).into(),
        sort_target: sort_target.into(),
        serializable,
        keys_only: is_set(matches, "keys-only"),
        count_only: is_set(matches, "count-only"),
        min_create_revision,
        max_create_revision,
        min_mod_revision,
        max_mod_revision,
    })
}

/// The flag `--consistency` of a command.
///
/// # Errors
/// If its value is none of the two there are.
pub fn is_serializable(matches: &ArgMatches) -> Result<bool, Exit> {
    match text_of(matches, "consistency") {
        "l" => Ok(false),
        "s" => Ok(true),
        other => Err(Exit::bad_feature(format!("unknown consistency flag {other:?}"))),
    }
}

/// A lowest and a highest revision, neither of which need be there.
fn revisions(matches: &ArgMatches, names: [&str; 2], what: &str) -> Result<(i64, i64), Exit> {
    let [min, max] = names.map(|name| number_of(matches, name).max(0));
    if max > 0 && min > max {
        return Err(Exit::bad_feature(format!("getMin{what}Rev(={min}) > getMax{what}Rev(={max})")));
    }
    Ok((min, max))
}

/// The keys that one or two words and the switches mean.
pub fn range_of(key: &Bytes, end: Option<&Bytes>, prefix: bool, from_key: bool) -> Result<KeyRange, Exit> {
    if end.is_some() && (prefix || from_key) {
        let flaw = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";
        return Err(Exit::bad_args(flaw));
    }
    Ok(match (prefix, from_key) {
        (true, _) => KeyRange::with_prefix(key.clone()),
        (_, true) => KeyRange::from(key.clone()),
        _ => KeyRange::between(key.clone(), end.cloned()),
    })
}

/// Keys come in ascending order anyway; asking for it would make the server sort.
fn unless_natural(order: SortOrder, target: SortTarget) -> SortOrder {
    if order == SortOrder::Ascend && target == SortTarget::Key { SortOrder::None } else { order }
}
