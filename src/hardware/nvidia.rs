//! Cards as the NVIDIA driver reports them (NVML), and, where there is none to use, what exactly is missing.

use std::sync::OnceLock;

use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use super::devices::{Device, DeviceKind};
use super::held::Held;

/// The CUDA major version that the pinned ONNX Runtime is built for, and the oldest driver that serves it.
const CUDA_MAJOR: i32 = 13;
const DRIVER_MIN: u32 = 580;

/// CUDA 13 has dropped everything before Turing.
const COMPUTE_CAPABILITY_MIN: (u32, u32) = (7, 5);

/// What Linux calls the process ids of the machine itself: the first namespace has this number on every machine.
const HOSTS_PIDS: &str = "pid:[4026531836]";

/// Cards to use, or why there are none, and what else the operator should know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub cards: Vec<Device>,
    pub problem: Option<String>,
    pub warnings: Vec<String>,
}

/// What the driver says of itself and its cards, before any judgement.
struct Facts {
    driver: String,
    /// As NVML writes it: 1000 · major + 10 · minor.
    cuda: i32,
    /// In the order of the PCI bus. `Err` holds why a card gave no answer.
    cards: Vec<Result<CardFacts, String>>,
}

#[derive(Debug, Clone)]
struct CardFacts {
    name: String,
    uuid: String,
    memory_total: u64,
    memory_free: u64,
    compute_capability: Option<(u32, u32)>,
    /// Partitioned: CUDA then shows the partitions instead of the card.
    mig: bool,
}

/// What the environment tells CUDA about cards.
#[derive(Default)]
struct Environment {
    visible_devices: Option<String>,
    device_order: Option<String>,
}

pub(super) fn detect() -> Found {
    let environment = Environment {
        visible_devices: std::env::var("CUDA_VISIBLE_DEVICES").ok(),
        device_order: std::env::var("CUDA_DEVICE_ORDER").ok(),
    };
    match driver().and_then(facts) {
        Ok(facts) => judge(facts, &environment),
        Err(error) => nothing(describe(&error)),
    }
}

/// Free memory of a card now, in bytes; `None` if the driver no longer finds it.
pub(super) fn memory_free(uuid: &str) -> Option<u64> {
    let ask = || driver()?.device_by_uuid(uuid)?.memory_info();
    ask()
        .inspect_err(|error| tracing::debug!(uuid, %error, "the card's memory cannot be read"))
        .ok()
        .map(|memory| memory.free)
}

pub(super) fn driver_version() -> Option<String> {
    driver().and_then(Nvml::sys_driver_version).ok()
}

/// What of a card this process holds; `None` if the driver no longer finds it.
pub(super) fn held(uuid: &str, taken_before: u64) -> Option<Held> {
    let ask = || {
        let card = driver()?.device_by_uuid(uuid)?;
        let memory = card.memory_info()?;
        // A driver that does not list processes tells as much as one that lists none.
        let processes = card.running_compute_processes().unwrap_or_default();
        Ok((processes, memory.total.saturating_sub(memory.free)))
    };
    let (processes, taken) = ask()
        .inspect_err(|error: &NvmlError| tracing::debug!(uuid, %error, "the card's memory cannot be read"))
        .ok()?;
    let processes = processes.into_iter().map(|process| match process.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => (process.pid, Some(bytes)),
        UsedGpuMemory::Unavailable => (process.pid, None),
    });
    let pid = is_hosts_pid().then(std::process::id);
    Some(own(processes, pid, taken, taken_before))
}

/// Whether this process's id is the one that the host's driver lists it by. A container's may be a stranger's there.
fn is_hosts_pid() -> bool {
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    namespace.is_ok_and(|name| name.as_os_str() == HOSTS_PIDS)
}

/// What of a card is this process's: as listed for its `pid`; or, where it is not (containers, drivers without sizes), at most what is taken beyond
/// what was.
fn own(
    mut processes: impl Iterator<Item = (u32, Option<u64>)>,
    pid: Option<u32>,
    taken: u64,
    taken_before: u64,
) -> Held {
    match processes.find_map(|(id, bytes)| bytes.filter(|_| pid == Some(id))) {
        Some(bytes) => Held::Own(bytes),
        None => Held::Guess(taken.saturating_sub(taken_before)),
    }
}

/// The driver is started once and kept. A failure is not kept: the driver may be there the next time.
fn driver() -> Result<&'static Nvml, NvmlError> {
    static DRIVER: OnceLock<Nvml> = OnceLock::new();
    match DRIVER.get() {
        Some(driver) => Ok(driver),
        None => {
            let started = Nvml::init()?;
            Ok(DRIVER.get_or_init(|| started))
        }
    }
}

fn facts(driver: &'static Nvml) -> Result<Facts, NvmlError> {
    let card = |index| -> Result<CardFacts, NvmlError> {
        let card = driver.device_by_index(index)?;
        let memory = card.memory_info()?;
        let capability = card.cuda_compute_capability().ok();
        Ok(CardFacts {
            name: card.name()?,
            uuid: card.uuid()?,
            memory_total: memory.total,
            memory_free: memory.free,
            compute_capability: capability.and_then(|it| Some((it.major.try_into().ok()?, it.minor.try_into().ok()?))),
            mig: card.mig_mode().is_ok_and(|mode| mode.current != 0),
        })
    };
    Ok(Facts {
        driver: driver.sys_driver_version()?,
        cuda: driver.sys_cuda_driver_version()?,
        cards: (0..driver.device_count()?)
            .map(|index| card(index).map_err(|error| format!("card {index} of the driver cannot be read: {error}")))
            .collect(),
    })
}

fn judge(facts: Facts, environment: &Environment) -> Found {
    if cuda_driver_version_major(facts.cuda) < CUDA_MAJOR {
        return nothing(format!(
            "the NVIDIA driver {} supports CUDA {}.{} and ONNX Runtime needs CUDA {CUDA_MAJOR}: install driver {DRIVER_MIN} or newer",
            facts.driver,
            cuda_driver_version_major(facts.cuda),
            cuda_driver_version_minor(facts.cuda),
        ));
    }
    if facts.cards.is_empty() {
        return nothing(format!("the NVIDIA driver {} finds no card", facts.driver));
    }
    let visible = visible(&facts.cards, environment.visible_devices.as_deref());
    if visible.is_empty() {
        let hiding = environment.visible_devices.as_deref().unwrap_or_default();
        if hiding.trim().starts_with("MIG-") {
            return nothing(format!(
                "CUDA_VISIBLE_DEVICES = \"{hiding}\" names a part of a card (MIG), which is not supported: switch MIG off and name the card"
            ));
        }
        return nothing(format!("CUDA_VISIBLE_DEVICES = \"{hiding}\" hides every card"));
    }
    let mut warnings = Vec::new();
    let mut cards = Vec::new();
    for (index, card) in (0..).zip(&visible) {
        match usable(card) {
            Ok(card) => cards.push(device(index, card)),
            Err(reason) => warnings.push(reason),
        }
    }
    if cards.is_empty() {
        return nothing(warnings.join("; "));
    }
    // A number may mean another card than it seems, so those that the list hides count too; a UUID means the card that it names.
    let list = environment.visible_devices.as_deref();
    let numbered = list.is_none_or(|list| list.split(',').any(|entry| !entry.trim().starts_with("GPU-")));
    let names = || facts.cards.iter().flatten().map(|card| &card.name);
    let mixed = names().zip(names().skip(1)).any(|(one, next)| one != next);
    if mixed && numbered && environment.device_order.as_deref() != Some("PCI_BUS_ID") {
        warnings.push(
            "the cards differ, and CUDA may count them in another order than the driver: set CUDA_DEVICE_ORDER=PCI_BUS_ID".to_owned(),
        );
    }
    Found {
        cards,
        problem: None,
        warnings,
    }
}

/// The cards that CUDA will show, in its order: all of them, or those of the list up to its first entry that names none.
fn visible(cards: &[Result<CardFacts, String>], list: Option<&str>) -> Vec<Result<CardFacts, String>> {
    let Some(list) = list else {
        return cards.to_vec();
    };
    list.split(',')
        .map_while(|entry| {
            let entry = entry.trim();
            match entry.parse::<usize>() {
                Ok(index) => cards.get(index),
                // A UUID, or as much of its beginning as tells it apart.
                Err(_) => cards.iter().find(|card| {
                    card.as_ref()
                        .is_ok_and(|card| entry.starts_with("GPU-") && card.uuid.starts_with(entry))
                }),
            }
        })
        .cloned()
        .collect()
}

fn usable(card: &Result<CardFacts, String>) -> Result<&CardFacts, String> {
    let card = card.as_ref().map_err(String::clone)?;
    if card.mig {
        return Err(format!(
            "{} is partitioned (MIG), which is not supported: switch MIG off",
            card.name
        ));
    }
    match card.compute_capability {
        Some((major, minor)) if (major, minor) < COMPUTE_CAPABILITY_MIN => Err(format!(
            "{} has compute capability {major}.{minor} and CUDA {CUDA_MAJOR} needs {}.{}",
            card.name, COMPUTE_CAPABILITY_MIN.0, COMPUTE_CAPABILITY_MIN.1
        )),
        _ => Ok(card),
    }
}

fn device(index: u32, card: &CardFacts) -> Device {
    Device {
        kind: DeviceKind::Cuda,
        index,
        name: card.name.clone(),
        memory_total: card.memory_total,
        memory_free: card.memory_free,
        compute_capability: card.compute_capability,
        uuid: Some(card.uuid.clone()),
    }
}

fn nothing(problem: String) -> Found {
    Found {
        cards: Vec::new(),
        problem: Some(problem),
        warnings: Vec::new(),
    }
}

/// What is missing and what to do about it.
fn describe(error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(cause) => format!(
            "there is no NVIDIA driver ({cause}): install driver {DRIVER_MIN} or newer, or give the container the card (docker run --gpus all)"
        ),
        NvmlError::FailedToLoadSymbol(cause) => {
            format!("the NVIDIA driver's library is too old ({cause}): install driver {DRIVER_MIN} or newer")
        }
        NvmlError::DriverNotLoaded => {
            "the NVIDIA driver is installed but its kernel module is not loaded: see what `nvidia-smi` says, or restart the machine".to_owned()
        }
        NvmlError::LibRmVersionMismatch => {
            "the NVIDIA driver was updated and its kernel module is still the old one: restart the machine".to_owned()
        }
        NvmlError::NoPermission | NvmlError::OperatingSystem => {
            format!("this process may not use the NVIDIA driver ({error}): give its user, service or container the /dev/nvidia* devices")
        }
        other => format!("the NVIDIA driver does not answer ({other}): see what `nvidia-smi` says"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str, uuid: &str) -> CardFacts {
        CardFacts {
            name: name.to_owned(),
            uuid: uuid.to_owned(),
            memory_total: 6 << 30,
            memory_free: 5 << 30,
            compute_capability: Some((7, 5)),
            mig: false,
        }
    }

    fn judged(cards: Vec<Result<CardFacts, String>>, visible: Option<&str>, order: Option<&str>) -> Found {
        let facts = Facts {
            driver: "580.82".to_owned(),
            cuda: 13_000,
            cards,
        };
        let environment = Environment {
            visible_devices: visible.map(str::to_owned),
            device_order: order.map(str::to_owned),
        };
        judge(facts, &environment)
    }

    fn three() -> Vec<Result<CardFacts, String>> {
        ["GPU-aa", "GPU-bb", "GPU-cc"].map(|uuid| Ok(card("T4", uuid))).to_vec()
    }

    fn uuids(found: &Found) -> Vec<(u32, &str)> {
        let cards = found.cards.iter();
        cards.map(|card| (card.index, card.uuid.as_deref().unwrap())).collect()
    }

    #[test]
    fn every_card_is_found_with_its_memory() {
        let found = judged(three(), None, None);
        assert_eq!(uuids(&found), [(0, "GPU-aa"), (1, "GPU-bb"), (2, "GPU-cc")]);
        assert_eq!(
            (found.cards[0].memory_total, found.cards[0].memory_free),
            (6 << 30, 5 << 30)
        );
        assert_eq!((found.problem, found.warnings), (None, Vec::new()));
    }

    #[test]
    fn what_a_process_holds_is_as_listed_or_else_what_was_taken_since() {
        let held = |processes: &[(u32, Option<u64>)], pid| own(processes.iter().copied(), pid, 900, 300);
        assert_eq!(held(&[(6, Some(100)), (7, Some(450))], Some(7)), Held::Own(450));
        assert_eq!(held(&[(6, Some(100)), (7, Some(450))], None), Held::Guess(600));
        assert_eq!(held(&[(6, Some(100))], Some(7)), Held::Guess(600));
        assert_eq!(held(&[(7, None)], Some(7)), Held::Guess(600));
        assert_eq!(held(&[], Some(7)), Held::Guess(600));
        assert_eq!(own(std::iter::empty(), None, 200, 300), Held::Guess(0));
    }

    #[test]
    fn the_visible_cards_are_counted_as_cuda_counts_them() {
        assert_eq!(
            uuids(&judged(three(), Some("2, GPU-a"), None)),
            [(0, "GPU-cc"), (1, "GPU-aa")]
        );
        assert_eq!(uuids(&judged(three(), Some("1,9,0"), None)), [(0, "GPU-bb")]);
        for hiding in ["", "-1", "NoDevFiles"] {
            let found = judged(three(), Some(hiding), None);
            let expected = format!("CUDA_VISIBLE_DEVICES = \"{hiding}\" hides every card");
            assert_eq!(found.problem, Some(expected));
        }
    }

    #[test]
    fn a_card_put_aside_keeps_the_numbers_of_the_others() {
        let mut cards = three();
        cards[0] = Err("card 0 of the driver cannot be read: lost".to_owned());
        let found = judged(cards, None, None);
        assert_eq!(uuids(&found), [(1, "GPU-bb"), (2, "GPU-cc")]);
        assert_eq!(found.warnings, ["card 0 of the driver cannot be read: lost"]);
        assert_eq!(found.problem, None);
    }

    #[test]
    fn an_old_or_partitioned_card_is_named_as_the_problem() {
        let mut old = card("GTX 1080", "GPU-aa");
        old.compute_capability = Some((6, 1));
        let mut split = card("H200", "GPU-bb");
        split.mig = true;
        assert_eq!(
            judged(vec![Ok(old), Ok(split)], None, None).problem.unwrap(),
            "GTX 1080 has compute capability 6.1 and CUDA 13 needs 7.5; \
             H200 is partitioned (MIG), which is not supported: switch MIG off"
        );
    }

    #[test]
    fn different_cards_need_a_fixed_order() {
        let cards = vec![Ok(card("T4", "GPU-aa")), Ok(card("L4", "GPU-bb"))];
        let found = judged(cards.clone(), None, None);
        assert!(found.warnings[0].contains("CUDA_DEVICE_ORDER=PCI_BUS_ID"));
        assert_eq!(found.cards.len(), 2);
        assert!(judged(cards.clone(), None, Some("PCI_BUS_ID")).warnings.is_empty());
        let hidden = judged(cards.clone(), Some("1"), None);
        assert_eq!((uuids(&hidden), hidden.warnings.len()), (vec![(0, "GPU-bb")], 1));
        assert!(judged(cards, Some("GPU-bb,GPU-aa"), None).warnings.is_empty());
    }

    #[test]
    fn a_part_of_a_card_is_named_as_the_reason() {
        for list in ["MIG-0a1b", " MIG-0a1b,MIG-2c3d"] {
            let problem = judged(three(), Some(list), None).problem.unwrap();
            assert!(problem.contains("(MIG), which is not supported"), "{problem}");
        }
    }

    #[test]
    fn an_old_driver_is_told_from_no_card() {
        let facts = |cuda, cards| Facts {
            driver: "535.183".to_owned(),
            cuda,
            cards,
        };
        assert_eq!(
            judge(facts(12_020, three()), &Environment::default()).problem.unwrap(),
            "the NVIDIA driver 535.183 supports CUDA 12.2 and ONNX Runtime needs CUDA 13: install driver 580 or newer"
        );
        assert_eq!(
            judge(facts(13_000, Vec::new()), &Environment::default())
                .problem
                .unwrap(),
            "the NVIDIA driver 535.183 finds no card"
        );
    }

    #[test]
    fn every_way_a_driver_can_be_missing_has_its_own_words() {
        let words = [
            (NvmlError::DriverNotLoaded, "kernel module is not loaded"),
            (NvmlError::LibRmVersionMismatch, "restart the machine"),
            (NvmlError::NoPermission, "/dev/nvidia*"),
            (
                NvmlError::FailedToLoadSymbol("nvmlInit_v2".to_owned()),
                "too old (nvmlInit_v2)",
            ),
            (NvmlError::Unknown, "an internal driver error occurred"),
        ];
        for (error, expected) in words {
            let text = describe(&error);
            assert!(text.contains(expected), "{text}");
        }
    }
}
