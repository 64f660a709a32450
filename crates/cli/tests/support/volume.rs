//! A small file system of a test's own: one that can be filled, and frozen.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An ext4 file system in a file, mounted for as long as the value lives.
pub struct Volume {
    place: PathBuf,
    image: PathBuf,
}

impl Volume {
    /// Makes one of so many bytes. `None` where that is not allowed, which is said loudly.
    ///
    /// # Panics
    /// If it cannot be made and `VLOT_REQUIRE_VOLUMES` is set: then tests must not pass without it.
    pub fn new(dir: &Path, name: &str, bytes: u64) -> Option<Volume> {
        let volume = Volume { place: dir.join(name), image: dir.join(format!("{name}.image")) };
        fs::create_dir_all(&volume.place).unwrap();
        File::create(&volume.image).and_then(|image| image.set_len(bytes)).unwrap();
        let made = done(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&volume.image))
            && done(Command::new("mount").args(["-o", "loop"]).arg(&volume.image).arg(&volume.place));
        if made {
            fs::create_dir(volume.filler()).unwrap();
            return Some(volume);
        }
        assert!(std::env::var_os("VLOT_REQUIRE_VOLUMES").is_none(), "cannot mount a file system: root is needed");
        // Not by a macro, whose output the test harness would keep to itself.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: cannot mount a file system in a file: root and mkfs.ext4 are needed");
        std::mem::forget(volume);
        None
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.place
    }

    /// Leaves so many bytes free, or a few less.
    pub fn fill(&self, leave: u64) {
        // The file system needs some for itself, so that the rest goes in smaller and smaller pieces.
        let mut piece = self.free().saturating_sub(leave);
        for n in 0.. {
            let free = self.free().saturating_sub(leave);
            if free == 0 || piece < 4096 {
                break;
            }
            let bytes = piece.min(free).to_string();
            if !done(Command::new("fallocate").args(["-l", &bytes]).arg(self.filler().join(n.to_string()))) {
                piece /= 2;
            }
        }
        assert!(self.free() <= leave + (1 << 20), "{} bytes are free", self.free());
    }

    /// Takes out what fills it.
    pub fn empty(&self) {
        fs::remove_dir_all(self.filler()).unwrap();
        fs::create_dir(self.filler()).unwrap();
    }

    /// How many bytes are free.
    pub fn free(&self) -> u64 {
        let told = Command::new("stat").args(["-f", "-c", "%a %S"]).arg(&self.place).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        told.split_whitespace().map(|number| number.parse::<u64>().unwrap()).product()
    }

    /// Lets every write and sync wait.
    pub fn freeze(&self) {
        assert!(done(Command::new("fsfreeze").arg("-f").arg(&self.place)), "it is frozen");
    }

    /// The same until the value goes. A process that waits for a frozen volume cannot be ended, so that a test which fails
    /// must thaw it first.
    pub fn frozen(&self) -> Frozen<'_> {
        self.freeze();
        Frozen(self)
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        assert!(done(Command::new("fsfreeze").arg("-u").arg(&self.place)), "it is thawed");
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }
}

/// A volume that is thawed when this goes.
pub struct Frozen<'v>(&'v Volume);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        done(Command::new("fsfreeze").arg("-u").arg(&self.0.place));
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Fails if it is not frozen.
        done(Command::new("fsfreeze").arg("-u").arg(&self.place));
        done(Command::new("umount").arg("-l").arg(&self.place));
    }
}

fn done(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
