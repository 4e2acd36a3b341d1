//! Python packages for tests: pinned, checked against their hashes by pip itself, in a folder of our own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use tokio::process::Command;

/// The folder with what `tests/<name>/requirements.txt` lists. Installed once, and again when the list changes.
pub async fn packages(name: &str) -> PathBuf {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join(name).join("requirements.txt");
    let list = fs::read_to_string(&requirements).unwrap();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let installed = place.join(format!("{name}-packages"));
    let is_current = || fs::read_to_string(installed.join("requirements.txt")).is_ok_and(|of| of == list);
    // Several test processes may run at once; the lock ends with its file.
    let lock = File::create(place.join(format!("{name}-packages.lock"))).unwrap();
    let _lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
    if !is_current() {
        // Built aside and then renamed: what was left half-way is never used.
        let aside = tempfile::tempdir_in(place).unwrap();
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-compile",
        ]);
        pip.args(["--require-hashes", "--only-binary=:all:", "--target"]).arg(aside.path());
        let status = pip.arg("-r").arg(&requirements).status().await;
        assert!(status.unwrap().success(), "pip cannot install the packages of {}", requirements.display());
        fs::write(aside.path().join("requirements.txt"), &list).unwrap();
        let _ = fs::remove_dir_all(&installed);
        fs::rename(aside.keep(), &installed).unwrap();
    }
    installed
}
