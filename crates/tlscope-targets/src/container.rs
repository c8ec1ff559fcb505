//! Which container a process runs in, by its control group.
//!
//! Container runtimes name a process's group after the container: 64 hexadecimal
//! digits, alone or between a prefix and `.scope`. Kubernetes puts it into a group
//! of the pod, whose name holds the pod's uid.

use std::fs;
use std::path::Path;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// As the runtime has it: 64 hexadecimal digits.
    pub id: String,
    /// The uid of the Kubernetes pod.
    pub pod: Option<String>,
}

/// `None` for a process of the host, and for one that has ended.
pub fn container(pid: u32) -> Option<Container> {
    let path = Path::new("/proc").join(pid.to_string()).join("cgroup");
    of_groups(&fs::read_to_string(path).ok()?)
}

/// A line per hierarchy, `id:controllers:path`; version 2 has one line.
fn of_groups(groups: &str) -> Option<Container> {
    let mut paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.find_map(of_path)
}

fn of_path(path: &str) -> Option<Container> {
    let id = path.rsplit('/').find_map(container_id)?;
    Some(Container {
        id: id.to_owned(),
        pod: path.split('/').find_map(pod_uid),
    })
}

/// `docker-ID.scope`, `cri-containerd-ID.scope`, `libpod-ID.scope`, or the bare ID.
fn container_id(group: &str) -> Option<&str> {
    const DIGITS: usize = 64;
    let bare = group.strip_suffix(".scope").unwrap_or(group);
    let id = bare.rsplit(['-', ':']).next()?;
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (id.len() == DIGITS && id.bytes().all(is_hex)).then_some(id)
}

/// `podUID`, or `kubepods-besteffort-podUID.slice` with `_` for `-`.
fn pod_uid(group: &str) -> Option<String> {
    const LENGTH: usize = 36;
    let bare = group.strip_suffix(".slice").unwrap_or(group);
    let at = bare.rfind("pod")?;
    let uid = bare[at + 3..].replace('_', "-");
    let is_uid = |(at, b): (usize, u8)| match at {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    };
    (uid.len() == LENGTH && uid.bytes().enumerate().all(is_uid)).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f9a1c0de5b74a6c8d2e9f10a1b2c3d4e5f60718293a4b5c6d7e8f9012345678";
    const POD: &str = "0c5e2f7a-1b3d-4e6f-8a9b-c0d1e2f3a4b5";

    #[track_caller]
    fn assert_found(groups: &str, pod: Option<&str>) {
        let expected = Container {
            id: ID.into(),
            pod: pod.map(str::to_owned),
        };
        assert_eq!(of_groups(groups), Some(expected), "{groups}");
    }

    #[test]
    fn runtimes_and_their_two_drivers() {
        for path in [
            format!("/system.slice/docker-{ID}.scope"),
            format!("/docker/{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/system.slice/containerd.service/{ID}"),
        ] {
            assert_found(&format!("0::{path}\n"), None);
            assert_found(&format!("12:pids:/\n3:cpu,cpuacct:{path}\n"), None);
        }
    }

    #[test]
    fn pods_of_both_drivers() {
        let flat = POD.replace('-', "_");
        for path in [
            format!("/kubepods/besteffort/pod{POD}/{ID}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{flat}.slice/\
                 cri-containerd-{ID}.scope"
            ),
            format!("/kubelet.slice/kubelet-kubepods-pod{flat}.slice/crio-{ID}.scope"),
            format!(
                "/system.slice/containerd.service/kubepods-pod{flat}.slice:cri-containerd:{ID}"
            ),
        ] {
            let pod = (!path.contains("service")).then_some(POD);
            assert_found(&format!("0::{path}"), pod);
        }
    }

    #[test]
    fn the_host_is_no_container() {
        for groups in [
            "",
            "0::/",
            "0::/init.scope",
            "0::/user.slice/user-1000.slice/session-2.scope",
            "no groups at all",
            "1:name=systemd:/podium/3f9a",
        ] {
            assert_eq!(of_groups(groups), None, "{groups}");
        }
    }
}
