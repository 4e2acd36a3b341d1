//! The files with samples: lines of JSON, written once and never changed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

pub struct Golden {
    folder: PathBuf,
    /// Files that are missing are written.
    is_writing: bool,
}

impl Golden {
    /// The application's own, beside this file.
    pub fn of_the_application() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        Self { folder, is_writing: std::env::var("GOLDEN").is_ok_and(|value| value == "write") }
    }

    pub fn in_folder(folder: &Path, is_writing: bool) -> Self {
        Self { folder: folder.to_owned(), is_writing }
    }

    /// The lines of a file. Where it is missing, `lines` are written, or it is a complaint.
    pub fn lines(&self, file: &str, lines: impl FnOnce() -> Vec<String>) -> Result<Vec<String>, String> {
        let path = self.folder.join(file);
        if !path.exists() {
            let lines = lines();
            if !self.is_writing || lines.is_empty() {
                return Err(format!("{file} is missing"));
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, lines.join("\n") + "\n").unwrap();
        }
        Ok(fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect())
    }

    /// The names in a folder; none if it is missing.
    pub fn names(&self, folder: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.folder.join(folder)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}
