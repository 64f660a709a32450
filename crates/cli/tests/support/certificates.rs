//! Certificates that the `openssl` program makes, good ones and bad ones, in a directory of their own.
//!
//! Owns how openssl is asked. Must not know what is done with them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::TempDir;
use super::process::{Output, run};

const PATIENCE: Duration = Duration::from_secs(20);

/// Whether there is an `openssl`. Tests that need one must not pass without it where that is required.
///
/// # Panics
/// If there is none and `VLOT_REQUIRE_ETCD` is set: the gate has both.
pub fn has_openssl() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !found {
        assert!(std::env::var_os("VLOT_REQUIRE_ETCD").is_none(), "openssl not found: install it");
        // Not by a macro, whose output the test harness would keep to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: openssl not found: TLS is not tested");
    }
    found
}

/// A directory of CAs and certificates.
pub struct Certificates {
    dir: TempDir,
}

/// A certificate that is to be made.
#[derive(Clone, Debug)]
pub struct Leaf<'l> {
    pub name: &'l str,
    /// Its common name.
    pub cn: &'l str,
    pub ca: &'l str,
    /// `subjectAltName`, as openssl wants it; empty for none.
    pub names: &'l str,
    /// `extendedKeyUsage`, as openssl wants it; empty for none.
    pub usage: &'l str,
    pub key: &'l str,
    /// From when to when it is good, as openssl's `ca` wants it.
    pub dates: (&'l str, &'l str),
}

/// Good for years.
pub const GOOD: (&str, &str) = ("20200101000000Z", "20991231235959Z");
pub const EXPIRED: (&str, &str) = ("20200101000000Z", "20210101000000Z");
pub const NOT_YET: (&str, &str) = ("20980101000000Z", "20991231235959Z");
/// Kinds of keys.
pub const P256: &str = "ec:P-256";
pub const P384: &str = "ec:P-384";
pub const RSA: &str = "rsa:2048";
pub const ED25519: &str = "ed25519";

impl Leaf<'_> {
    pub fn server(name: &str) -> Leaf<'_> {
        let names = "DNS:localhost,IP:127.0.0.1";
        Leaf { name, cn: name, ca: "ca", names, usage: "serverAuth", key: P256, dates: GOOD }
    }

    pub fn client(name: &str) -> Leaf<'_> {
        Leaf { names: "", usage: "clientAuth", ..Leaf::server(name) }
    }
}

impl Certificates {
    pub fn new(name: &str) -> Certificates {
        let certificates = Certificates { dir: TempDir::new(name) };
        certificates.ca("ca");
        certificates
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// As text, for a command line.
    pub fn file(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// Makes a CA of this name: `NAME.crt`, `NAME.key`, and what openssl keeps of what it signs.
    pub fn ca(&self, name: &str) {
        let config = format!(
            "[ca]\ndefault_ca=this\n[this]\ndir=.\ndatabase={name}.index\nserial={name}.serial\nnew_certs_dir=.\n\
             certificate={name}.crt\nprivate_key={name}.key\ndefault_md=sha256\ndefault_crl_days=30\npolicy=any\n\
             unique_subject=no\n[any]\ncommonName=optional\n"
        );
        self.write(&format!("{name}.cnf"), &config);
        self.write(&format!("{name}.index"), "");
        self.write(&format!("{name}.serial"), "1000\n");
        self.key(&format!("{name}.key"), P256);
        let subject = format!("/CN={name}");
        let extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign,cRLSign"];
        self.openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.crt"),
            "-days",
            "3650",
            "-subj",
            &subject,
            "-addext",
            extensions[0],
            "-addext",
            extensions[1],
        ]);
    }

    /// Makes a certificate that a CA signs: `NAME.crt` and `NAME.key`.
    pub fn sign(&self, leaf: &Leaf<'_>) {
        let Leaf { name, cn, ca, names, usage, key, dates: (from, until) } = leaf;
        self.key(&format!("{name}.key"), key);
        let subject = format!("/CN={cn}");
        let request = format!("{name}.csr");
        self.openssl(&["req", "-new", "-key", &format!("{name}.key"), "-subj", &subject, "-out", &request]);
        let mut extensions = String::from("basicConstraints=CA:FALSE\n");
        for (extension, value) in [("subjectAltName", names), ("extendedKeyUsage", usage)] {
            if !value.is_empty() {
                extensions.push_str(&format!("{extension}={value}\n"));
            }
        }
        self.write(&format!("{name}.ext"), &extensions);
        self.openssl(&[
            "ca",
            "-batch",
            "-notext",
            "-config",
            &format!("{ca}.cnf"),
            "-in",
            &request,
            "-out",
            &format!("{name}.crt"),
            "-startdate",
            from,
            "-enddate",
            until,
            "-extfile",
            &format!("{name}.ext"),
        ]);
    }

    /// Makes a certificate that is its own CA, which is how many make their first one.
    pub fn self_signed(&self, name: &str) {
        self.key(&format!("{name}.key"), P256);
        self.openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.crt"),
            "-days",
            "30",
            "-subj",
            "/CN=self",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ]);
    }

    /// Revokes one, and writes the CA's list anew: `CA.crl`.
    pub fn revoke(&self, ca: &str, name: &str) {
        self.openssl(&["ca", "-config", &format!("{ca}.cnf"), "-revoke", &format!("{name}.crt")]);
        self.list_revoked(ca);
    }

    /// Writes the CA's list: `CA.crl`.
    pub fn list_revoked(&self, ca: &str) {
        self.openssl(&["ca", "-config", &format!("{ca}.cnf"), "-gencrl", "-out", &format!("{ca}.crl.new")]);
        // At once: whoever reads it reads the old one or the new one.
        fs::rename(self.path(&format!("{ca}.crl.new")), self.path(&format!("{ca}.crl"))).unwrap();
    }

    /// Puts one file in the place of another.
    pub fn copy(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
    }

    pub fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    /// Runs openssl in the directory; it must succeed.
    pub fn openssl(&self, arguments: &[&str]) -> Output {
        let output = self.try_openssl(arguments, "");
        assert!(output.succeeded(), "openssl {arguments:?}: {output:?}");
        output
    }

    /// Runs openssl in the directory.
    pub fn try_openssl(&self, arguments: &[&str], input: &str) -> Output {
        run(Command::new("openssl").args(arguments).current_dir(self.dir.path()), input, PATIENCE)
    }

    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    fn key(&self, file: &str, kind: &str) {
        let (algorithm, option) = kind.split_once(':').unwrap_or((kind, ""));
        let option = match algorithm {
            "ec" => format!("ec_paramgen_curve:{option}"),
            "rsa" => format!("rsa_keygen_bits:{option}"),
            _ => String::new(),
        };
        let mut arguments = vec!["genpkey", "-algorithm", algorithm, "-out", file];
        if !option.is_empty() {
            arguments.extend(["-pkeyopt", &option]);
        }
        self.openssl(&arguments);
    }
}
