//! TLS by rustls: the certificate and the key of the service.

use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use transload::block::{Error, ErrorKind, Result};

use crate::config::TlsFiles;

/// What takes TLS connections with the certificate of `files`.
///
/// # Errors
/// `InvalidInput` when the files hold no certificate or key, or these do not belong together.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let certificate = files.certificate.display();
    let wrong = |what: String| Error::new(ErrorKind::InvalidInput, what);
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(format!("{certificate}: {error}")))?;
    if chain.is_empty() {
        return Err(wrong(format!("{certificate}: has no certificate in PEM")));
    }
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(format!("{}: {error}", files.key.display())))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| wrong(format!("{certificate}: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
