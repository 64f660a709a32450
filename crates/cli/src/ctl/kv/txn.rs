//! `vlot txn`: compares, and what to do when all of them hold and when one does not, read from standard input.
//!
//! Three blocks, each ended by an empty line. An operation is a line in the form of the command of the same name.

use std::io::BufRead;

use bytes::Bytes;
use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{Compare, RequestOp, TxnRequest};

use super::{del, get, put};
use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, is_set, switch, words, words_of};
use crate::ctl::notation::{self, number::parse_lease, quoted, unquoted};
use crate::ctl::{Exit, show};

/// The command and its flags.
pub fn command() -> Command {
    Command::new("txn")
        .about("Txn processes all the requests in one transaction")
        .arg(words(""))
        .arg(switch("interactive", "Input transaction in interactive mode").short('i'))
}

/// Reads the transaction, makes the call and prints its outcome.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    if !words_of(matches).is_empty() {
        return Err(Exit::bad_args("txn command does not accept argument"));
    }
    let request = read(&mut std::io::stdin().lock(), is_set(matches, "interactive"))?;
    let reply = settings.call(path::TXN, &request, Repeat::IfUnsent).await?;
    show(&settings.printer.txn(&reply)?)
}

fn read(input: &mut impl BufRead, interactive: bool) -> Result<TxnRequest, Exit> {
    let mut block = |title: &str| {
        if interactive {
            show(format!("{title}\n").as_bytes())?;
        }
        lines_until_empty(input)
    };
    // Each block is checked before the next one is asked for.
    let compare = block("compares:")?.iter().map(|line| parse_compare(line)).collect::<Result<_, _>>()?;
    let mut operations = |title| block(title)?.iter().map(|line| parse_operation(line)).collect::<Result<_, _>>();
    let success = operations("success requests (get, put, del):")?;
    let failure = operations("failure requests (get, put, del):")?;
    Ok(TxnRequest { compare, success, failure })
}

fn lines_until_empty(input: &mut impl BufRead) -> Result<Vec<String>, Exit> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line).map_err(|error| Exit::invalid_input(error.to_string()))?;
        if !line.ends_with('\n') {
            return Err(Exit::invalid_input("EOF"));
        }
        match line.trim() {
            "" => return Ok(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

/// Reads `target("key") operator "value"`.
fn parse_compare(line: &str) -> Result<Compare, Exit> {
    let Some((target, rest)) = line.split_once('(') else {
        return Err(Exit::invalid_input(format!("malformed comparison: {line}")));
    };
    let (key, operator, value) = parse_terms(rest);
    let Some(value) = value else {
        let key = quoted(&key.unwrap_or_default());
        let got = format!("{target}({key}) {operator} \"\"");
        return Err(Exit::invalid_input(format!("malformed comparison: {line}; got {got}")));
    };
    let result = match operator {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => return Err(Exit::invalid_input(format!("malformed comparison: {line} (unknown operator {operator})"))),
    };
    let text = String::from_utf8_lossy(&value);
    let invalid = || Exit::invalid_input(format!("invalid txn compare request: {line}"));
    let number = || text.parse::<i64>().map_err(|_| invalid());
    let (target, operand) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(Bytes::copy_from_slice(&value))),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(parse_lease(&text).map_err(|_| invalid())?)),
        _ => return Err(Exit::invalid_input(format!("malformed comparison: {line} (unknown target {target})"))),
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: key.unwrap_or_default().into(),
        target_union: Some(operand),
        ..Compare::default()
    })
}

/// What stands behind `target(`, as far as it can be read.
fn parse_terms(rest: &str) -> (Option<Vec<u8>>, &str, Option<Vec<u8>>) {
    let Some((key, rest)) = unquoted(rest.trim_start()) else { return (None, "", None) };
    let rest = rest.strip_prefix(')').filter(|rest| rest.starts_with(char::is_whitespace));
    let Some(rest) = rest.map(str::trim_start) else { return (Some(key), "", None) };
    let (operator, rest) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
    (Some(key), operator, unquoted(rest.trim_start()).map(|(value, _)| value))
}

fn parse_operation(line: &str) -> Result<RequestOp, Exit> {
    let invalid = || Exit::invalid_input(format!("invalid txn request: {line}"));
    let words = notation::words(line).ok_or_else(invalid)?;
    let Some((name, arguments)) = words.split_first().filter(|(_, arguments)| !arguments.is_empty()) else {
        return Err(Exit::invalid_input(format!("invalid txn compare request: {line}")));
    };
    let arguments = arguments.iter().map(|word| <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(word));
    let matches =
        |command: Command| command.no_binary_name(true).try_get_matches_from(arguments).map_err(|_| invalid());
    let request = match name.as_slice() {
        b"get" => Request::RequestRange(get::request(&matches(get::command())?)?),
        // Standard input carries the transaction, so that it has no value to give.
        b"put" => Request::RequestPut(put::request(&matches(put::command())?, || None)?),
        b"del" => Request::RequestDeleteRange(del::request(&matches(del::command())?)?),
        _ => return Err(invalid()),
    };
    Ok(RequestOp { request: Some(request) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_are_read() {
        let compare = parse_compare(r#"mod("a b") > "5""#).unwrap();
        assert_eq!((compare.result(), compare.target(), &compare.key[..]), {
            (CompareResult::Greater, CompareTarget::Mod, &b"a b"[..])
        });
        assert_eq!(compare.target_union, Some(TargetUnion::ModRevision(5)));
        let compare = parse_compare(r#"value("\x01")   !=   "\xff" "#).unwrap();
        assert_eq!(compare.target_union, Some(TargetUnion::Value(Bytes::from_static(b"\xff"))));
        assert_eq!(parse_compare(r#"lease("a") = "1f""#).unwrap().target_union, Some(TargetUnion::Lease(31)));
    }

    #[test]
    fn flaws_are_named_as_in_etcdctl() {
        for (line, flaw) in [
            ("foo", "malformed comparison: foo"),
            ("mod(a) = 1", r#"malformed comparison: mod(a) = 1; got mod("")  """#),
            (r#"mod("a") = 1"#, r#"malformed comparison: mod("a") = 1; got mod("a") = """#),
            (r#"zod("a") = "1""#, r#"malformed comparison: zod("a") = "1" (unknown target zod)"#),
            (r#"mod("a") = "x""#, r#"invalid txn compare request: mod("a") = "x""#),
        ] {
            assert_eq!(parse_compare(line), Err(Exit::invalid_input(flaw)));
        }
        for (line, exit) in [
            ("get", Exit::invalid_input("invalid txn compare request: get")),
            ("foo bar", Exit::invalid_input("invalid txn request: foo bar")),
            ("get a --bogus", Exit::invalid_input("invalid txn request: get a --bogus")),
            ("put x", Exit::bad_args("put command needs 1 argument and input from stdin or 2 arguments")),
        ] {
            assert_eq!(parse_operation(line), Err(exit));
        }
    }

    #[test]
    fn a_transaction_is_three_blocks() {
        let text = "mod(\"a\") = \"0\"\n\nput a 'x y' --lease=1f\nget --prefix \"\"\n\ndel a b --range\n\n";
        let request = read(&mut text.as_bytes(), false).unwrap();
        assert_eq!((request.compare.len(), request.success.len(), request.failure.len()), (1, 2, 1));
        let Some(Request::RequestPut(put)) = &request.success[0].request else { panic!("not a put: {request:?}") };
        assert_eq!((&put.value[..], put.lease), (&b"x y"[..], 31));
        assert_eq!(read(&mut "\n\n".as_bytes(), false), Err(Exit::invalid_input("EOF")));
    }
}
