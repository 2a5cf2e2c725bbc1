//! How much sooner a report is there than it was: two tables that anyone can reproduce on their own machine.
//!
//! *Fixed shape* is made-up work that can be given to any engine; *product* is a real interview through the product's own prompts and grammars. Begin
//! reading at [`tables`].

mod chart;
pub mod constraints;
mod drive;
mod error;
mod memory;
mod product;
pub mod results;
mod shape;
mod subject;
mod tables;
#[cfg(test)]
mod tests;
mod timed;

pub use chart::chart;
pub use error::BenchError;
pub use results::Results;
pub use tables::Told;

use self::subject::Subject;
use crate::config::Config;

/// The most answers: those of the bundled interview.
pub const ANSWERS_MAX: usize = 17;

/// Loads the configuration's model as `serve` would, and measures both tables with it, every row `runs` times. ONNX Runtime must be there. Takes
/// seconds with the demo model and minutes with a real one; `told` hears what is being run.
pub fn bench(
    config: Config,
    answers: usize,
    runs: usize,
    told: &mut dyn FnMut(Told<'_>),
) -> Result<Results, BenchError> {
    let Subject {
        mut rig,
        case,
        machine,
        model,
        loaded,
        threads,
        left_out,
        load_s,
    } = Subject::load(config, answers, runs)?;
    let tables = tables::measure(&mut rig, &case, told)?;
    Ok(Results {
        version: env!("CARGO_PKG_VERSION"),
        machine,
        model,
        onnxruntime: loaded.setup.making.engine.onnxruntime.clone(),
        threads,
        plan: loaded.plan,
        answers,
        runs,
        load_s,
        prompts_s: tables.prompts_s,
        speedup_with_prompts: tables.speedup_with_prompts,
        memory_peak_is_per_row: case.gauge.is_per_row(),
        fixed: tables.fixed,
        left_out,
        product: tables.product,
        narrative: tables.narrative,
        as_it_goes: tables.as_it_goes,
    })
}
