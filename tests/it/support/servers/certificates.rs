//! Certificates of the tests' own authorities.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

/// An authority that signs certificates into a folder. Its own is `NAME.pem` there.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Its certificate.
    pub(crate) file: PathBuf,
}

/// A certificate and its key, in PEM.
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, as Kafka reads them.
    pub(crate) both: PathBuf,
}

impl Authority {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("a certificate");
        let file = folder.join(name).with_extension("pem");
        std::fs::write(&file, issuer.pem()).expect("room for a certificate");
        Self {
            folder: folder.to_owned(),
            issuer,
            file,
        }
    }

    /// Issues a certificate for these hosts, or for the user `name` where there are none.
    pub(crate) fn issue(&self, name: &str, hosts: &[&str]) -> Identity {
        self.sign(name, params(name, hosts))
    }

    /// Issues one that has expired.
    pub(crate) fn issue_expired(&self, name: &str, hosts: &[&str]) -> Identity {
        let mut params = params(name, hosts);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.sign(name, params)
    }

    fn sign(&self, name: &str, params: CertificateParams) -> Identity {
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        let write = |ending: &str, text: &str| {
            let path = self.folder.join(name).with_extension(ending);
            std::fs::write(&path, text).expect("room for a certificate");
            path
        };
        Identity {
            both: write("both", &format!("{key}{certificate}")),
            certificate: write("crt", &certificate),
            key: write("key", &key),
        }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names of hosts");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
