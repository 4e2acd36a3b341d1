//! Reading what a server answers to `--version`.

use std::path::Path;
use std::process::{Command, Stdio};

/// Major and minor version.
pub type Version = (u32, u32);

/// Asks the program `name` for its version; `None` when it cannot be run or turns out to be something else.
pub fn of(program: &Path, name: &str) -> Option<Version> {
    parse(said_by(program)?.strip_prefix(name)?)
}

/// The same of Envoy, which does not say its name, but the one that it was called by.
pub fn of_envoy(program: &Path) -> Option<Version> {
    parse_envoy(&said_by(program)?)
}

fn said_by(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `/bin/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`
fn parse_envoy(text: &str) -> Option<Version> {
    parse(text.split_once(" version: ")?.1.split('/').nth(1)?)
}

/// The first version in a text such as `nats-server: v2.15.1` or `postgres (PostgreSQL) 18.6 (Debian 18.6-1)`.
fn parse(text: &str) -> Option<Version> {
    text.split_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches('v').split('.');
        let major = leading_number(numbers.next()?)?;
        // A version under development has no minor number yet: `19devel`, `19beta1`.
        let minor = numbers.next().and_then(leading_number).unwrap_or(0);
        Some((major, minor))
    })
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_the_servers_say() {
        assert_eq!(parse("nats-server: v2.15.1\n"), Some((2, 15)));
        assert_eq!(parse("nats-server: v2.16.0-RC.1"), Some((2, 16)));
        assert_eq!(parse("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some((15, 18)));
        assert_eq!(parse("postgres (PostgreSQL) 19beta1"), Some((19, 0)));
        assert_eq!(parse("command not found"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn envoys_version_stands_behind_its_commit() {
        let said = "\n/opt/1.2/envoy  version: 9e5580933739/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        assert_eq!(parse_envoy(said), Some((1, 40)));
        assert_eq!(parse_envoy("nats-server: v2.15.1"), None);
    }
}
