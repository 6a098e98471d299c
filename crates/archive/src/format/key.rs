//! Key files: the key of a repository, encrypted by a password.

use base64ct::{Base64, Encoding};
use scrypt::{Params, scrypt};
use serde::{Deserialize, Serialize};
use transload_block::{Error, ErrorKind, Result};

use super::crypto::{CryptoKey, random};
use super::time::Time;

/// What scrypt is asked for in new repositories: 32 MiB and a tenth of a second, as restic does.
const LOG_N: u8 = 15;
const R: u32 = 8;
const P: u32 = 1;
/// The most memory that a key file may ask for. Files of restic ask for up to 64 MiB.
const MOST_MEMORY: u64 = 1 << 30;
/// The most work, as the product of its three numbers: two minutes of a processor. restic measures how much a tenth of a
/// second is, and spreads it over any number of rounds where the machine is busy.
const MOST_WORK: u64 = 1 << 28;

/// A key file.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(default)]
    username: String,
    #[serde(default)]
    hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

/// The key file that opens `master` by `password`.
pub(crate) fn write(master: &CryptoKey, password: &[u8], now: Time, who: (&str, &str)) -> Result<Vec<u8>> {
    let mut salt = [0; 64];
    random(&mut salt)?;
    let params = Params::new(LOG_N, R, P).map_err(|error| Error::new(ErrorKind::InvalidInput, error.to_string()))?;
    let user = derive(password, &salt, &params)?;
    let file = KeyFile {
        created: Some(now.to_string()),
        username: who.0.to_owned(),
        hostname: who.1.to_owned(),
        kdf: "scrypt".to_owned(),
        n: 1 << LOG_N,
        r: R,
        p: P,
        salt: Base64::encode_string(&salt),
        data: Base64::encode_string(&user.seal(&master.to_json()?)?),
    };
    serde_json::to_vec(&file).map_err(|error| Error::io("a key file", error.into()))
}

/// The repository's key from a key file; `None` when the password is another.
///
/// # Errors
/// `Corrupt` when the file breaks a rule, `Unsupported` for another way to derive keys.
pub(crate) fn read(file: &[u8], password: &[u8]) -> Result<Option<CryptoKey>> {
    let corrupt = |what: String| Error::new(ErrorKind::Corrupt, what);
    let file: KeyFile = serde_json::from_slice(file).map_err(|error| corrupt(error.to_string()))?;
    if file.kdf != "scrypt" {
        let text = format!("a key that is derived by \"{}\"", file.kdf.escape_debug());
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    let memory = u64::from(file.r).checked_mul(file.n).and_then(|blocks| blocks.checked_mul(128));
    let work = memory.and_then(|memory| (memory / 128).checked_mul(file.p.into()));
    let is_too_much = memory.is_none_or(|memory| memory > MOST_MEMORY) || work.is_none_or(|work| work > MOST_WORK);
    if !file.n.is_power_of_two() || is_too_much {
        let KeyFile { n, r, p, .. } = file;
        return Err(corrupt(format!("scrypt with N={n}, r={r}, p={p}")));
    }
    let log_n = u8::try_from(file.n.ilog2()).unwrap_or(u8::MAX);
    let params = Params::new(log_n, file.r, file.p).map_err(|error| corrupt(format!("scrypt: {error}")))?;
    let decode = |name: &str, text: &str| {
        Base64::decode_vec(text).map_err(|_| corrupt(format!("the field \"{name}\" is no Base64")))
    };
    let user = derive(password, &decode("salt", &file.salt)?, &params)?;
    user.open(decode("data", &file.data)?).map(|json| CryptoKey::from_json(&json)).transpose()
}

fn derive(password: &[u8], salt: &[u8], params: &Params) -> Result<CryptoKey> {
    let mut bytes = [0; 64];
    scrypt(password, salt, params, &mut bytes)
        .map_err(|error| Error::new(ErrorKind::InvalidInput, error.to_string()))?;
    Ok(CryptoKey::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::{CryptoKey, ErrorKind, Time, read, write};

    #[test]
    fn a_password_opens_its_key_and_no_other() {
        let master = CryptoKey::generate().unwrap();
        let file = write(&master, b"secret", Time::default(), ("user", "host")).unwrap();
        assert_eq!(read(&file, b"secret").unwrap(), Some(master));
        assert_eq!(read(&file, b"Secret").unwrap(), None);
        let greedy = String::from_utf8(file).unwrap().replace("\"N\":32768", "\"N\":1099511627776");
        assert_eq!(read(greedy.as_bytes(), b"secret").unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
