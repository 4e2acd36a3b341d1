//! A real mail server (aiosmtpd, in Python), which does on demand what mail servers do on bad days.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use domain::values::Email;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::OnceCell,
};

/// Ends when it is dropped.
pub struct SmtpServer {
    pub port: u16,
    folder: TempDir,
    process: Child,
}

/// An email that the server has accepted.
#[derive(Debug, Deserialize)]
pub struct Received {
    /// Which connection it came over: 1, 2, 3 …
    pub connection: u32,
    /// The name that the server was greeted with.
    pub greeted_as: String,
    pub is_encrypted: bool,
    /// Who logged in.
    pub user: Option<String>,
    pub from: String,
    /// What was said with the sender.
    pub options: Vec<String>,
    pub to: Vec<String>,
    pub headers: Vec<(String, String)>,
    /// The type of its content.
    pub kind: String,
    pub parts: Vec<Part>,
    pub raw: String,
}

/// Content type, character set, text.
#[derive(Debug, Deserialize)]
pub struct Part(pub String, pub String, pub String);

impl SmtpServer {
    /// Starts one that accepts every email but those to special recipients.
    pub async fn start() -> Self {
        Self::start_with(json!({})).await
    }

    /// The options are those of `server.py`.
    pub async fn start_with(options: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new("python3")
            .arg(own("server.py"))
            .arg(folder.path())
            .arg(options.to_string())
            .env("PYTHONPATH", packages().await)
            .env("PYTHONNOUSERSITE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("python3 is needed for tests of emails");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("the mail server says where it listens");
        let said: Value = serde_json::from_str(&line).unwrap();
        let port = said["port"].as_u64().unwrap().try_into().unwrap();
        Self { port, folder, process }
    }

    /// Ends it, so that another can take its port.
    pub async fn stop(mut self) {
        self.process.kill().await.unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.process.id().expect("nobody has waited for its end")
    }

    /// A URL that needs no more to send emails.
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// How many it has accepted so far.
    pub fn count(&self) -> usize {
        let files = fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "json")).count()
    }

    /// What it has accepted so far, in order.
    pub fn mails(&self) -> Vec<Received> {
        self.mails_after(0)
    }

    /// The same without the first so many.
    pub fn mails_after(&self, count: usize) -> Vec<Received> {
        let paths = (count + 1..).map(|number| self.folder.path().join(format!("{number}.json")));
        let texts = paths.map_while(|path| fs::read_to_string(path).ok());
        texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
    }

    /// The one email that it has accepted.
    pub fn mail(&self) -> Received {
        let [mail] = <[Received; 1]>::try_from(self.mails()).expect("one email");
        mail
    }
}

impl Received {
    /// The header, which stands there once.
    pub fn header(&self, name: &str) -> &str {
        let named = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let [(_, value)] = named.collect::<Vec<_>>()[..] else { panic!("{name} in {:?}", self.headers) };
        value
    }
}

/// A certificate that nobody vouches for, of a server that is called `localhost`.
pub struct Certificate(TempDir);

impl Certificate {
    pub fn make() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cert.pem"), cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
        Self(folder)
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("cert.pem")
    }

    /// The options of a mail server that has it.
    pub fn options(&self, tls: &str) -> Value {
        json!({"tls": tls, "certificate": self.path(), "key": self.0.path().join("key.pem")})
    }
}

pub fn address(text: &str) -> Email {
    Email::parse(text).unwrap()
}

/// Where the server's Python packages are. They are installed once, and again when the list of them changes.
async fn packages() -> &'static Path {
    static PACKAGES: OnceCell<PathBuf> = OnceCell::const_new();
    PACKAGES.get_or_init(|| crate::python::packages("smtp")).await
}

fn own(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("smtp").join(file)
}
