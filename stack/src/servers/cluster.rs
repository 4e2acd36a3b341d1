//! Postgres's data on disk (a "database cluster"): where it is, whose it is, and how it comes to be.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::unprivileged::{User, create_passable};
use super::{ServerConfig, random_password, version};
use crate::{private_file, program, screen};

/// Where the data goes when we are root and the folder asked for is out of the reach of Postgres's user.
const REACHABLE: &str = "/var/lib/headwater";

/// Copying a server takes as long as writing its data; one that takes longer than this has met with trouble.
const COPY_WITHIN: Duration = Duration::from_secs(600);

pub struct Cluster {
    pub data: PathBuf,
    pub user: Option<User>,
    /// Of the superuser `headwater`.
    pub password: String,
}

impl Cluster {
    /// Finds the cluster of this folder, or makes it.
    pub async fn open(bin: &Path, config: &ServerConfig) -> Result<Self> {
        let folder = std::path::absolute(&config.folder)?;
        let user = User::instead_of_root()?;
        create_passable(&folder)?;
        let place = place(&folder, user)?;
        let data = place.join("data");
        let password_file = folder.join("password");
        match fs::read_to_string(&password_file) {
            Ok(password) if data.exists() => {
                check_version(bin, &data)?;
                return Ok(Self { data, user, password });
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot read {}", password_file.display()));
            }
            _ => {}
        }
        if data.exists() {
            // The folder was deleted and made again, while the data was kept elsewhere: it belongs to nothing now,
            // and nobody knows its password.
            set_aside(&data)?;
        }
        let password = random_password()?;
        let cluster = Self { data, user, password };
        cluster.create(bin, &place, config).await.context("cannot make the database cluster")?;
        // Last, so that a cluster without a password is known to be unfinished.
        private_file::replace(&password_file, cluster.password.as_bytes())?;
        Ok(cluster)
    }

    /// Copies the cluster of a server that runs, and tells the copy to follow that server. A standby has nothing of
    /// its own to lose, so a copy from before is replaced.
    pub async fn copy(bin: &Path, config: &ServerConfig, port: u16, password: &str) -> Result<Self> {
        let folder = std::path::absolute(&config.folder)?;
        let user = User::instead_of_root()?;
        create_passable(&folder)?;
        let place = place(&folder, user)?;
        let cluster = Self { data: place.join("data"), user, password: password.to_owned() };
        let unfinished = cluster.begin(&place)?;
        let mut pg_basebackup = cluster.command(&bin.join("pg_basebackup"), &place);
        pg_basebackup
            .env("PGPASSWORD", password)
            .args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-password"])
            .arg(format!("--dbname=host=127.0.0.1 port={port} user=headwater connect_timeout=10"))
            .arg("--pgdata")
            .arg(&unfinished);
        let copying = program::run_once("pg_basebackup", pg_basebackup, &config.log);
        tokio::time::timeout(COPY_WITHIN, copying).await.context("pg_basebackup takes too long")??;
        if cluster.data.exists() {
            fs::remove_dir_all(&cluster.data)?;
        }
        fs::rename(&unfinished, &cluster.data)?;
        Ok(cluster)
    }

    /// An empty folder for a cluster that is still to be made.
    fn begin(&self, place: &Path) -> Result<PathBuf> {
        let unfinished = place.join("data.new");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir(&unfinished)?;
        fs::set_permissions(&unfinished, Permissions::from_mode(0o700))?;
        if let Some(user) = self.user {
            chown(&unfinished, Some(user.uid), Some(user.gid))?;
        }
        Ok(unfinished)
    }

    /// It appears under its name only once it is complete, so that a crash midway leaves nothing half made.
    async fn create(&self, bin: &Path, place: &Path, config: &ServerConfig) -> Result<()> {
        let unfinished = self.begin(place)?;
        let password_file = place.join("password.new");
        private_file::replace(&password_file, self.password.as_bytes())?;
        if let Some(user) = self.user {
            chown(&password_file, Some(user.uid), Some(user.gid))?;
        }

        let mut initdb = self.command(&bin.join("initdb"), place);
        initdb
            .args(["--username=headwater", "--auth=scram-sha-256", "--encoding=UTF8"])
            // Postgres's own C.UTF-8, the same on every system and for ever; the system's would be another
            // with every version of its C library, and indexes over text would go bad.
            .args(["--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"])
            .arg("--pwfile")
            .arg(&password_file)
            .arg("--pgdata")
            .arg(&unfinished);
        program::run_once("initdb", initdb, &config.log).await?;
        fs::remove_file(&password_file)?;

        // Single-user mode needs no port and no client.
        let statement = place.join("create-database.sql");
        fs::write(&statement, "create database headwater\n")?;
        let mut postgres = self.command(&bin.join("postgres"), place);
        postgres.arg("--single").arg("-D").arg(&unfinished).args(["-c", "exit_on_error=true", "postgres"]);
        program::run_with_input("postgres --single", postgres, File::open(&statement)?, &config.log).await?;
        fs::remove_file(&statement)?;

        fs::rename(&unfinished, &self.data)?;
        Ok(())
    }

    fn command(&self, program: &Path, place: &Path) -> Command {
        let mut command = Command::new(program);
        // Not our working directory, which its user may be unable to enter.
        command.current_dir(place);
        if let Some(user) = self.user {
            user.run(&mut command);
        }
        command
    }
}

/// Where the data is: in the folder itself, unless Postgres's user could not reach it there.
fn place(folder: &Path, user: Option<User>) -> Result<PathBuf> {
    match user {
        Some(user) if !user.reaches(folder) => {
            let hash = Sha256::digest(folder.as_os_str().as_encoded_bytes());
            let place = Path::new(REACHABLE).join(hex(&hash[..6]));
            screen::say(format!(
                "Postgres cannot run as root and its user cannot reach {}: its data is in {}",
                folder.display(),
                place.display()
            ));
            create_passable(&place)?;
            Ok(place)
        }
        _ => Ok(folder.to_owned()),
    }
}

/// Data of one major version cannot be read by another; Postgres says so less clearly.
fn check_version(bin: &Path, data: &Path) -> Result<()> {
    let made_by = fs::read_to_string(data.join("PG_VERSION")).context("the database cluster is damaged")?;
    let made_by = made_by.trim();
    match version::of(&bin.join("postgres"), "postgres") {
        Some((major, _)) if major.to_string() != made_by => bail!(
            "the data in {} was made by PostgreSQL {made_by}, and what was found now is PostgreSQL {major}: set \
             HEADWATER_POSTGRES_BIN to the bin folder of PostgreSQL {made_by}, or delete the data folder (the views \
             are built again from the log)",
            data.display()
        ),
        _ => Ok(()),
    }
}

fn set_aside(data: &Path) -> Result<()> {
    let aside = data.with_extension("old");
    if aside.exists() {
        fs::remove_dir_all(&aside).with_context(|| format!("cannot remove {}", aside.display()))?;
    }
    fs::rename(data, &aside).with_context(|| format!("cannot set {} aside", data.display()))?;
    screen::say(format!("set aside a database without a password: it is now {}", aside.display()));
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
