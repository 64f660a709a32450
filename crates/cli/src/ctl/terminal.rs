//! Questions to the user at the terminal: passwords, read without showing them.

use std::io::{self, BufRead, Write};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use tokio::signal::unix::SignalKind;
use tokio::sync::oneshot;

use super::show;
use crate::signals;

/// How a shell reports a program that SIGINT has ended.
const ENDED_BY_INTERRUPT: i32 = 130;

/// Why a question has no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Standard input has ended.
    Ended,
    Unreadable(io::Error),
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended => f.write_str("failed during password entry: EOF"),
            Self::Unreadable(error) => write!(f, "failed during password entry: {error}"),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// Asks for a password. A terminal does not show what is typed; elsewhere it is a line of standard input.
///
/// # Errors
/// [`NoAnswer`].
pub async fn ask_password(question: &str) -> Result<String, NoAnswer> {
    // A question that cannot be shown is still one that can be answered.
    let _ = show(question.as_bytes());
    let _ = io::stdout().flush();
    let hidden = HiddenInput::begin();
    let (sender, answer) = oneshot::channel();
    // A thread, because reading standard input blocks.
    std::thread::spawn(move || sender.send(line_of_stdin()));
    let answer = tokio::select! {
        answer = answer => answer.unwrap_or(Err(NoAnswer::Ended)),
        () = signals::received(SignalKind::interrupt()) => {
            drop(hidden);
            std::process::exit(ENDED_BY_INTERRUPT);
        }
    };
    drop(hidden);
    let _ = show(b"\n");
    answer
}

fn line_of_stdin() -> Result<String, NoAnswer> {
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) => Err(NoAnswer::Ended),
        Ok(_) => Ok(line.trim().to_owned()),
        Err(error) => Err(NoAnswer::Unreadable(error)),
    }
}

/// The terminal shows nothing of what is typed while this exists.
struct HiddenInput {
    /// How the terminal was; `None` if standard input is none.
    before: Option<Termios>,
}

impl HiddenInput {
    fn begin() -> HiddenInput {
        let before = termios::tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut hidden = before.clone();
            hidden.local_modes.remove(LocalModes::ECHO);
            // A terminal that cannot hide what is typed still lets it be typed.
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &hidden);
        }
        HiddenInput { before }
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
