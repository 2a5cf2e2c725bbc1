//! Models for engines that really run: simulated ones that come to the point quickly, can be told to fail, and are counted while they live.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::engine::TokenId;
use crate::engine::model::{DecodeRow, ModelError, ModelShape, SlotId, Terminator};
use crate::engine::simulated::{Script, Simulated};
use crate::scoring::banks;

const VOCABULARY: usize = 8_192;
/// More than the simulated logits differ by.
const PREFERENCE: f32 = 100.0;

/// Makes models for tests.
#[derive(Default)]
pub struct Models {
    pub script: Script,
    /// What every run costs.
    pub delay: Duration,
    /// Why there is none.
    pub fault: Option<&'static str>,
    /// For how many slots there is memory when it is loaded.
    pub slots_max: Option<usize>,
    /// Whether loading hangs, for so long as this is set.
    pub is_held: AtomicBool,
    pub living: Arc<AtomicUsize>,
    pub made: AtomicUsize,
}

impl Models {
    pub fn living(&self) -> usize {
        self.living.load(Ordering::SeqCst)
    }

    pub fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }
}

impl ModelFactory for Models {
    fn build(&self, planned: &Planned) -> Result<Box<dyn Model>, Outage> {
        while self.is_held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(fault) = self.fault {
            return Err(fault.to_owned().into());
        }
        if planned.slots > self.slots_max.unwrap_or(usize::MAX) {
            return Err(Outage {
                reason: format!("no memory for {} slots", planned.slots),
                out_of_memory: true,
            });
        }
        let shape = ModelShape {
            vocabulary: VOCABULARY,
            query_tile: 64,
            banks: banks(planned.slots, 1),
        };
        self.made.fetch_add(1, Ordering::SeqCst);
        self.living.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Terse {
            simulated: Simulated::new(shape, 7)
                .with_script(self.script.clone())
                .with_delay(self.delay),
            logits: Vec::new(),
            living: Arc::clone(&self.living),
        }))
    }
}

/// Prefers to end every text at once: outputs are short, but different for different prompts.
struct Terse {
    simulated: Simulated,
    logits: Vec<f32>,
    living: Arc<AtomicUsize>,
}

impl Drop for Terse {
    fn drop(&mut self) {
        self.living.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The tokens that begin with the end of a JSON string.
fn quotes() -> &'static [TokenId] {
    static QUOTES: OnceLock<Vec<TokenId>> = OnceLock::new();
    QUOTES.get_or_init(|| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo/tokenizer.json");
        let tokenizer: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap();
        let quotes = vocabulary.iter().filter(|(text, _)| text.starts_with('"'));
        quotes.map(|(_, id)| id.as_u64().unwrap() as TokenId).collect()
    })
}

fn prefer(given: &[f32], logits: &mut Vec<f32>) {
    logits.clear();
    logits.extend_from_slice(given);
    for row in logits.chunks_exact_mut(VOCABULARY) {
        quotes().iter().for_each(|quote| row[*quote as usize] += PREFERENCE);
    }
}

impl Model for Terse {
    fn shape(&self) -> &ModelShape {
        self.simulated.shape()
    }

    fn prefill(&mut self, slot: SlotId, past: usize, tokens: &[TokenId], wanted: bool) -> Result<&[f32], ModelError> {
        prefer(self.simulated.prefill(slot, past, tokens, wanted)?, &mut self.logits);
        Ok(&self.logits)
    }

    fn decode(&mut self, bank: usize, first: usize, rows: &[DecodeRow]) -> Result<&[f32], ModelError> {
        prefer(self.simulated.decode(bank, first, rows)?, &mut self.logits);
        Ok(&self.logits)
    }

    fn copy_prefix(&mut self, from: SlotId, to: SlotId, tokens: usize) -> Result<(), ModelError> {
        self.simulated.copy_prefix(from, to, tokens)
    }

    fn resize(&mut self, bank: usize, slots: usize) -> Result<(), ModelError> {
        self.simulated.resize(bank, slots)
    }

    fn terminator(&self) -> Terminator {
        self.simulated.terminator()
    }
}
