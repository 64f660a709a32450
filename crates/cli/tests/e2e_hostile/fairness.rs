//! What an honest client notices of a flood: its 99th percentile while somebody floods the node, against what it is while the same
//! attackers send the same to somebody who does nothing with it, so that the processors they take are in both.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::floods::{FLOODS, Wave, begin_flood};
use crate::is_full_size;
use crate::support::cluster::PATIENCE;
use crate::victim::Victim;

/// Who floods at the same time, each on a connection of its own; whose connection is ended comes again.
const ATTACKERS: usize = 2;
/// What the server says of its settings before a client sends more than a few frames.
const EMPTY_SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

#[test]
fn an_honest_client_hardly_notices_a_flood() {
    // The promise is twice at the most. It can be measured where the program is built for speed and the machine has nothing else to do.
    let measure = match is_full_size() {
        true => {
            Measure { rounds: 5, window: Duration::from_secs(2), times_max: 2.0, besides: Duration::ZERO, attempts: 1 }
        }
        false => Measure {
            rounds: 3,
            window: Duration::from_millis(700),
            times_max: 4.0,
            besides: Duration::from_millis(20),
            attempts: 3,
        },
    };
    let floods = FLOODS.iter().filter(|(name, ..)| is_full_size() || name.contains("pings") || name.contains("begun"));
    let victim = Victim::new(&[]);
    let sink = sink();
    let mut noticed = Vec::new();
    for (name, _, wave) in floods {
        if !(0..measure.attempts).any(|_| measure.is_hardly_noticed(&victim, sink, name, *wave)) {
            noticed.push(name);
        }
    }
    assert!(noticed.is_empty(), "an honest client notices {noticed:?}: see above");
    victim.recovers();
}

/// How it is measured, and what it may be.
struct Measure {
    rounds: usize,
    window: Duration,
    /// The percentile may be so many times as high, and so much besides.
    times_max: f64,
    besides: Duration,
    /// How often it may be tried, because other tests run at the same time.
    attempts: usize,
}

impl Measure {
    fn is_hardly_noticed(&self, victim: &Victim, sink: u16, name: &str, wave: Wave) -> bool {
        let [mut nobody, mut elsewhere, mut here] = [const { Vec::new() }; 3];
        let [mut sent_elsewhere, mut sent_here] = [0, 0];
        // One after the other, because what else the machine does comes and goes.
        for _ in 0..self.rounds {
            nobody.push(victim.honest_p99(|| thread::sleep(self.window)));
            elsewhere.push(victim.honest_p99(|| sent_elsewhere += attack(sink, wave, self.window)));
            here.push(victim.honest_p99(|| sent_here += attack(victim.port(), wave, self.window)));
        }
        let [nobody, elsewhere, here] = [nobody, elsewhere, here].map(median);
        let times = here.as_secs_f64() / elsewhere.as_secs_f64();
        eprintln!(
            "{name}: p99 {here:?}, {times:.1} times {elsewhere:?} with {sent_here} waves of {sent_elsewhere}; quiet {nobody:?}"
        );
        here <= elsewhere.mul_f64(self.times_max) + self.besides
    }
}

/// Floods this port for so long. Returns how many waves were sent.
fn attack(port: u16, wave: Wave, time: Duration) -> usize {
    let until = Instant::now() + time;
    let attackers: Vec<_> = (0..ATTACKERS)
        .map(|_| {
            thread::spawn(move || {
                let mut waves = 0;
                while Instant::now() < until {
                    waves += begin_flood(port, wave, until).1;
                }
                waves
            })
        })
        .collect();
    attackers.into_iter().map(|attacker| attacker.join().unwrap()).sum()
}

/// Somebody who takes connections for a server's, and does nothing with what comes on them. Lives as long as the test.
fn sink() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(|| drain(stream.unwrap()));
        }
    });
    port
}

fn drain(mut stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(EMPTY_SETTINGS);
    let mut buffer = [0; 65_536];
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}
