//! How much memory the control groups of this process leave it: version 2 and version 1, at every level up to the root.

use std::path::{Path, PathBuf};

/// In bytes; `u64::MAX` where there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// The lowest limit at any level.
    pub limit: u64,
    /// The least that any level still allows. Page cache that the kernel can drop at once counts as allowed.
    pub available: u64,
}

/// The files of one version of control groups.
struct Version {
    mount: &'static str,
    limit: &'static str,
    usage: &'static str,
    /// Key in `memory.stat` of file pages that were not used lately, of this group and all below it.
    droppable: &'static str,
}

const V2: Version = Version {
    mount: "/sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    droppable: "inactive_file",
};

const V1: Version = Version {
    mount: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    droppable: "total_inactive_file",
};

/// `read` gives the text of a file, or nothing if there is none.
pub(super) fn limits(read: impl Fn(&Path) -> Option<String>) -> Limits {
    let membership = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mut limits = Limits {
        limit: u64::MAX,
        available: u64::MAX,
    };
    for line in membership.lines() {
        // "hierarchy:controllers:path"; version 2 is hierarchy 0 with no controllers named.
        let mut parts = line.splitn(3, ':');
        let (Some(hierarchy), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if hierarchy == "0" && controllers.is_empty() {
            tighten(&mut limits, &V2, path, &read);
        } else if controllers.split(',').any(|controller| controller == "memory") {
            tighten(&mut limits, &V1, path, &read);
        }
    }
    limits
}

/// Walks from the group up to the mount. In a container the path may be the host's: its levels are then missing here, and the container's own
/// limit stands at the mount.
fn tighten(limits: &mut Limits, version: &Version, path: &str, read: &impl Fn(&Path) -> Option<String>) {
    let mount = Path::new(version.mount);
    let group: PathBuf = mount.join(path.trim_start_matches('/'));
    for level in group.ancestors().take_while(|level| level.starts_with(mount)) {
        let number = |name: &str| read(&level.join(name)).and_then(|text| text.trim().parse::<u64>().ok());
        // "max" is no number, and neither is what version 1 writes for "no limit" less than the RAM that the caller compares with.
        let Some(limit) = number(version.limit) else {
            continue;
        };
        let droppable = read(&level.join("memory.stat")).and_then(|text| entry(&text, version.droppable));
        let used = number(version.usage)
            .unwrap_or(0)
            .saturating_sub(droppable.unwrap_or(0));
        limits.limit = limits.limit.min(limit);
        limits.available = limits.available.min(limit.saturating_sub(used));
    }
}

fn entry(table: &str, key: &str) -> Option<u64> {
    table
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits_of(files: &[(&str, &str)]) -> Limits {
        limits(|path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn without_control_groups_there_is_no_limit() {
        assert_eq!(limits_of(&[]).limit, u64::MAX);
        assert_eq!(limits_of(&[("/proc/self/cgroup", "0::/\n")]).available, u64::MAX);
    }

    #[test]
    fn the_tightest_level_counts_for_limit_and_for_room_each() {
        let found = limits_of(&[
            ("/proc/self/cgroup", "0::/system.slice/interviewd.service\n"),
            ("/sys/fs/cgroup/system.slice/interviewd.service/memory.max", "4000\n"),
            (
                "/sys/fs/cgroup/system.slice/interviewd.service/memory.current",
                "1000\n",
            ),
            (
                "/sys/fs/cgroup/system.slice/interviewd.service/memory.stat",
                "anon 700\ninactive_file 300\n",
            ),
            ("/sys/fs/cgroup/system.slice/memory.max", "5000\n"),
            ("/sys/fs/cgroup/system.slice/memory.current", "4500\n"),
            ("/sys/fs/cgroup/memory.max", "max\n"),
        ]);
        assert_eq!(
            found,
            Limits {
                limit: 4_000,
                available: 500
            }
        );
    }

    #[test]
    fn page_cache_that_can_be_dropped_is_room() {
        let found = limits_of(&[
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/memory.max", "4000\n"),
            ("/sys/fs/cgroup/memory.current", "3900\n"),
            (
                "/sys/fs/cgroup/memory.stat",
                "anon 100\ninactive_file 3000\ninactive_file_x 9\n",
            ),
        ]);
        assert_eq!(found.available, 3_100);
    }

    #[test]
    fn a_containers_limit_is_found_at_the_mount_when_the_path_is_the_hosts() {
        let found = limits_of(&[
            (
                "/proc/self/cgroup",
                "4:cpu,memory:/docker/abc\n1:name=systemd:/docker/abc\n",
            ),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2000\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "500\n"),
            ("/sys/fs/cgroup/memory/memory.stat", "total_inactive_file 100\n"),
        ]);
        assert_eq!(
            found,
            Limits {
                limit: 2_000,
                available: 1_600
            }
        );
    }

    #[test]
    fn nonsense_in_the_files_is_no_limit() {
        let found = limits_of(&[
            ("/proc/self/cgroup", "what\n0::/x\n"),
            ("/sys/fs/cgroup/x/memory.max", "-1"),
        ]);
        assert_eq!(found.limit, u64::MAX);
    }
}
