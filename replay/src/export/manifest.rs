//! The folder of an export, and the manifest that says what it holds.
//!
//! Files are written aside and synced. Then the manifest, which names them, takes the place of the one before: from that
//! moment on they are part of the export. Then they are moved into place; whoever opens the folder after a crash moves
//! what the crash has left. So the files in place are always whole, each event is in one of them, and none ever leaves.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use event_log::Checkpoint;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Options, Unreadable, partition::Partition, tables::Reached};
use crate::{filter::Filter, format::Format, reading::Source, usage::usage};

const MANIFEST: &str = "manifest.json";
const NEXT_MANIFEST: &str = ".manifest.json";
const LOCK: &str = ".lock";
/// Files that are not part of the export yet.
const ASIDE: &str = ".aside";
const MANIFEST_FORMAT: u32 = 1;

/// What must be the same in every run into one folder, or it would hold a mixture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    namespace: String,
    format: Format,
    partition: Partition,
    filter: Filter,
    from: Option<String>,
    before: Option<String>,
    mask: Vec<String>,
    drop: Vec<String>,
    /// Tells keys apart.
    mask_key: Option<String>,
    unreadable: Unreadable,
}

impl Settings {
    pub fn of(source: &Source, options: &Options) -> Self {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        let target = |target: Option<event_log::Target>| target.map(|target| format!("{target:?}"));
        Self {
            namespace: source.log.namespace().to_owned(),
            format: options.format,
            partition: options.partition,
            filter: options.filter.clone(),
            from: target(options.range.from),
            before: target(options.range.before),
            mask: sorted(&options.privacy.mask),
            drop: sorted(&options.privacy.drop),
            mask_key: options
                .privacy
                .key
                .as_ref()
                .filter(|_| !options.privacy.mask.is_empty())
                .map(|key| key.name()),
            unreadable: options.unreadable,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Manifest {
    manifest_format: u32,
    settings: Settings,
    /// The folder has all events up to this position that the settings ask for.
    position: u64,
    /// The last frame of the log that was read to its end: by its id the log is recognised.
    frame_position: u64,
    frame_sequence: u64,
    frame_id: Option<Uuid>,
    /// Of each event type.
    rows: BTreeMap<String, u64>,
    /// Events that were left out because they could not be read.
    skipped: u64,
    /// The files that the last run but this moment has added.
    newest: Vec<Part>,
}

/// A file of the export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub event_type: String,
    /// Its name while it is aside.
    pub aside: String,
    /// Its place in the folder.
    pub path: String,
    pub rows: u64,
}

/// The folder of an export, which nobody else writes into meanwhile.
pub struct Folder {
    path: PathBuf,
    manifest: Manifest,
    _lock: File,
}

impl Folder {
    /// Opens the folder, makes it if there is none, and completes what an earlier run could not.
    pub fn open(path: &Path, settings: Settings) -> Result<Self> {
        let place = path.display();
        fs::create_dir_all(path.join(ASIDE)).with_context(|| format!("cannot use the folder {place}"))?;
        let lock = File::create(path.join(LOCK)).with_context(|| format!("cannot write into {place}"))?;
        if lock.try_lock().is_err() {
            bail!(
                "another export writes into {place}; wait until it ends, or choose another folder with --out"
            );
        }
        let manifest = match fs::read(path.join(MANIFEST)) {
            Ok(text) => {
                read(&text, &settings).with_context(|| format!("cannot go on with the export in {place}"))?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                refuse_other_files(path)?;
                Manifest::new(settings)
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {place}/{MANIFEST}")),
        };
        let folder = Self { path: path.to_owned(), manifest, _lock: lock };
        folder.move_into_place()?;
        fs::remove_dir_all(folder.path.join(ASIDE)).context("cannot remove what an earlier run has left")?;
        fs::create_dir(folder.path.join(ASIDE))?;
        Ok(folder)
    }

    pub fn position(&self) -> u64 {
        self.manifest.position
    }

    pub fn checkpoint(&self) -> Checkpoint {
        let Manifest { frame_position, frame_sequence, frame_id, .. } = self.manifest;
        Checkpoint { position: frame_position, frame_sequence, frame_id }
    }

    pub fn aside(&self, name: &str) -> PathBuf {
        self.path.join(ASIDE).join(name)
    }

    /// Makes files that are aside, and synced, a part of the export, which then reaches as far as this.
    pub fn add(&mut self, parts: Vec<Part>, reached: Reached, skipped: u64) -> Result<()> {
        sync(&self.path.join(ASIDE))?;
        let manifest = &mut self.manifest;
        for part in &parts {
            *manifest.rows.entry(part.event_type.clone()).or_default() += part.rows;
        }
        manifest.newest = parts;
        manifest.skipped += skipped;
        manifest.position = reached.position;
        manifest.frame_position = reached.checkpoint.position;
        manifest.frame_sequence = reached.checkpoint.frame_sequence;
        manifest.frame_id = reached.checkpoint.frame_id;
        self.write_manifest()
            .with_context(|| format!("cannot write {}", self.path.join(MANIFEST).display()))?;
        self.move_into_place()
    }

    fn write_manifest(&self) -> Result<()> {
        let next = self.path.join(NEXT_MANIFEST);
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec_pretty(&self.manifest)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&next, self.path.join(MANIFEST))?;
        sync(&self.path)
    }

    fn move_into_place(&self) -> Result<()> {
        for part in &self.manifest.newest {
            let (from, to) = (self.aside(&part.aside), self.path.join(&part.path));
            if !from.exists() {
                continue;
            }
            let folder = to.parent().unwrap_or(&self.path);
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            fs::rename(&from, &to).with_context(|| format!("cannot move {} into place", to.display()))?;
            sync(folder)?;
            sync(folder.parent().unwrap_or(&self.path))?;
        }
        Ok(())
    }
}

impl Manifest {
    fn new(settings: Settings) -> Self {
        Self {
            manifest_format: MANIFEST_FORMAT,
            settings,
            position: 0,
            frame_position: 0,
            frame_sequence: 0,
            frame_id: None,
            rows: BTreeMap::new(),
            skipped: 0,
            newest: Vec::new(),
        }
    }
}

fn read(text: &[u8], settings: &Settings) -> Result<Manifest> {
    let manifest: Manifest = serde_json::from_slice(text).context("its manifest.json is damaged")?;
    if manifest.manifest_format != MANIFEST_FORMAT {
        bail!("its manifest is of format {}; this program knows {MANIFEST_FORMAT}", manifest.manifest_format);
    }
    let (was, is) = (serde_json::to_value(&manifest.settings)?, serde_json::to_value(settings)?);
    let names = was.as_object().into_iter().flatten();
    let differ: Vec<String> = names
        .filter(|(name, value)| is[name.as_str()] != **value)
        .map(|(name, value)| format!("{name} was {value} and is now {}", is[name.as_str()]))
        .collect();
    if !differ.is_empty() {
        return Err(usage(format!(
            "it was made with other settings: {}; use the same ones, or another folder",
            differ.join("; ")
        )));
    }
    Ok(manifest)
}

/// A folder with something else in it was named by mistake.
fn refuse_other_files(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if ![LOCK, ASIDE, NEXT_MANIFEST].iter().any(|ours| name == *ours) {
            return Err(usage(format!(
                "{} is not empty and holds no export; choose another folder with --out",
                path.display()
            )));
        }
    }
    Ok(())
}

/// So that what was done to the names in a folder survives a loss of power.
fn sync(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("cannot sync {}", folder.display()))
}
