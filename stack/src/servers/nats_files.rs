//! The configuration of nats-server, as `nats/` has it, for a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Every file of `nats/` that a server reads, with its place in that folder.
const FILES: [(&str, &str); 11] = [
    ("server.conf", include_str!("../../../nats/server.conf")),
    ("cluster.conf", include_str!("../../../nats/cluster.conf")),
    ("leafnodes.conf", include_str!("../../../nats/leafnodes.conf")),
    ("leaf.conf", include_str!("../../../nats/leaf.conf")),
    ("accounts.conf", include_str!("../../../nats/accounts.conf")),
    ("permissions/command-service.conf", include_str!("../../../nats/permissions/command-service.conf")),
    ("permissions/projector.conf", include_str!("../../../nats/permissions/projector.conf")),
    ("permissions/query-service.conf", include_str!("../../../nats/permissions/query-service.conf")),
    ("permissions/region.conf", include_str!("../../../nats/permissions/region.conf")),
    ("permissions/replay.conf", include_str!("../../../nats/permissions/replay.conf")),
    ("permissions/task-worker.conf", include_str!("../../../nats/permissions/task-worker.conf")),
];

/// Which logs a server's users may use.
#[derive(Clone, Debug)]
pub enum Namespaces {
    /// The one of this name.
    One(String),
    /// Every one, for tests that share a server: each user may do to any stream what it may do to its own.
    All,
}

/// Writes the files into `folder`, and `top`, which includes some of them; gives the path of the latter.
pub fn write(folder: &Path, top: &str, namespaces: &Namespaces) -> Result<PathBuf> {
    let failed = || format!("cannot write to {}", folder.display());
    fs::create_dir_all(folder.join("permissions")).with_context(failed)?;
    for (name, text) in FILES {
        fs::write(folder.join(name), namespaces.fill(text)).with_context(failed)?;
    }
    let path = folder.join("nats.conf");
    fs::write(&path, namespaces.fill(top)).with_context(failed)?;
    Ok(path)
}

impl Namespaces {
    fn fill(&self, text: &str) -> String {
        match self {
            Self::One(name) => text.replace("{namespace}", name),
            Self::All => text.split('"').map(any_token).collect::<Vec<_>>().join("\""),
        }
    }
}

/// A subject with `*` in the place of each of its tokens that name the namespace: a part of a token cannot be left open.
fn any_token(subject: &str) -> String {
    if !subject.contains("{namespace}") || subject.contains(char::is_whitespace) {
        return subject.to_owned();
    }
    let open = |token: &str| if token.contains("{namespace}") { "*".to_owned() } else { token.to_owned() };
    subject.split('.').map(open).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_filled_in() {
        let one = Namespaces::One("shop".into());
        assert_eq!(
            one.fill(r#"["{namespace}.log.0", "$JS.API.STREAM.INFO.{namespace}_LOG"]"#),
            r#"["shop.log.0", "$JS.API.STREAM.INFO.shop_LOG"]"#
        );
    }

    #[test]
    fn all_namespaces_are_open_tokens() {
        assert_eq!(
            Namespaces::All.fill(r#"a: ["{namespace}.log.0", "$JS.API.STREAM.INFO.{namespace}_LOG", "x.>"]"#),
            r#"a: ["*.log.0", "$JS.API.STREAM.INFO.*", "x.>"]"#
        );
    }

    #[test]
    fn the_folder_has_no_other_file() {
        let nats = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nats");
        for folder in [nats.clone(), nats.join("permissions")] {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "conf") {
                    let name = path.strip_prefix(&nats).unwrap().to_str().unwrap();
                    assert!(FILES.iter().any(|(known, _)| *known == name), "{name}");
                }
            }
        }
    }
}
