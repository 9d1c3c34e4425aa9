//! TLS on the way to a server of PostgreSQL, asked for as its own programs ask for it (manual, 32.19 "SSL Support").

use std::{path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use super::SERVICE;
use crate::error::{Context, Error, Result};

/// How far a connection is protected (manual, 32.19.3, table 32.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub(crate) enum SslMode {
    /// Not at all.
    #[default]
    Disable,
    /// Against listeners, if the server can.
    Prefer,
    /// Against listeners.
    Require,
    /// And against servers whose certificate no trusted authority has signed.
    VerifyCa,
    /// And against servers of another name.
    VerifyFull,
}

/// What a connection string says of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) mode: SslMode,
    /// Certificates of the authorities to trust, in PEM; without, those that this machine trusts.
    roots: Option<PathBuf>,
}

impl Tls {
    /// Takes what a connection string says of TLS out of it, which the library doesn't know all of. As for PostgreSQL's programs, the
    /// default is to speak TLS if the server can.
    ///
    /// # Errors
    /// `sslmode` is none of theirs, or certificates of the client are named, which aren't supported.
    pub(super) fn taken_from(url: &str) -> Result<(String, Self)> {
        let mut tls = Self { mode: SslMode::Prefer, roots: None };
        let (head, options, separator) = match url.split_once('?') {
            _ if !url.contains("://") => ("", url, " "),
            Some((head, options)) => (head, options, "&"),
            None => return Ok((url.to_owned(), tls)),
        };
        let mut others = Vec::new();
        for option in options.split(separator) {
            if !tls.takes(option)? {
                others.push(option);
            }
        }
        let mark = if head.is_empty() || others.is_empty() { "" } else { "?" };
        Ok((format!("{head}{mark}{}", others.join(separator)), tls))
    }

    fn takes(&mut self, option: &str) -> Result<bool> {
        let Some((name, value)) = option.split_once('=') else { return Ok(false) };
        let wrong = |cause: String| Error::new(SERVICE, "read the connection string", cause);
        match name {
            "sslmode" => {
                self.mode = match value {
                    "disable" => SslMode::Disable,
                    "allow" | "prefer" => SslMode::Prefer,
                    "require" => SslMode::Require,
                    "verify-ca" => SslMode::VerifyCa,
                    "verify-full" => SslMode::VerifyFull,
                    _ => {
                        return Err(wrong(format!("`{option}` is not known"))
                            .help("give disable, prefer, require, verify-ca or verify-full"));
                    }
                }
            }
            "sslrootcert" => self.roots = (value != "system").then(|| PathBuf::from(value.replace("%2F", "/"))),
            "sslcert" | "sslkey" => return Err(wrong("a client's certificates aren't supported".to_owned())),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What the client library needs to know.
    ///
    /// # Errors
    /// The authorities' certificates can't be read.
    pub(crate) fn client(&self) -> Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        // A file of authorities is meant to be used, whatever else is asked for; so it is for PostgreSQL's own programs.
        let is_verified = self.mode >= SslMode::VerifyCa || self.mode == SslMode::Require && self.roots.is_some();
        let authorities = if is_verified { Some(self.authorities(&provider)?) } else { None };
        let verifier = Verifier { authorities, checks_name: self.mode == SslMode::VerifyFull, provider };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&verifier.provider));
        let builder = builder.with_safe_default_protocol_versions().while_doing(SERVICE, "set TLS up")?;
        Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
    }

    fn authorities(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
        let mut roots = RootCertStore::empty();
        match &self.roots {
            Some(file) => {
                let doing = || format!("read the authorities' certificates in {}", file.display());
                for certificate in CertificateDer::pem_file_iter(file).while_doing(SERVICE, doing())? {
                    roots.add(certificate.while_doing(SERVICE, doing())?).while_doing(SERVICE, doing())?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        let verifier = verifier.while_doing(SERVICE, "verify certificates");
        verifier.map_err(|error| error.help("name the authorities' certificates, sslrootcert=FILE"))
    }
}

/// Verifies as much of a server's certificate as its mode asks for.
#[derive(Debug)]
struct Verifier {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    checks_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        match authorities.verify_server_cert(certificate, between, name, ocsp, now) {
            Err(TlsError::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) if !self.checks_name => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_string_says_of_tls_is_taken_out_of_it() -> Result<()> {
        use SslMode::{Disable, Prefer, VerifyFull};
        let roots = Some(PathBuf::from("/etc/ca.pem"));
        for (url, rest, mode, roots) in [
            ("postgres://me@a/shop", "postgres://me@a/shop", Prefer, None),
            ("postgres://me@a/shop?sslmode=disable", "postgres://me@a/shop", Disable, None),
            (
                "postgres://me@a/shop?connect_timeout=3&sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem",
                "postgres://me@a/shop?connect_timeout=3",
                VerifyFull,
                roots.clone(),
            ),
            ("host=a user=me sslrootcert=/etc/ca.pem sslmode=verify-full", "host=a user=me", VerifyFull, roots),
            ("host=a sslrootcert=system", "host=a", Prefer, None),
        ] {
            assert_eq!(Tls::taken_from(url)?, (rest.to_owned(), Tls { mode, roots }), "{url}");
        }
        for (wrong, told) in [("postgres://a/b?sslmode=yes", "verify-full"), ("host=a sslcert=me.pem", "client")] {
            let error = Tls::taken_from(wrong).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(told), "{wrong}: {error}");
        }
        Ok(())
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let tls = Tls { mode: SslMode::VerifyFull, roots: Some("/nonexistent/ca.pem".into()) };
        let error = tls.client().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("/nonexistent/ca.pem"), "{error}");
    }
}
