//! Certificates for tests: a CA of their own, and what it signs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rcgen::{CertificateParams, Issuer, KeyPair};
use time::OffsetDateTime;
use vlot::Tls;
use vlot::tls::KeyPairFiles;
use vlot::tls::make::{self, Ends, Order};

/// A CA in a directory of its own.
#[derive(Debug)]
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("certificates-{}-{number}", std::process::id()));
        // What an earlier process of this number left behind.
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let made = Self { dir };
        make::authority(name, 10).unwrap().write(&made.files("ca")).unwrap();
        made
    }

    /// Mutual TLS with a new certificate of that common name for these hosts.
    pub fn tls(&self, name: &str, hosts: &[&str]) -> Tls {
        self.tls_with(name, hosts, self)
    }

    /// The same, where the other ends must be of another CA.
    pub fn tls_with(&self, name: &str, hosts: &[&str], trusted: &Self) -> Tls {
        let own = self.files(name);
        if !own.cert.exists() {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            let order = Order { common_name: name.to_owned(), hosts, ends: Ends::Both, days: 5 };
            make::signed(&self.files("ca"), &order).unwrap().write(&own).unwrap();
        }
        Tls::new(own.cert, own.key, trusted.files("ca").cert)
    }

    /// Mutual TLS with a certificate that was good until yesterday.
    pub fn expired(&self, name: &str, hosts: &[&str]) -> Tls {
        let authority = self.files("ca");
        let read = |path| std::fs::read_to_string(path).unwrap();
        let signer = KeyPair::from_pem(&read(&authority.key)).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&read(&authority.cert), signer).unwrap();
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.not_after = OffsetDateTime::now_utc() - time::Duration::days(1);
        params.not_before = params.not_after - time::Duration::days(1);
        let key = KeyPair::generate().unwrap();
        let own = self.files(name);
        std::fs::write(&own.cert, params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        std::fs::write(&own.key, key.serialize_pem()).unwrap();
        Tls::new(own.cert, own.key, authority.cert)
    }

    pub fn files(&self, name: &str) -> KeyPairFiles {
        KeyPairFiles { cert: self.dir.join(format!("{name}.crt")), key: self.dir.join(format!("{name}.key")) }
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
