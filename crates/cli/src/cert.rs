//! `vlot cert`: a CA, and the certificates that servers, peers and clients need, each by one command.
//!
//! Owns the flags, the names of files, and what is printed. What is in a certificate, and that nothing is overwritten, is
//! the business of `vlot_tls::make`.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use vlot_tls::KeyPairFiles;
use vlot_tls::make::{self, Ends, MakeError, Order};

#[derive(Parser)]
#[command(name = "cert", about = "Make a CA, and certificates of servers, peers and clients that it signs")]
struct Cert {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Subcommand)]
enum Kind {
    /// Make a CA. Its key makes everything else: keep it where no server is
    Ca {
        #[command(flatten)]
        place: Place,
        /// Its name, and that of its files
        #[arg(long, default_value = "ca")]
        name: String,
        /// How long it is good
        #[arg(long, default_value_t = 3650)]
        days: u32,
    },
    /// Make what a server shows its clients
    Server {
        #[command(flatten)]
        signed: Signed,
        /// Its name, and that of its files
        #[arg(long, default_value = "server")]
        name: String,
        /// A name or an IP address by which clients dial it; may be given several times
        #[arg(long = "host", value_delimiter = ',', required = true)]
        hosts: Vec<String>,
    },
    /// Make what a member shows other members, when it dials and when it is dialled
    Peer {
        #[command(flatten)]
        signed: Signed,
        /// Its name, and that of its files
        #[arg(long, default_value = "peer")]
        name: String,
        /// A name or an IP address by which other members dial it; may be given several times
        #[arg(long = "host", value_delimiter = ',', required = true)]
        hosts: Vec<String>,
    },
    /// Make what a client shows
    Client {
        #[command(flatten)]
        signed: Signed,
        /// Its name, and that of its files; to a server that knows users by certificates, the user
        #[arg(long)]
        name: String,
    },
}

#[derive(Args)]
struct Place {
    /// Where the files are made
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

#[derive(Args)]
struct Signed {
    #[command(flatten)]
    place: Place,
    /// The CA's certificate [default: ca.crt in the same directory]
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// The CA's key [default: ca.key in the same directory]
    #[arg(long, value_name = "FILE")]
    ca_key: Option<PathBuf>,
    /// How long it is good
    #[arg(long, default_value_t = 365)]
    days: u32,
}

/// The command and its flags, for the program's root command.
pub fn command() -> Command {
    Cert::command()
}

/// Makes what the command's matches ask for.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let outcome = Cert::from_arg_matches(matches).map_err(CertError::Flags).and_then(|cert| made(&cert.kind));
    match outcome {
        Ok(files) => {
            let said = writeln!(std::io::stdout(), "{}\n{}", files.cert.display(), files.key.display());
            if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn made(kind: &Kind) -> Result<KeyPairFiles, CertError> {
    let (signed, name, hosts, ends) = match kind {
        Kind::Ca { place, name, days } => {
            let files = files(&place.dir, name)?;
            make::authority(name, *days).and_then(|made| made.write(&files)).map_err(CertError::Make)?;
            return Ok(files);
        }
        Kind::Server { signed, name, hosts } => (signed, name, hosts.clone(), Ends::Server),
        Kind::Peer { signed, name, hosts } => (signed, name, hosts.clone(), Ends::Both),
        Kind::Client { signed, name } => (signed, name, Vec::new(), Ends::Client),
    };
    let Signed { place, ca_cert, ca_key, days } = signed;
    let files = files(&place.dir, name)?;
    let in_place = |given: &Option<PathBuf>, usual: &str| given.clone().unwrap_or_else(|| place.dir.join(usual));
    let authority = KeyPairFiles { cert: in_place(ca_cert, "ca.crt"), key: in_place(ca_key, "ca.key") };
    let order = Order { common_name: name.clone(), hosts, ends, days: *days };
    make::signed(&authority, &order).and_then(|made| made.write(&files)).map_err(CertError::Make)?;
    Ok(files)
}

/// The files of a certificate of this name. A name is no path: what it makes stays where it was asked for.
fn files(dir: &Path, name: &str) -> Result<KeyPairFiles, CertError> {
    let is_file_name = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    if !is_file_name {
        return Err(CertError::Name(name.to_owned()));
    }
    Ok(KeyPairFiles { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) })
}

/// Why no certificate is made.
#[derive(Debug)]
enum CertError {
    Flags(clap::Error),
    /// It cannot be the name of files.
    Name(String),
    Make(MakeError),
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flags(error) => error.fmt(f),
            Self::Name(name) => write!(f, "--name={name}: it is the name of files too, and cannot be that"),
            Self::Make(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CertError {}
