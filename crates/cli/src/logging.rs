//! The process's log: one line per fact, on stderr unless told otherwise.

use tracing_subscriber::fmt::writer::BoxMakeWriter;

use vlot_server::config::Logging;

/// Starts logging for the whole process. A second call changes nothing.
pub(crate) fn start(logging: &Logging) {
    let writer = match logging.to_stdout {
        true => BoxMakeWriter::new(std::io::stdout),
        false => BoxMakeWriter::new(std::io::stderr),
    };
    let lines = tracing_subscriber::fmt().with_max_level(logging.level).with_writer(writer).with_target(false);
    // The only failure is that another logger is set already.
    let _ = match logging.json {
        true => lines.json().flatten_event(true).try_init(),
        false => lines.with_ansi(false).try_init(),
    };
}
