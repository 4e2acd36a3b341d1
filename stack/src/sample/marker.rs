//! Remembers what was loaded, so that a load which was interrupted is completed by the next start.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::Sample;
use crate::private_file;

/// A file in the data folder, one for each log.
pub struct Marker {
    path: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    sample: Sample,
    loaded: bool,
}

impl Marker {
    pub fn new(data: &Path, namespace: &str) -> Self {
        Self { path: data.join(format!("sample-{namespace}.json")) }
    }

    /// Which sample is to be loaded now, when `wanted` is asked for and the log is or is not empty.
    pub fn to_load(&self, wanted: Sample, log_is_empty: bool) -> Result<Option<Sample>> {
        Ok(to_load(self.read()?, wanted, log_is_empty))
    }

    pub fn begun(&self, sample: Sample) -> Result<()> {
        self.write(Mark { sample, loaded: false })
    }

    pub fn loaded(&self, sample: Sample) -> Result<()> {
        self.write(Mark { sample, loaded: true })
    }

    fn read(&self) -> Result<Option<Mark>> {
        let failed = || format!("cannot read {}", self.path.display());
        match fs::read(&self.path) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(failed)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(failed),
        }
    }

    fn write(&self, mark: Mark) -> Result<()> {
        private_file::replace(&self.path, &serde_json::to_vec(&mark)?)
    }
}

fn to_load(mark: Option<Mark>, wanted: Sample, log_is_empty: bool) -> Option<Sample> {
    match mark {
        _ if log_is_empty => Some(wanted),
        // The log has something that did not come from a sample: leave it alone.
        None => None,
        Some(Mark { sample, loaded: false }) => Some(sample.max(wanted)),
        // The small sample is a part of the full one; what is there already is sent again without effect.
        Some(Mark { sample, loaded: true }) => (wanted > sample).then_some(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::Sample::{Full, Small};
    use super::*;

    fn mark(sample: Sample, loaded: bool) -> Option<Mark> {
        Some(Mark { sample, loaded })
    }

    #[test]
    fn an_empty_log_is_filled_whatever_the_marker_says() {
        assert_eq!(to_load(None, Small, true), Some(Small));
        assert_eq!(to_load(mark(Full, true), Small, true), Some(Small));
    }

    #[test]
    fn an_interrupted_load_is_completed() {
        assert_eq!(to_load(mark(Small, false), Small, false), Some(Small));
        assert_eq!(to_load(mark(Full, false), Small, false), Some(Full));
    }

    #[test]
    fn a_loaded_sample_is_not_loaded_again_but_can_be_extended() {
        assert_eq!(to_load(mark(Small, true), Small, false), None);
        assert_eq!(to_load(mark(Full, true), Small, false), None);
        assert_eq!(to_load(mark(Small, true), Full, false), Some(Full));
    }

    #[test]
    fn a_log_of_ones_own_is_left_alone() {
        assert_eq!(to_load(None, Full, false), None);
    }
}
