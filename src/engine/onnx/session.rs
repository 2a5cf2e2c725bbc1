//! Opens the graph on its device and holds what it declares against what `model.json` said of it.

use std::path::Path;

use ort::environment::Environment;
use ort::ep::{self, ArenaExtendStrategy};
use ort::logging::LogLevel;
use ort::session::Session;
use ort::value::{Outlet, TensorElementType};

use super::error::OnnxError;
use super::{Geometry, Provider};

/// Loads the weights. Gives the session and the element type of its key/value cache.
pub(super) fn open(
    environment: &Environment,
    graph: &Path,
    provider: Provider,
    geometry: &Geometry,
) -> Result<(Session, TensorElementType), OnnxError> {
    let session = build(environment, graph, provider).map_err(|source| OnnxError::Session {
        graph: graph.to_owned(),
        device: provider.device(),
        source,
    })?;
    let element = check(&session, geometry).map_err(|reason| OnnxError::Graph {
        graph: graph.to_owned(),
        reason,
    })?;
    Ok((session, element))
}

fn build(environment: &Environment, graph: &Path, provider: Provider) -> ort::Result<Session> {
    let threads = match provider {
        Provider::Cpu { threads } => threads.max(1),
        Provider::Cuda { .. } => 1,
    };
    let builder = Session::builder(environment)?
        .with_log_level(LogLevel::Warning)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        // A run is hundreds of short pieces of work: threads that slept between those would cost some percent. Between runs they must not spin, or they
        // took the processor from the grammars, and from everybody when nothing is to be done.
        .with_intra_op_spinning(true)?
        .with_config_entry("session.force_spinning_stop", "1")?
        .with_inter_op_spinning(false)?
        // It would remember a pattern for every length of a chunk that ever occurs.
        .with_memory_pattern(false)?;
    let mut builder = match provider {
        Provider::Cpu { .. } => builder,
        Provider::Cuda {
            device,
            memory_limit_bytes,
        } => {
            let device = i32::try_from(device).map_err(|_| ort::Error::new("the device's number is too large"))?;
            let cuda = ep::CUDA::default()
                .with_device_id(device)
                .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested);
            let cuda = match memory_limit_bytes {
                Some(limit) => cuda.with_memory_limit(usize::try_from(limit).unwrap_or(usize::MAX)),
                None => cuda,
            };
            // Otherwise a card that cannot be used means, without a word, the processor.
            builder.with_execution_providers([cuda.build().error_on_failure()])?
        }
    };
    builder.commit_from_file(graph)
}

fn check(session: &Session, geometry: &Geometry) -> Result<TensorElementType, String> {
    let cache = [-1, geometry.kv_heads as i64, -1, geometry.head_dim as i64];
    for layer in 0..geometry.layers {
        for side in SIDES {
            expect(session.inputs(), &past_name(layer, side), &cache)?;
            expect(session.outputs(), &present_name(layer, side), &cache)?;
        }
    }
    let beyond = past_name(geometry.layers, SIDES[0]);
    if session.inputs().iter().any(|input| input.name() == beyond) {
        return Err(format!("it has more than {} layers", geometry.layers));
    }
    for (name, dimensions) in [
        (INPUT_IDS, 2),
        (SEQLENS_K, 1),
        (TOTAL_SEQUENCE_LENGTH, 0),
        (LOGITS_IDX, 1),
    ] {
        expect(session.inputs(), name, &vec![-1; dimensions])?;
    }
    expect(session.outputs(), LOGITS, &[-1, geometry.vocabulary as i64])?;
    let first = past_name(0, SIDES[0]);
    let element = session
        .inputs()
        .iter()
        .find(|input| input.name() == first)
        .and_then(|input| input.dtype().tensor_type());
    match element {
        Some(known @ (TensorElementType::Float32 | TensorElementType::Float16 | TensorElementType::Int8)) => Ok(known),
        other => Err(format!("{first} has elements of type {other:?}")),
    }
}

fn expect(outlets: &[Outlet], name: &str, shape: &[i64]) -> Result<(), String> {
    let outlet = outlets
        .iter()
        .find(|outlet| outlet.name() == name)
        .ok_or_else(|| format!("it has no {name}"))?;
    let found = outlet
        .dtype()
        .tensor_shape()
        .ok_or_else(|| format!("{name} is not a tensor"))?;
    if found[..] != *shape {
        return Err(format!(
            "{name} is {:?} where {shape:?} is expected (-1: free)",
            &found[..]
        ));
    }
    Ok(())
}

pub(super) const INPUT_IDS: &str = "input_ids";
pub(super) const SEQLENS_K: &str = "seqlens_k";
pub(super) const TOTAL_SEQUENCE_LENGTH: &str = "total_sequence_length";
pub(super) const LOGITS_IDX: &str = "logits_idx";
pub(super) const LOGITS: &str = "logits";
pub(super) const SIDES: [&str; 2] = ["key", "value"];

pub(super) fn past_name(layer: usize, side: &str) -> String {
    format!("past_key_values.{layer}.{side}")
}

pub(super) fn present_name(layer: usize, side: &str) -> String {
    format!("present.{layer}.{side}")
}
