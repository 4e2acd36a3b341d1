//! A small disk, which is in memory.

use std::{
    path::Path,
    process::{Command, Output},
};

use rustix::fs::statvfs;
use stack::servers::temporary_folder;
use tempfile::TempDir;

/// What a full disk still has room for.
const LEFT_BYTES: u64 = 64 * 1024;

pub struct Disk {
    folder: TempDir,
    size: u64,
}

impl Disk {
    /// Of so many bytes. None where mounting is not permitted.
    pub fn mount(size: u64) -> Option<Self> {
        let folder = temporary_folder().unwrap();
        match mount(&format!("size={size}"), folder.path()) {
            Ok(output) if output.status.success() => Some(Self { folder, size }),
            output => {
                eprintln!("a disk of its own cannot be mounted: {output:?}");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// From now on it has no more room than some kilobytes.
    pub fn fill(&self) {
        let disk = statvfs(self.path()).unwrap();
        self.resize((disk.f_blocks - disk.f_bfree) * disk.f_frsize + LEFT_BYTES);
    }

    /// It has all its room again.
    pub fn free(&self) {
        self.resize(self.size);
    }

    fn resize(&self, size: u64) {
        let output = mount(&format!("remount,size={size}"), self.path()).unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

fn mount(options: &str, folder: &Path) -> std::io::Result<Output> {
    Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder).output()
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, because a server may still be about to end.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
