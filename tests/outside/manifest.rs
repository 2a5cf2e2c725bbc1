//! A `model.json`: what is accepted is the same when it is written anew, and the planner can reckon with it.

use interviewd::daemon::planning::footprint;
use interviewd::hardware::devices::{Device, DeviceKind};
use interviewd::hardware::footprint::Contexts;
use interviewd::hardware::plan::{PlanInput, plan};
use interviewd::hardware::wanted::PoolWanted;
use interviewd::runtime::Manifest;

const GIB: u64 = 1 << 30;

/// The text of a `model.json`.
pub fn manifest(bytes: &[u8]) -> bool {
    let Ok(manifest) = Manifest::parse(bytes) else {
        return false;
    };
    let value: serde_json::Value = serde_json::from_slice(bytes).expect("a manifest is JSON");
    assert_eq!(
        Manifest::parse(value.to_string().as_bytes()).expect("the same values"),
        manifest
    );
    assert_eq!(manifest.eos_ids[0], manifest.special_tokens.end_of_turn.id);
    let model = footprint(&manifest);
    assert_eq!(
        [model.layers, model.kv_heads, model.head_dim].map(|size| size as usize),
        [manifest.layers, manifest.kv_heads, manifest.head_dim]
    );
    let device = |kind| Device {
        kind,
        index: 0,
        name: "device".to_owned(),
        memory_total: 80 * GIB,
        memory_free: 79 * GIB,
        compute_capability: Some((9, 0)),
        uuid: None,
    };
    let planned = plan(&PlanInput {
        cards: &[device(DeviceKind::Cuda)],
        cpu: &device(DeviceKind::Cpu),
        cuda_problem: None,
        model: &model,
        contexts: Contexts {
            scoring_tokens: 2_048,
            narrative_tokens: 4_096,
            narrative_slots: 1,
        },
        wanted: PoolWanted::default(),
        chunk_tokens: 256,
    });
    if let Ok(plan) = planned {
        let taken = plan
            .actors
            .iter()
            .map(|actor| actor.weights_bytes + actor.kv_bytes + actor.workspace_bytes);
        assert!(taken.sum::<u64>() <= 79 * GIB, "{}", plan.explanation);
    }
    true
}
