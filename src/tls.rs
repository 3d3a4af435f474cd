//! Certificates: checks the files before anything is opened, and explains why a certificate was
//! rejected.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, RootCertStore};

/// Time-out of each step of a handshake that only asks.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Distrust {
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

/// Checks that the file has certificates of authorities, and that each can be read.
pub(crate) fn check_roots(path: &Path) -> Result<(), String> {
    roots(path).map(drop)
}

pub(crate) fn check_certificates(path: &Path) -> Result<(), String> {
    certificates(path).map(drop)
}

pub(crate) fn check_identity(certificate: &Path, key: &Path) -> Result<(), String> {
    let chain = certificates(certificate)?;
    let shown = key.display();
    // The library's message would quote the file.
    let key = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|_| format!("{shown} has no private key in PEM without a password"))?;
    match trusting(RootCertStore::empty())?.with_client_auth_cert(chain, key) {
        Ok(_) => Ok(()),
        Err(Error::InconsistentKeys(_)) => Err(format!(
            "the key in {shown} does not belong to the certificate in {}",
            certificate.display()
        )),
        Err(_) => Err(format!(
            "the certificate in {} or the key in {shown} cannot be used: they are damaged or of an unknown kind",
            certificate.display()
        )),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!(
            "{shown} has no certificate in PEM (-----BEGIN CERTIFICATE-----)"
        )),
    }
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let damaged = |_| format!("{} has a certificate that is damaged", path.display());
        roots.add(certificate).map_err(damaged)?;
    }
    Ok(roots)
}

fn trusting(
    roots: RootCertStore,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, String> {
    // Named explicitly, so that nothing depends on which provider the process has chosen.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots))
}

/// Returns the configuration of a client that trusts the system's certificate authorities.
#[cfg(feature = "otel")]
pub(crate) fn client() -> Result<ClientConfig, String> {
    Ok(trusting(system_roots())?.with_no_client_auth())
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Explains what a failed handshake says about trust. `None`: it failed for another reason.
/// `authority` is the setting that names the certificates to trust.
pub(crate) fn distrust(error: &io::Error, authority: &str) -> Option<Distrust> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let (problem, remedy) = match error {
        Error::InvalidCertificate(fault) => fault_of(fault, authority),
        Error::AlertReceived(alert) => (
            format!("the server ended the handshake with `{alert:?}`"),
            "if it asks for a certificate, give it one that it trusts and that has not expired"
                .into(),
        ),
        Error::PeerIncompatible(_) => (
            "the server offers no safe version of TLS".into(),
            "allow TLS 1.2 or newer at the server".into(),
        ),
        _ => return None,
    };
    Some(Distrust { problem, remedy })
}

fn fault_of(fault: &CertificateError, authority: &str) -> (String, String) {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            "the server's certificate has expired".into(),
            "renew it there, or correct the clock of this machine".into(),
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            "the server's certificate is not valid yet".into(),
            "correct the clocks of both machines".into(),
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("the server's certificate is for another host ({fault})"),
            "connect by a name that the certificate has, or get one for this name".into(),
        ),
        CertificateError::UnknownIssuer => (
            "the server's certificate comes from an authority that is not trusted here".into(),
            format!("name the authority's certificate as {authority}"),
        ),
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => (
            "the server's certificate is that of an authority itself, as `openssl req -x509` makes it".into(),
            format!("have the server use one that is signed by it, and name the authority's as {authority}"),
        ),
        other => (
            format!("the server's certificate is not accepted: {other}"),
            "get a new certificate for the server".into(),
        ),
    }
}

/// Performs a handshake only to learn why the server's certificate is rejected. `None`: it is
/// accepted, or there was no handshake. Blocks.
///
/// It is for libraries that say no more than "verify failed". Without `root_file` the system's
/// authorities are trusted.
pub(crate) fn ask(
    host: &str,
    port: u16,
    root_file: Option<&Path>,
    authority: &str,
) -> Option<Distrust> {
    let trusted = match root_file {
        Some(path) => roots(path).ok()?,
        None => system_roots(),
    };
    let config = trusting(trusted).ok()?.with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut addresses = (host, port).to_socket_addrs().ok()?;
    let mut socket =
        addresses.find_map(|address| TcpStream::connect_timeout(&address, PATIENCE).ok())?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    socket.set_write_timeout(Some(PATIENCE)).ok()?;
    let shaken = connection.complete_io(&mut socket);
    distrust(&shaken.err()?, authority)
}
