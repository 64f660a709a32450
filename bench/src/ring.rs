//! Ways to ask the system for a durable write: two calls, one call, or a ring, each on a file of its own.
//!
//! Owns the ways. Each writes the same bytes to a file whose blocks have all been written before, one batch after the other,
//! and takes its turns with the others within a round.
#![allow(unsafe_code)] // What a ring is given must outlive the call: each batch waits for its end.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue::Flags, types};
use rustix::io::ReadWriteFlags;

use crate::Outcome;
use crate::measure::{Meter, Used, median, print_table, processor};
use crate::plan::Plan;
use crate::scratch::Scratch;

const FILE_BYTES: u64 = 16 << 20;
/// One entry of 256 bytes and 64 of them, as a log frames them.
const BATCHES: [(&str, usize); 2] = [("1 entry", 320), ("64 entries", 17_456)];

/// A way to make bytes durable.
enum Way {
    /// `pwrite`, then `fdatasync`.
    TwoCalls,
    /// `pwritev2` with `RWF_DSYNC`.
    OneCall,
    /// A write and a sync that waits for it, given to the ring with one call, which also waits for both.
    Ring(Box<IoUring>),
    /// A write with `RWF_DSYNC`, given to the ring.
    RingOneWrite(Box<IoUring>),
}

impl Way {
    fn all() -> io::Result<[Self; 4]> {
        let ring = || IoUring::new(4).map(Box::new);
        Ok([Self::TwoCalls, Self::OneCall, Self::Ring(ring()?), Self::RingOneWrite(ring()?)])
    }

    fn name(&self) -> &'static str {
        match self {
            Self::TwoCalls => "pwrite, fdatasync",
            Self::OneCall => "pwritev2 with RWF_DSYNC",
            Self::Ring(_) => "io_uring, write and fsync linked",
            Self::RingOneWrite(_) => "io_uring, write with RWF_DSYNC",
        }
    }

    fn append(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let fd = types::Fd(file.as_raw_fd());
        let write = opcode::Write::new(fd, bytes.as_ptr(), bytes.len() as u32).offset(offset);
        match self {
            Self::TwoCalls => {
                file.write_all_at(bytes, offset)?;
                file.sync_data()
            }
            Self::OneCall => {
                let slices = [IoSlice::new(bytes)];
                let written = rustix::io::pwritev2(file.as_fd(), &slices, offset, ReadWriteFlags::DSYNC)?;
                whole(written, bytes)
            }
            Self::Ring(ring) => {
                let sync = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC);
                // SAFETY: the bytes and the file outlive both, whose ends are awaited below.
                unsafe {
                    let mut queue = ring.submission();
                    queue.push(&write.build().flags(Flags::IO_LINK)).map_err(io::Error::other)?;
                    queue.push(&sync.build()).map_err(io::Error::other)?;
                }
                ring.submit_and_wait(2)?;
                check(ring, bytes)
            }
            Self::RingOneWrite(ring) => {
                let write = write.rw_flags(ReadWriteFlags::DSYNC.bits() as i32);
                // SAFETY: the bytes and the file outlive it, whose end is awaited below.
                unsafe { ring.submission().push(&write.build()).map_err(io::Error::other)? };
                ring.submit_and_wait(1)?;
                check(ring, bytes)
            }
        }
    }
}

/// Of all that has ended the write comes first.
fn check(ring: &mut IoUring, bytes: &[u8]) -> io::Result<()> {
    for (n, ended) in ring.completion().enumerate() {
        let result = usize::try_from(ended.result()).map_err(|_| io::Error::from_raw_os_error(-ended.result()))?;
        if n == 0 {
            whole(result, bytes)?;
        }
    }
    Ok(())
}

fn whole(written: usize, bytes: &[u8]) -> io::Result<()> {
    if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

fn file_of_zeros(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create_new(true).read(true).write(true).open(path)?;
    let zeros = vec![0; 256 * 1024];
    for offset in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, offset)?;
    }
    file.sync_all()?;
    Ok(file)
}

/// One way, its file, and what it has done.
struct Side {
    way: Way,
    file: File,
    offset: u64,
    /// The median of each round, in microseconds.
    medians: Vec<f64>,
    used: Used,
    writes: usize,
}

impl Side {
    fn new(way: Way, path: &Path) -> io::Result<Self> {
        let file = file_of_zeros(path)?;
        Ok(Self { way, file, offset: 0, medians: Vec::new(), used: Used::default(), writes: 0 })
    }

    /// Appends one batch after the other for so long.
    fn take_turn(&mut self, bytes: &[u8], turn: Duration) -> io::Result<()> {
        let mut latencies = Vec::new();
        let (meter, begun) = (Meter::start(), Instant::now());
        while begun.elapsed() < turn {
            if self.offset + bytes.len() as u64 > FILE_BYTES {
                self.offset = 0;
            }
            let asked = Instant::now();
            self.way.append(&self.file, bytes, self.offset)?;
            latencies.push(micros(asked.elapsed()));
            self.offset += bytes.len() as u64;
        }
        self.used.add(&meter.stop());
        self.writes += latencies.len();
        self.medians.push(median(latencies));
        Ok(())
    }

    fn line(&self, batch: &str, floor: &Self) -> Vec<String> {
        let each = |time: Duration| format!("{:.2}", micros(time) / self.writes as f64);
        let ratio = median(self.medians.iter().zip(&floor.medians).map(|(own, floor)| own / floor));
        vec![
            batch.to_owned(),
            self.way.name().to_owned(),
            format!("{:.1}", median(self.medians.iter().copied())),
            format!("{ratio:.3}"),
            each(self.used.user_cpu),
            each(self.used.system_cpu),
        ]
    }
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

/// Measures and prints.
pub(crate) fn run(plan: &Plan) -> Outcome<()> {
    let scratch = Scratch::new(&plan.dir)?;
    let (rounds, millis) = (plan.rounds, plan.turn.as_millis());
    println!("{rounds} rounds of {millis} ms; {}; {}", scratch.file_system(), processor());
    let mut lines = Vec::new();
    for (batch, bytes) in BATCHES {
        let bytes = crate::measure::noise(bytes);
        let mut sides = Vec::new();
        for way in Way::all()? {
            let name = format!("{batch}, {}", way.name()).replace(' ', "-");
            sides.push(Side::new(way, &scratch.place(&name))?);
        }
        for _ in 0..plan.rounds {
            for side in &mut sides {
                side.take_turn(&bytes, plan.turn)?;
            }
        }
        lines.extend(sides.iter().map(|side| side.line(batch, &sides[0])));
    }
    print_table(&["batch", "way", "p50 us", "ratio", "user CPU us", "system us"], &lines);
    Ok(())
}
