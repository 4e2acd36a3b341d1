//! The users of NATS and their passwords, which are made once and kept beside the server's data.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::{fs, io};

use anyhow::{Context as _, Result};

use super::random_password;
use crate::private_file;

/// The people's user, which may do everything with streams.
pub const ADMIN: &str = "admin";

/// Each user of nats/accounts.conf (and of nats/cluster.conf the one that nodes are for each other), and the variable
/// that nats-server reads its password from.
const USERS: [(&str, &str); 9] = [
    (ADMIN, "NATS_PASSWORD_ADMIN"),
    ("system", "NATS_PASSWORD_SYSTEM"),
    ("command-service", "NATS_PASSWORD_COMMAND_SERVICE"),
    ("projector", "NATS_PASSWORD_PROJECTOR"),
    ("query-service", "NATS_PASSWORD_QUERY_SERVICE"),
    ("task-worker", "NATS_PASSWORD_TASK_WORKER"),
    ("replay", "NATS_PASSWORD_REPLAY"),
    ("region", "NATS_PASSWORD_REGION"),
    ("routes", "NATS_PASSWORD_ROUTES"),
];

/// The passwords of all users of a server, or of the servers of a cluster.
#[derive(Clone)]
pub struct Passwords(BTreeMap<String, String>);

impl Passwords {
    /// Those of the server in this folder; makes them for a new one.
    pub fn of(folder: &Path) -> Result<Self> {
        let path = folder.join("passwords.json");
        let mut known: BTreeMap<String, String> = match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let missing: Vec<&str> =
            USERS.iter().map(|(user, _)| *user).filter(|user| !known.contains_key(*user)).collect();
        for user in &missing {
            known.insert((*user).to_owned(), random_password()?);
        }
        let passwords = Self(known);
        if !missing.is_empty() {
            passwords.keep(folder)?;
        }
        Ok(passwords)
    }

    /// Those of some users, for a server that is not to know the others.
    pub fn only(&self, users: &[&str]) -> Self {
        let known = self.0.iter().filter(|(user, _)| users.contains(&user.as_str()));
        Self(known.map(|(user, password)| (user.clone(), password.clone())).collect())
    }

    /// Keeps them in the folder of another server, too.
    pub fn keep(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        private_file::replace(&folder.join("passwords.json"), &serde_json::to_vec_pretty(&self.0)?)
    }

    /// `scheme://user:password@127.0.0.1:port`; without a user that is not known, whom the server then refuses.
    pub fn url(&self, scheme: &str, user: &str, port: u16) -> String {
        match self.0.get(user) {
            Some(password) => format!("{scheme}://{user}:{password}@127.0.0.1:{port}"),
            None => format!("{scheme}://127.0.0.1:{port}"),
        }
    }

    pub fn password(&self, user: &str) -> Option<&str> {
        self.0.get(user).map(String::as_str)
    }

    /// The variables that nats-server reads, in quotes: it parses them, and a password may look like a number.
    pub fn env(&self) -> impl Iterator<Item = (&'static str, OsString)> {
        USERS
            .iter()
            .filter_map(|(user, variable)| Some((*variable, format!("'{}'", self.0.get(*user)?).into())))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn passwords_are_made_once_and_are_nobody_elses_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let made = Passwords::of(folder.path()).unwrap();
        assert_eq!(Passwords::of(folder.path()).unwrap().0, made.0);
        assert_eq!(made.0.values().collect::<std::collections::BTreeSet<_>>().len(), USERS.len());
        let file = fs::metadata(folder.path().join("passwords.json")).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }
}
