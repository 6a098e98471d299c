//! Object stores of other makers, run as programs on the loopback interface: moto for S3 (and, as Google's service speaks S3's
//! language too, for that), Azurite for Azure.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A store that runs, with one bucket in it; it ends when it is dropped.
#[derive(Debug)]
pub struct ObjectServer {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    /// The name of its bucket or container.
    pub bucket: &'static str,
}

/// What moto takes for a signature; it looks at no more than its form.
const SIGNED: &str =
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// A signed address for the account that every Azurite has, whose key is public.
const AZURITE: &str = "sv=2020-10-02&ss=b&srt=sco&sp=rwdlacup&se=2099-01-01T00%3A00%3A00Z&spr=https%2Chttp&sig=SjFvMPq4Lp4W%2FpwhmFRsLmEtAYWFx3VNLg4xVhBlhyM%3D";

impl ObjectServer {
    /// Starts moto, with a bucket.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    #[must_use]
    pub fn s3() -> Self {
        let program = installed("witness-python/bin/moto_server");
        let server = Self::start(Command::new(program).args(["-H", "127.0.0.1", "-p", "0"]), "testbucket");
        let signed = format!("Authorization: {SIGNED}\r\n");
        server.ask("PUT", "/testbucket", &signed);
        server
    }

    /// Starts Azurite, with a container.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    #[must_use]
    pub fn azure() -> Self {
        let program = installed("witness-node/node_modules/.bin/azurite-blob");
        let arguments =
            ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck"];
        let server = Self::start(Command::new(program).args(arguments).arg("--disableTelemetry"), "testbucket");
        server.ask("PUT", &format!("/devstoreaccount1/testbucket?restype=container&{AZURITE}"), "");
        server
    }

    /// What an Azurite is asked for with the rights of its own account.
    #[must_use]
    pub fn azure_url(&self, name: &str) -> String {
        format!("{}/devstoreaccount1/{}/{name}?{AZURITE}", self.endpoint, self.bucket)
    }

    /// What the client of S3 has to be told.
    #[must_use]
    pub fn s3_settings(&self) -> Vec<(String, String)> {
        pairs(&[
            ("aws_endpoint", &self.endpoint),
            ("aws_access_key_id", "test"),
            ("aws_secret_access_key", "test"),
            ("aws_region", "us-east-1"),
        ])
    }

    /// What the client of Google's store has to be told.
    #[must_use]
    pub fn gcs_settings(&self) -> Vec<(String, String)> {
        pairs(&[
            ("google_base_url", &self.endpoint),
            ("google_bearer_token", "test/20260101/us-east-1/s3/aws4_request"),
        ])
    }

    /// What the client of Azure has to be told.
    #[must_use]
    pub fn azure_settings(&self) -> Vec<(String, String)> {
        pairs(&[
            ("azure_storage_account_name", "devstoreaccount1"),
            ("azure_storage_account_key", AZURITE_KEY),
            ("azure_storage_endpoint", &format!("{}/devstoreaccount1", self.endpoint)),
        ])
    }

    /// The keys of everything in the bucket of a moto, uploads under way included.
    #[must_use]
    pub fn s3_contents(&self) -> String {
        let signed = format!("Authorization: {SIGNED}\r\n");
        let objects = self.ask("GET", "/testbucket?list-type=2", &signed);
        let uploads = self.ask("GET", "/testbucket?uploads", &signed);
        let mut found = String::new();
        for document in [objects, uploads] {
            for part in document.split("<Key>").skip(1) {
                let key = part.split("</Key>").next().unwrap_or_default();
                writeln!(found, "{key}").expect("a string takes what is written");
            }
        }
        found
    }

    fn start(command: &mut Command, bucket: &'static str) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the store starts");
        let (sender, receiver) = mpsc::channel();
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("its standard output")),
            Box::new(child.stderr.take().expect("its standard error")),
        ];
        for stream in streams {
            let sender = sender.clone();
            // Read to the end, so that the program never waits for somebody to listen.
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let address = line.split("http://127.0.0.1:").nth(1);
                    let port: Option<String> =
                        address.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect());
                    drop(port.filter(|port| !port.is_empty()).map(|port| sender.send(port)));
                }
            });
        }
        let port = receiver.recv_timeout(Duration::from_secs(60)).expect("the store says its port");
        Self { child, endpoint: format!("http://127.0.0.1:{port}"), bucket }
    }

    /// Asks the store for something, which has to succeed.
    ///
    /// # Panics
    /// When it does not.
    fn ask(&self, method: &str, path: &str, headers: &str) -> String {
        let host = self.endpoint.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).expect("the store listens");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).expect("the store listens");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the store answers");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
        answer
    }
}

/// The key of the account that every Azurite has, from its documentation.
const AZURITE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

impl Drop for ObjectServer {
    fn drop(&mut self) {
        // It has nothing that would have to be kept.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn pairs(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn installed(program: impl AsRef<OsStr>) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target").join(program.as_ref());
    assert!(path.exists(), "{} is needed as a witness: `cargo xtask setup` installs it", path.display());
    path
}
