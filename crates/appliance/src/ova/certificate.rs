//! The certificate file of a signed OVF package: the manifest's signature, and the X.509 certificate of its signer (DMTF
//! DSP0243 2.1.1, section 6.4).
//!
//! ```text
//! SHA256(machine.mf)= 51a0…7e        RSA with PKCS#1 v1.5 padding over the manifest's digest
//! -----BEGIN CERTIFICATE----- …      the signer's certificate first; those above it may follow
//! ```
//!
//! Whether the signer is to be trusted is not decided here: only that the manifest is what the key of the certificate has
//! signed.

use std::fmt;

use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey;
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use transload_block::{Error, ErrorKind, Result};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode, EncodePem, pem};

use super::manifest::{ManifestAlgorithm, ManifestEntry, parse_line};

/// The most bytes of a certificate file that are read; a chain of ten has some twenty thousand.
pub const CERTIFICATE_MAX: u64 = 256 << 10;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// The front of what is signed, which names the function (RFC 8017, section 9.2, note 1).
fn digest_info(algorithm: ManifestAlgorithm) -> &'static [u8] {
    match algorithm {
        ManifestAlgorithm::Sha1 => b"\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14",
        ManifestAlgorithm::Sha256 => b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
        ManifestAlgorithm::Sha512 => b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
    }
}

fn scheme(algorithm: ManifestAlgorithm) -> Pkcs1v15Sign {
    Pkcs1v15Sign { hash_len: Some(algorithm.length()), prefix: digest_info(algorithm).into() }
}

fn digest(algorithm: ManifestAlgorithm, manifest: &[u8]) -> Vec<u8> {
    let mut hasher = algorithm.hasher();
    hasher.update(manifest);
    hasher.finish()
}

/// A certificate file that was read.
#[derive(Clone, Debug)]
pub struct SignatureFile {
    /// The manifest's name, the function and the signature.
    pub entry: ManifestEntry,
    certificate: Certificate,
}

impl SignatureFile {
    /// Reads a certificate file.
    ///
    /// # Errors
    /// `Corrupt` when it has no signature, or no certificate that can be read; `TooLarge`.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let corrupt = |what: &str| Error::new(ErrorKind::Corrupt, format!("certificate file: {what}"));
        if text.len() as u64 > CERTIFICATE_MAX {
            return Err(Error::new(ErrorKind::TooLarge, format!("certificate file of {} bytes", text.len())));
        }
        let text = str::from_utf8(text).map_err(|_| corrupt("not UTF-8"))?;
        let (front, _) = text.split_once(BEGIN).ok_or_else(|| corrupt("there is no certificate in it"))?;
        let line = front.lines().map(str::trim).find(|line| !line.is_empty());
        let entry = parse_line(line.ok_or_else(|| corrupt("there is no signature in it"))?, &mut Vec::new())
            .map_err(|error| error.context("certificate file"))?;
        let certificate = first_certificate(text).ok_or_else(|| corrupt("the certificate cannot be read"))?;
        Ok(Self { entry, certificate })
    }

    /// Whom the certificate is for.
    #[must_use]
    pub fn subject(&self) -> String {
        self.certificate.tbs_certificate().subject().to_string()
    }

    /// Who signed the certificate.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.certificate.tbs_certificate().issuer().to_string()
    }

    /// The last moment at which the certificate counts, in UTC.
    #[must_use]
    pub fn valid_until(&self) -> String {
        self.certificate.tbs_certificate().validity().not_after.to_string()
    }

    /// Proves that the certificate's key has signed `manifest`, byte for byte.
    ///
    /// # Errors
    /// `Checksum` when it has not; `Unsupported` for a key that is not RSA of 1024 to 8192 bits.
    pub fn verify(&self, manifest: &[u8]) -> Result<()> {
        let key = public_key(&self.certificate)?;
        let digest = digest(self.entry.algorithm, manifest);
        key.verify(scheme(self.entry.algorithm), &digest, &self.entry.value).map_err(|_| {
            let text = "the signature in the certificate file is not of this manifest";
            Error::new(ErrorKind::Checksum, text)
        })
    }
}

/// The first certificate of a text.
fn first_certificate(text: &str) -> Option<Certificate> {
    const END: &str = "-----END CERTIFICATE-----";
    let begin = text.find(BEGIN)?;
    let end = begin + text[begin..].find(END)? + END.len();
    let (_, bytes) = pem::decode_vec(text.get(begin..end)?.replace('\r', "").as_bytes()).ok()?;
    Certificate::from_der(&bytes).ok()
}

fn public_key(certificate: &Certificate) -> Result<RsaPublicKey> {
    let unsupported = || {
        let text = "certificate: the key is not RSA of 1024 to 8192 bits, which OVF packages are signed with";
        Error::new(ErrorKind::Unsupported, text)
    };
    let info = certificate.tbs_certificate().subject_public_key_info().to_der().map_err(|_| unsupported())?;
    let info = rsa::pkcs8::SubjectPublicKeyInfoRef::from_der(&info).map_err(|_| unsupported())?;
    RsaPublicKey::try_from(info).map_err(|_| unsupported())
}

/// Signs manifests.
pub struct Signer {
    key: RsaPrivateKey,
    /// The certificates as they go into the file.
    certificates: String,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer with the private key in `key` (PEM, PKCS#8 or PKCS#1) and the certificate for it in `certificate` (PEM, the
    /// signer's own first).
    ///
    /// # Errors
    /// `InvalidInput` when one cannot be read, or they do not belong together; `Unsupported` for keys that are not RSA or
    /// are encrypted.
    pub fn new(key: &str, certificate: &str) -> Result<Self> {
        let invalid = |what: &str| Error::new(ErrorKind::InvalidInput, format!("signing: {what}"));
        if key.contains("ENCRYPTED") {
            let error = Error::new(ErrorKind::Unsupported, "signing: the private key is encrypted");
            return Err(error.with_remedy("decrypt it with `openssl pkey -in KEY -out PLAIN`"));
        }
        if key.contains("BEGIN EC PRIVATE KEY") {
            return Err(Error::new(ErrorKind::Unsupported, "signing: OVF packages are signed with RSA keys"));
        }
        let key = RsaPrivateKey::from_pkcs8_pem(key)
            .or_else(|_| RsaPrivateKey::from_pkcs1_pem(key).map_err(|_| ()))
            .map_err(|()| invalid("the private key is not RSA in PEM (PKCS#8 or PKCS#1)"))?;
        let first = first_certificate(certificate).ok_or_else(|| invalid("the certificate is not X.509 in PEM"))?;
        if public_key(&first)? != key.to_public_key() {
            return Err(invalid("the certificate is of another key"));
        }
        let certificates = chain(certificate).ok_or_else(|| invalid("a certificate behind the first is broken"))?;
        Ok(Self { key, certificates })
    }

    /// How long [`sign`](Self::sign)'s text is, whatever the manifest holds.
    #[must_use]
    pub fn length(&self, name: &str, algorithm: ManifestAlgorithm) -> usize {
        let value = vec![0; self.key.size()];
        format!("{}\n", ManifestEntry { algorithm, name: name.to_owned(), value }).len() + self.certificates.len()
    }

    /// The certificate file for `manifest`, whose name is `name`.
    ///
    /// # Errors
    /// `InvalidInput` when the key is too small for the function; `Io` when the system has no random numbers.
    pub fn sign(&self, name: &str, algorithm: ManifestAlgorithm, manifest: &[u8]) -> Result<String> {
        let value = self.key.sign(scheme(algorithm), &digest(algorithm, manifest)).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "signing: the key cannot sign").with_source(error.to_string())
        })?;
        let entry = ManifestEntry { algorithm, name: name.to_owned(), value };
        Ok(format!("{entry}\n{}", self.certificates))
    }
}

/// All certificates of a text, in one spelling.
fn chain(text: &str) -> Option<String> {
    let mut all = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find(BEGIN) {
        rest = &rest[begin..];
        all.push_str(&first_certificate(rest)?.to_pem(pem::LineEnding::LF).ok()?);
        rest = &rest[BEGIN.len()..];
    }
    (!all.is_empty()).then_some(all)
}
