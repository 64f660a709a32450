//! Who is let in by TLS and who is not, and that both ends say why.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vlot::Tls;
use vlot::net::{Identity, Lane, Limits, Options, Refusal, Security};
use vlot::tls::{NameRule, Speaks};

use crate::certificates::Certificates;
use crate::support::{CLUSTER, Hello, Node, denied, eventually, frame, hear_answer, id, limits, refused, soon};
use crate::world::{Address, Place, World, closed};

/// Both are the host of every place of a test.
const HOSTS: [&str; 2] = ["127.0.0.1", "place"];

fn start(world: &World, node: u64, place: Place, peers: &[(u64, Address)], tls: Option<&Tls>) -> Node {
    let identity = Identity { cluster: CLUSTER, node: id(node), disk: 0 };
    let security = tls.map(|tls| Security::load(tls).unwrap());
    world.start_with(Options { security, limits: limits(), ..world.options(identity, place, peers) })
}

/// Nodes 1 and 2, peers of each other.
fn pair(world: &World, first: Option<&Tls>, second: Option<&Tls>) -> (Node, Node) {
    let (a, b) = (world.place(), world.place());
    let peers = [(1, a.at()), (2, b.at())];
    (start(world, 1, a, &peers, first), start(world, 2, b, &peers, second))
}

async fn connect(first: &mut Node, second: &mut Node) {
    first.connected(second.id.0).await;
    second.connected(first.id.0).await;
    for lane in Lane::ALL {
        first.send(second.id.0, lane, &frame("hello")).await;
        assert_eq!(second.frames(first.id.0, lane, 1).await, [&b"hello"[..]]);
    }
}

/// Everything that these two may refuse each other for, by what each of them should count: reasons for which it refuses the
/// other, or is refused.
async fn stay_apart(world: &World, first: Option<&Tls>, second: Option<&Tls>, reasons: [&[Refusal]; 2]) {
    let (mut n1, mut n2) = pair(world, first, second);
    for (node, reasons) in [(&n1, reasons[0]), (&n2, reasons[1])] {
        for reason in reasons {
            eventually(|| refused(node, *reason) + denied(node, *reason) > 1).await;
        }
    }
    n1.quiet().await;
    n2.quiet().await;
    assert_eq!((n1.net.stats().received_frames, n2.net.stats().received_frames), (0, 0));
}

async fn nodes_with_certificates_of_one_ca_connect(world: World) {
    let ca = Certificates::new("one-ca");
    let (mut n1, mut n2) = pair(&world, Some(&ca.tls("n1", &HOSTS)), Some(&ca.tls("n2", &HOSTS)));
    connect(&mut n1, &mut n2).await;
    eventually(|| n1.net.links()[&id(2)].round_trips.count() > 0).await;
}

async fn a_node_of_another_ca_is_refused_and_both_know_why(world: World) {
    use Refusal::{TlsDenied, UnknownAuthority};
    let (ours, theirs) = (Certificates::new("ours"), Certificates::new("theirs"));
    let (good, other) = (ours.tls("n1", &HOSTS), theirs.tls("n2", &HOSTS));
    stay_apart(&world, Some(&good), Some(&other), [&[UnknownAuthority], &[UnknownAuthority]]).await;
    // It trusts the others' CA, and shows a certificate of its own.
    let spy = theirs.tls_with("n3", &HOSTS, &ours);
    stay_apart(&world, Some(&good), Some(&spy), [&[UnknownAuthority], &[TlsDenied]]).await;
}

async fn certificates_that_are_not_good_at_this_time_are_refused(world: World) {
    use Refusal::{Expired, TlsDenied};
    let ca = Certificates::new("time");
    let (good, expired) = (ca.tls("n1", &HOSTS), ca.expired("n2", &HOSTS));
    stay_apart(&world, Some(&good), Some(&expired), [&[Expired], &[TlsDenied]]).await;
}

async fn a_certificate_must_have_an_allowed_name(world: World) {
    let ca = Certificates::new("names");
    let (n1, n2) = (ca.tls("n1", &HOSTS), ca.tls("n2", &HOSTS));
    let names = |names: &[&str]| NameRule::CommonNames(names.iter().map(|name| (*name).to_owned()).collect());
    let hosts = |hosts: &[&str]| NameRule::Hosts(hosts.iter().map(|host| (*host).to_owned()).collect());
    for rule in [names(&["n1", "n2"]), hosts(&["elsewhere", "place"])] {
        let (mut n1, mut n2) =
            pair(&world, Some(&n1.clone().with_names(rule.clone())), Some(&n2.clone().with_names(rule)));
        connect(&mut n1, &mut n2).await;
    }
    for rule in [names(&["n1"]), hosts(&["elsewhere"])] {
        let strict = n1.clone().with_names(rule);
        stay_apart(&world, Some(&strict), Some(&n2), [&[Refusal::WrongName], &[Refusal::TlsDenied]]).await;
    }
}

async fn a_certificate_is_that_of_the_node_at_its_address(world: World) {
    let ca = Certificates::new("identity");
    let good = ca.tls("n1", &HOSTS);
    let elsewhere = ca.tls("n2", &["elsewhere"]);
    // It is refused as whom it dials, and as whom it is dialled by.
    stay_apart(&world, Some(&good), Some(&elsewhere), [&[Refusal::WrongName], &[Refusal::WrongName]]).await;

    // A caller that is not listed says itself where it listens.
    let place = world.place();
    let node = start(&world, 1, place, &[], Some(&good));
    for (tls, address, expected) in
        [(&good, "place:7", 0), (&good, "elsewhere:7", 20), (&good, "", 20), (&elsewhere, "elsewhere:7", 0)]
    {
        let stream = world.dial_in_the_clear(node.at).await;
        let host = node.at.rsplit_once(':').unwrap().0;
        let mut stream: crate::world::Stream = Box::new(tls.client().unwrap().connect(stream, host).await.unwrap());
        stream.write_all(&Hello { address, ..Hello::new(5, 1, 0) }.encode()).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(hear_answer(&mut stream).await.refusal, expected, "{address}");
    }
    // Unless that is not asked for.
    let lenient = Tls { callers_by_address: false, ..good };
    let node = start(&world, 1, world.place(), &[], Some(&lenient));
    let stream = world.dial_in_the_clear(node.at).await;
    let host = node.at.rsplit_once(':').unwrap().0;
    let mut stream: crate::world::Stream = Box::new(elsewhere.client().unwrap().connect(stream, host).await.unwrap());
    stream.write_all(&Hello::new(5, 1, 0).encode()).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(hear_answer(&mut stream).await.refusal, 0);
}

async fn tls_and_none_do_not_meet_and_both_know_why(world: World) {
    use Refusal::{NoTls, TlsUnexpected};
    let ca = Certificates::new("and-none");
    let tls = ca.tls("n1", &HOSTS);
    // Each dials the other.
    stay_apart(&world, Some(&tls), None, [&[NoTls], &[NoTls, TlsUnexpected]]).await;
    // A plain caller is told so in the clear, and who speaks HTTP in HTTP. Neither learns which node it has reached.
    let node = start(&world, 1, world.place(), &[], Some(&tls));
    let mut stream = world.dial_in_the_clear(node.at).await;
    stream.write_all(&Hello::new(2, 1, 0).encode()).await.unwrap();
    let mut answer = [0; 40];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!((&answer[8..10], &answer[16..]), (&[0, 13][..], &[0; 24][..]));
    closed(&mut stream).await;
    let mut stream = world.dial_in_the_clear(node.at).await;
    stream.write_all(b"GET /members HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{answer}");
    assert_eq!(refused(&node, NoTls), 2);
}

async fn nothing_is_parsed_of_what_comes_without_a_certificate(world: World) {
    let ca = Certificates::new("nameless");
    let tls = ca.tls("n1", &HOSTS);
    let node = start(&world, 1, world.place(), &[], Some(&tls));
    let nameless = Tls { callers: None, ..tls.clone() };
    let client = vlot_tls::Client::load(vlot_tls::ClientOptions {
        own: None,
        server: nameless.dialled,
        protocols: Default::default(),
        alpn: Vec::new(),
    });
    let stream = world.dial_in_the_clear(node.at).await;
    let host = node.at.rsplit_once(':').unwrap().0;
    let mut stream = client.unwrap().connect(stream, host).await.unwrap();
    // A client takes its handshake to be done before it hears that it is not.
    let _ = stream.write_all(&Hello::new(2, 1, 0).encode()).await;
    let _ = stream.flush().await;
    let error = soon(stream.read(&mut [0])).await.unwrap_err();
    assert_ne!(error.kind(), io::ErrorKind::TimedOut);
    // It has heard why.
    drop(stream);
    eventually(|| refused(&node, Refusal::NoCertificate) == 1).await;
    assert_eq!(node.net.stats().handshakes_refused.len(), 1);
}

async fn both_are_taken_during_a_move_and_addresses_say_how_to_dial(world: World) {
    let ca = Certificates::new("move");
    let strict = ca.tls("n1", &HOSTS);
    let both = Tls { speaks: Speaks::Both, ..strict.clone() };
    // A node that has not moved, and one that takes both.
    let (mut n1, mut n2) = pair(&world, None, Some(&both));
    connect(&mut n1, &mut n2).await;

    // Two that take both dial TLS where an address says so: one that takes nothing else hears them.
    let (a, b) = (world.place(), world.place());
    let secure_1: Address = Box::leak(format!("https://{}", a.at()).into_boxed_str());
    let peers = [(1, secure_1), (2, b.at())];
    let mut n1 = start(&world, 1, a, &peers, Some(&strict));
    let mut n2 = start(&world, 2, b, &peers, Some(&both));
    connect(&mut n1, &mut n2).await;

    // One that listens in the clear dials so where an address does not say otherwise.
    let listens_plain = Tls { speaks: Speaks::PlainWhereItListens, ..strict.clone() };
    let (mut n1, mut n2) = pair(&world, Some(&listens_plain), None);
    connect(&mut n1, &mut n2).await;
    // And takes no TLS.
    stay_apart(&world, Some(&strict), Some(&listens_plain), [&[Refusal::NoTls], &[Refusal::TlsUnexpected]]).await;
    // Without TLS an address that asks for it is not dialled in the clear.
    let node = start(&world, 2, world.place(), &[(1, secure_1)], None);
    eventually(|| refused(&node, Refusal::TlsUnexpected) > 1).await;
}

async fn new_files_are_taken_up_and_connections_stand(world: World) {
    let (old, new) = (Certificates::new("old"), Certificates::new("new"));
    let (tls_1, tls_2) = (old.tls("n1", &HOSTS), old.tls("n2", &HOSTS));
    let (mut n1, mut n2) = pair(&world, Some(&tls_1), Some(&tls_2));
    connect(&mut n1, &mut n2).await;
    // Both CAs first, then certificates of the new one, then the new CA alone.
    let (ca_file, new_ca) = (old.files("ca").cert, std::fs::read(new.files("ca").cert).unwrap());
    let both = [std::fs::read(&ca_file).unwrap(), new_ca.clone()].concat();
    std::fs::write(&ca_file, both).unwrap();
    for (name, own) in [("n1", &tls_1.own), ("n2", &tls_2.own)] {
        let replaced = new.tls(name, &HOSTS).own;
        std::fs::rename(replaced.key, &own.key).unwrap();
        std::fs::rename(replaced.cert, &own.cert).unwrap();
    }
    std::fs::write(&ca_file, new_ca).unwrap();
    // Files are looked at once a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    n1.send(2, Lane::Control, &frame("still here")).await;
    assert_eq!(n2.frames(1, Lane::Control, 1).await, [&b"still here"[..]]);
    n1.quiet().await;
    n2.quiet().await;
    // Whoever comes with the new CA is welcome, and no one with the old one is.
    let mut n3 = start(&world, 3, world.place(), &[(1, n1.at)], Some(&new.tls("n3", &HOSTS)));
    n3.send(1, Lane::Control, &frame("hello")).await;
    assert_eq!(n1.frames(3, Lane::Control, 1).await, [&b"hello"[..]]);
    n3.quiet().await;
}

async fn half_a_handshake_is_not_waited_for_and_a_flood_of_them_keeps_no_peer_out(world: World) {
    let ca = Certificates::new("flood");
    let few = Limits { strangers_max: 4, strange_handshakes_per_second: 5, ..limits() };
    let identity = Identity { cluster: CLUSTER, node: id(1), disk: 0 };
    let security = Some(Security::load(&ca.tls("n1", &HOSTS)).unwrap());
    let place = world.place();
    let other = world.place();
    let options = Options { security, limits: few, ..world.options(identity, place, &[(2, other.at())]) };
    let mut node = world.start_with(options);
    let mut half = world.dial_in_the_clear(node.at).await;
    // The head of a record that does not come.
    half.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    let begun = std::time::Instant::now();
    closed(&mut half).await;
    assert!(begun.elapsed() >= limits().handshake_timeout / 2, "{:?}", begun.elapsed());

    let at = node.at;
    let flooding = world.clone();
    let flood = tokio::spawn(async move {
        loop {
            let mut stream = flooding.dial_in_the_clear_from("127.0.0.2:0", at).await;
            let _ = stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            // Held open for as long as there is room for it.
            tokio::spawn(
                async move { drop(tokio::time::timeout(Duration::from_secs(1), stream.read(&mut [0])).await) },
            );
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut peer = start(&world, 2, other, &[(1, at)], Some(&ca.tls("n2", &HOSTS)));
    peer.connected(1).await;
    node.connected(2).await;
    flood.abort();
    assert!(refused(&node, Refusal::Crowded) > 10);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let ca = Certificates::new("unusable");
    let good = ca.tls("n1", &HOSTS);
    let missing = Tls::new("/nowhere/n1.crt", &good.own.key, ca.files("ca").cert);
    let error = Security::load(&missing).unwrap_err().to_string();
    assert!(error.contains("/nowhere/n1.crt"), "{error}");
    let other_key = Tls::new(&good.own.cert, ca.tls("n2", &HOSTS).own.key, ca.files("ca").cert);
    let error = Security::load(&other_key).unwrap_err().to_string();
    assert!(error.contains("n2.key") || error.contains("n1.crt"), "{error}");
}

macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod over_tcp {
            $(#[tokio::test] async fn $test() { super::$test(crate::world::World::tcp()).await; })*
        }
        mod in_memory {
            $(#[tokio::test] async fn $test() { super::$test(crate::world::World::memory()).await; })*
        }
    };
}

on_both!(
    nodes_with_certificates_of_one_ca_connect,
    a_node_of_another_ca_is_refused_and_both_know_why,
    certificates_that_are_not_good_at_this_time_are_refused,
    a_certificate_must_have_an_allowed_name,
    a_certificate_is_that_of_the_node_at_its_address,
    tls_and_none_do_not_meet_and_both_know_why,
    nothing_is_parsed_of_what_comes_without_a_certificate,
    both_are_taken_during_a_move_and_addresses_say_how_to_dial,
    new_files_are_taken_up_and_connections_stand,
    half_a_handshake_is_not_waited_for_and_a_flood_of_them_keeps_no_peer_out,
);
