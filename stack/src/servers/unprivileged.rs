//! Postgres refuses to run as root. When we are root it runs as the user `nobody`, who must be able to reach the
//! programs and the data, and owns nothing but the data.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

const NAME: &str = "nobody";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

impl User {
    /// Whom to run as instead of root; `None` when we are not root.
    pub fn instead_of_root() -> Result<Option<Self>> {
        if !rustix::process::getuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let user = find(&passwd, NAME).with_context(|| {
            format!("Postgres does not run as root, and there is no user `{NAME}` to run it as: start the stack as another user")
        })?;
        Ok(Some(user))
    }

    /// Makes the command run as this user.
    pub fn run(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Whether the user can pass through every folder on the way to `path`, which need not exist yet.
    pub fn reaches(self, path: &Path) -> bool {
        let Ok(path) = std::path::absolute(path) else { return false };
        // Links are resolved by asking for the folders that they lead to.
        let existing = path.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
        existing.is_some_and(|existing| existing.ancestors().all(|ancestor| self.may_enter(ancestor)))
    }

    fn may_enter(self, path: &Path) -> bool {
        let Ok(metadata) = fs::metadata(path) else { return false };
        let needed = match (metadata.uid(), metadata.gid()) {
            (uid, _) if uid == self.uid => 0o100,
            (_, gid) if gid == self.gid => 0o010,
            _ => 0o001,
        };
        metadata.mode() & needed != 0
    }
}

fn find(passwd: &str, name: &str) -> Option<User> {
    // name:password:uid:gid:…; some systems write the last user ids as negative numbers.
    let entry =
        passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|entry| entry[0] == name)?;
    let id = |field: usize| entry.get(field)?.parse::<i64>().ok().map(|id| id as u32);
    Some(User { uid: id(2)?, gid: id(3)? })
}

/// Makes a folder, and those above it that are missing, passable for everyone whatever the umask says.
pub fn create_passable(folder: &Path) -> Result<()> {
    let failed = || format!("cannot make the folder {}", folder.display());
    let missing: Vec<_> = folder.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    for folder in missing.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o755).create(folder).with_context(failed)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755)).with_context(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533:nobody:/:/bin/false\n";
        assert_eq!(find(passwd, "nobody"), Some(User { uid: 65534, gid: 65533 }));
        assert_eq!(
            find("nobody:*:-2:-2::/:/bin/false", "nobody"),
            Some(User { uid: 4294967294, gid: 4294967294 })
        );
        assert_eq!(find(passwd, "postgres"), None);
    }

    #[test]
    fn a_folder_below_a_private_one_is_out_of_reach() {
        let stranger = User { uid: 4_000_000_000, gid: 4_000_000_000 };
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        assert!(stranger.reaches(&folder.path().join("not/yet")));
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(!stranger.reaches(&folder.path().join("not/yet")));
    }
}
