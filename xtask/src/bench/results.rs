//! What was measured, kept in a file beside the build, so that a page can be made of several calls.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::cases::{CASES, Contender};
use super::measure::Sample;
use crate::process::root;

/// All results of one build of the program. Those of another build are never mixed with them.
#[derive(Serialize, Deserialize)]
pub(crate) struct Results {
    /// A checksum of the program.
    program: u64,
    outcomes: Vec<Outcome>,
}

/// What one conversion took in one place.
#[derive(Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The name of the case.
    pub case: String,
    /// `memory` or `disk`.
    pub place: String,
    /// In the order in which they ran in turn.
    pub rows: Vec<Row>,
}

/// The runs of one command line.
#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    pub name: String,
    pub is_peer: bool,
    pub samples: Vec<Sample>,
}

impl Row {
    pub(crate) fn of(contender: &Contender) -> Self {
        Self { name: contender.name.clone(), is_peer: contender.is_peer, samples: Vec::new() }
    }
}

impl Results {
    /// What earlier calls measured with this very `program`, unless it is to be forgotten.
    pub(crate) fn load(program: &Path, fresh: bool) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        std::fs::read(program).with_context(|| program.display().to_string())?.hash(&mut hasher);
        let program = hasher.finish();
        let kept = std::fs::read(file()).ok().and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        let kept = kept.filter(|kept| kept.program == program && !fresh);
        Ok(kept.unwrap_or_else(|| Self { program, outcomes: Vec::new() }))
    }

    /// Takes in `outcome` in place of an older one, and keeps everything for the next call.
    pub(crate) fn add(&mut self, outcome: Outcome) -> Result<()> {
        self.outcomes.retain(|kept| (&kept.case, &kept.place) != (&outcome.case, &outcome.place));
        self.outcomes.push(outcome);
        let path = file();
        std::fs::write(&path, serde_json::to_vec_pretty(self)?).with_context(|| path.display().to_string())
    }

    /// In the order of the cases, those in memory first.
    pub(crate) fn outcomes(&self) -> Vec<&Outcome> {
        let mut outcomes: Vec<_> = self.outcomes.iter().collect();
        outcomes.sort_by_key(|outcome| {
            (outcome.place != "memory", CASES.iter().position(|case| case.name == outcome.case))
        });
        outcomes
    }
}

fn file() -> PathBuf {
    root().join("target").join("bench-results.json")
}
