//! The files that keys are read from, at the start and whenever they change.
//!
//! Owns when a file counts as changed. What is read must be whole and good before it takes the place of what was there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};

use super::Jwt;
use super::keys::{BadKeys, Keys};
use crate::config::{JwtOptions, SignMethod};

/// How often the files are read. They are small, and a change of their times alone would miss some changes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// No key is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The files that keys come from, and what they held last.
pub(crate) struct KeyFiles {
    options: JwtOptions,
    seen: Content,
    jwt: Arc<Jwt>,
}

/// What the files hold.
#[derive(Default, Eq, PartialEq)]
struct Content {
    public: Option<Vec<u8>>,
    private: Option<Vec<u8>>,
}

impl Content {
    fn read(options: &JwtOptions) -> Result<Content, BadKeys> {
        let read = |file: &Option<PathBuf>| file.as_ref().map(content).transpose();
        Ok(Content { public: read(&options.public_key)?, private: read(&options.private_key)? })
    }

    fn keys(&self, method: SignMethod) -> Result<Keys, BadKeys> {
        Keys::read(method, self.public.as_deref(), self.private.as_deref())
    }
}

fn content(file: &PathBuf) -> Result<Vec<u8>, BadKeys> {
    use std::io::Read;
    let mut content = Vec::new();
    let read = std::fs::File::open(file).and_then(|open| open.take(FILE_BYTES_MAX).read_to_end(&mut content));
    read.map_err(|error| BadKeys::Io { file: file.clone(), error })?;
    Ok(content)
}

impl KeyFiles {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// Says which file is not as it should be.
    pub(in super::super) fn open(options: JwtOptions) -> Result<(Arc<Jwt>, KeyFiles), BadKeys> {
        let seen = Content::read(&options)?;
        let keys = seen.keys(options.method)?;
        let jwt = Arc::new(Jwt::new(options.method, options.ttl, keys));
        Ok((jwt.clone(), KeyFiles { options, seen, jwt }))
    }

    /// Reads the files again and again, for ever.
    pub(crate) async fn watch(mut self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            // It does not panic; if it did, the keys would stay as they are.
            let Ok(same) = looked.await else { return };
            self = same;
        }
    }

    /// Takes what the files hold if it has changed and is good; otherwise the keys stay, and a line says why, once.
    fn look(&mut self) {
        let content = match Content::read(&self.options) {
            Ok(content) if content == self.seen => return,
            Ok(content) => content,
            Err(refused) => {
                // A file that is away for a while is told of when it goes, and read when it is back.
                if self.seen != Content::default() {
                    self.seen = Content::default();
                    error!(%refused, "the keys of --auth-token stay as they are");
                }
                return;
            }
        };
        match content.keys(self.options.method) {
            Ok(keys) => {
                info!(verifying = keys.verifiers(), signs = keys.can_sign(), "new keys of --auth-token");
                self.jwt.replace(keys);
            }
            Err(refused) => error!(%refused, "the keys of --auth-token stay as they are"),
        }
        self.seen = content;
    }
}
