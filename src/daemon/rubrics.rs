//! Rubrics by their hash: an interview keeps the one that it was accepted under, whatever the configuration says later.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::report::RubricProvenance;
use crate::domain::rubric::{DEFAULT, InvalidRubric, Rubric};
use crate::runtime::sha256_hex;
use crate::store::{Store, StoreError};

/// A rubric with the text that it was read from.
#[derive(Debug, Clone)]
pub struct LoadedRubric {
    pub rubric: Arc<Rubric>,
    pub text: Arc<str>,
    /// SHA-256 (hex) of the text.
    pub hash: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RubricsError {
    #[error("the rubric {} (scoring.rubric) cannot be read", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the rubric {} (scoring.rubric) is not valid: {source}", path.display())]
    Invalid { path: PathBuf, source: InvalidRubric },
    #[error("the rubric {0} that an interview was accepted under is not in the store")]
    Lost(String),
    #[error("the rubric {hash} that an interview was accepted under is not valid any more: {source}")]
    Outdated { hash: String, source: InvalidRubric },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LoadedRubric {
    /// The file's, or the one that is built in.
    pub fn load(path: Option<&Path>) -> Result<Self, RubricsError> {
        let (path, text) = match path {
            None => (Path::new("built in"), DEFAULT.to_owned()),
            Some(path) => {
                let unreadable = |source| RubricsError::Unreadable {
                    path: path.to_owned(),
                    source,
                };
                (path, std::fs::read_to_string(path).map_err(unreadable)?)
            }
        };
        let rubric = Rubric::parse(&text).map_err(|source| RubricsError::Invalid {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            rubric: Arc::new(rubric),
            hash: sha256_hex(text.as_bytes()).expect("memory can be read"),
            text: text.into(),
        })
    }
}

/// The rubrics that live interviews need.
pub struct Rubrics {
    store: Store,
    known: Mutex<HashMap<String, Arc<Rubric>>>,
}

impl Rubrics {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            known: Mutex::default(),
        }
    }

    /// The rubric that was stored under a hash.
    pub fn by_hash(&self, hash: &str) -> Result<(Arc<Rubric>, RubricProvenance), RubricsError> {
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(hash)
            .cloned();
        let rubric = match known {
            Some(rubric) => rubric,
            None => {
                let text = self
                    .store
                    .rubric(hash)?
                    .ok_or_else(|| RubricsError::Lost(hash.to_owned()))?;
                let outdated = |source| RubricsError::Outdated {
                    hash: hash.to_owned(),
                    source,
                };
                let rubric = Arc::new(Rubric::parse(&text).map_err(outdated)?);
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(known.entry(hash.to_owned()).or_insert(rubric))
            }
        };
        let provenance = RubricProvenance {
            id: rubric.id.clone(),
            version: rubric.version,
            hash: hash.to_owned(),
        };
        Ok((rubric, provenance))
    }
}
