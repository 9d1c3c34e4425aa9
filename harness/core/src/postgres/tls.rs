//! TLS on the way to a server of PostgreSQL, asked for as its own programs ask for it (manual, 32.19 "SSL Support").

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use percent_encoding::percent_decode_str;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
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
    /// The client's own certificate, with those between it and its authority, in PEM.
    certificate: Option<PathBuf>,
    /// The key to it, in PEM.
    key: Option<PathBuf>,
}

impl Tls {
    /// Takes what a connection string says of TLS out of it, which the library doesn't know all of. As for PostgreSQL's programs, the
    /// default is to speak TLS if the server can.
    ///
    /// # Errors
    /// `sslmode` is none of theirs.
    pub(super) fn taken_from(url: &str) -> Result<(String, Self)> {
        let mut tls = Self { mode: SslMode::Prefer, ..Self::default() };
        let mut others = Vec::new();
        if !url.contains("://") {
            for pair in pairs(url) {
                if !tls.takes(pair, &unquoted)? {
                    others.push(pair);
                }
            }
            return Ok((others.join(" "), tls));
        }
        let (head, options) = url.split_once('?').unwrap_or((url, ""));
        for pair in options.split('&').filter(|pair| !pair.is_empty()) {
            if !tls.takes(pair, &|value| percent_decode_str(value).decode_utf8_lossy().into_owned())? {
                others.push(pair);
            }
        }
        Ok((if others.is_empty() { head.to_owned() } else { format!("{head}?{}", others.join("&")) }, tls))
    }

    fn takes(&mut self, pair: &str, decode: &dyn Fn(&str) -> String) -> Result<bool> {
        let Some((name, value)) = pair.split_once('=') else { return Ok(false) };
        let value = decode(value.trim_start());
        match name.trim_end() {
            "sslmode" => {
                self.mode = match value.as_str() {
                    "disable" => SslMode::Disable,
                    "allow" | "prefer" => SslMode::Prefer,
                    "require" => SslMode::Require,
                    "verify-ca" => SslMode::VerifyCa,
                    "verify-full" => SslMode::VerifyFull,
                    _ => {
                        return Err(Error::new(
                            SERVICE,
                            "read the connection string",
                            format!("`{pair}` is not known"),
                        )
                        .help("give disable, prefer, require, verify-ca or verify-full"));
                    }
                }
            }
            "sslrootcert" => self.roots = (value != "system").then(|| value.into()),
            "sslcert" => self.certificate = Some(value.into()),
            "sslkey" => self.key = Some(value.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What the client library needs to know.
    ///
    /// # Errors
    /// A certificate or a key can't be read, or one of the client's own is named without the other.
    pub(crate) fn client(&self) -> Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        // A file of authorities is meant to be used, whatever else is asked for; so it is for PostgreSQL's own programs.
        let is_verified = self.mode >= SslMode::VerifyCa || self.mode == SslMode::Require && self.roots.is_some();
        let authorities = if is_verified { Some(self.authorities(&provider)?) } else { None };
        let verifier = Verifier { authorities, checks_name: self.mode == SslMode::VerifyFull, provider };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&verifier.provider));
        let builder = builder.with_safe_default_protocol_versions().while_doing(SERVICE, "set TLS up")?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        match (&self.certificate, &self.key) {
            (None, None) => Ok(builder.with_no_client_auth()),
            (Some(certificate), Some(key)) => {
                let doing = || format!("read the client's key in {}", key.display());
                let key = PrivateKeyDer::from_pem_file(key).while_doing(SERVICE, doing())?;
                let chain = certificates(certificate)?;
                builder.with_client_auth_cert(chain, key).while_doing(SERVICE, "present the client's certificate")
            }
            _ => Err(Error::new(SERVICE, "read the connection string", "a client's certificate needs its key")
                .help("give both, sslcert=FILE and sslkey=FILE")),
        }
    }

    fn authorities(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
        let mut roots = RootCertStore::empty();
        match &self.roots {
            Some(file) => {
                for certificate in certificates(file)? {
                    roots.add(certificate).while_doing(SERVICE, "trust an authority's certificate")?;
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

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let doing = || format!("read the certificates in {}", file.display());
    let read = CertificateDer::pem_file_iter(file).while_doing(SERVICE, doing())?;
    read.collect::<Result<_, _>>().while_doing(SERVICE, doing())
}

/// The `name=value` of a connection string, whose values may be in quotes (manual, 32.1.1.1 "Keyword/Value Connection Strings").
fn pairs(text: &str) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let separates = |character: char| {
        if !std::mem::take(&mut is_escaped) {
            match character {
                '\\' => is_escaped = true,
                '\'' => is_quoted = !is_quoted,
                _ => return character.is_whitespace() && !is_quoted,
            }
        }
        false
    };
    text.split(separates).filter(|pair| !pair.is_empty()).collect()
}

fn unquoted(value: &str) -> String {
    let mut characters = value.chars();
    let next = || match characters.find(|&character| character != '\'') {
        Some('\\') => characters.next(),
        character => character,
    };
    std::iter::from_fn(next).collect()
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
        let of = |mode, roots: Option<&str>| Tls { mode, roots: roots.map(PathBuf::from), ..Tls::default() };
        let full = of(VerifyFull, Some("/etc/our ca.pem"));
        let own = Tls { certificate: Some("me.pem".into()), key: Some("it's.key".into()), ..of(Prefer, None) };
        for (url, rest, tls) in [
            ("postgres://me@a/shop", "postgres://me@a/shop", of(Prefer, None)),
            ("postgres://me@a/shop?sslmode=disable", "postgres://me@a/shop", of(Disable, None)),
            (
                "postgres://me@a/shop?connect_timeout=3&sslmode=verify-full&sslrootcert=%2Fetc%2Four%20ca.pem",
                "postgres://me@a/shop?connect_timeout=3",
                full.clone(),
            ),
            ("host=a user=me sslrootcert='/etc/our ca.pem' sslmode=verify-full", "host=a user=me", full),
            ("host=a sslrootcert=system", "host=a", of(Prefer, None)),
            (r"host=a sslcert=me.pem sslkey='it\'s.key' password='a b'", "host=a password='a b'", own.clone()),
            ("postgres://a/b?sslcert=me.pem&sslkey=it's.key", "postgres://a/b", own),
        ] {
            assert_eq!(Tls::taken_from(url)?, (rest.to_owned(), tls), "{url}");
        }
        let error = Tls::taken_from("postgres://a/b?sslmode=yes").err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("verify-full")));
        Ok(())
    }

    #[test]
    fn what_can_not_be_read_is_named() {
        let file = || Some(PathBuf::from("/nonexistent.pem"));
        for (tls, told) in [
            (Tls { mode: SslMode::VerifyFull, roots: file(), ..Tls::default() }, "/nonexistent.pem"),
            (Tls { certificate: file(), key: file(), ..Tls::default() }, "/nonexistent.pem"),
            (Tls { certificate: file(), ..Tls::default() }, "sslkey=FILE"),
        ] {
            let error = tls.client().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(told), "{error}");
        }
    }
}
