//! Which container a process runs in, by its control group.
//!
//! Container runtimes name a process's group after the container: 64 hexadecimal
//! digits, alone or between a prefix and `.scope`; systemd-nspawn and LXC use the
//! machine's name. Kubernetes puts it into a group of the pod, whose name holds
//! the pod's uid. Others may name groups too: only plain words are taken.

use std::fs;
use std::path::Path;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// As the runtime has it: 64 hexadecimal digits, or a name.
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
pub(crate) fn of_groups(groups: &str) -> Option<Container> {
    let mut paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.find_map(of_path)
}

/// The innermost: containers run in containers.
fn of_path(path: &str) -> Option<Container> {
    let groups: Vec<&str> = path.split('/').collect();
    let id = (0..groups.len()).rev().find_map(|at| {
        let (before, from) = groups.split_at(at);
        let (group, within) = (from[0], from.get(1).copied());
        let id = runtime_id(group).map(str::to_owned);
        id.or_else(|| machine(group, within))
            .or_else(|| lxc(before.last().copied(), group))
    })?;
    Some(Container {
        id,
        pod: groups.into_iter().find_map(pod_uid),
    })
}

/// `docker-ID.scope`, `cri-containerd-ID.scope`, `libpod-ID.scope`, `crio-ID.scope`, or the bare
/// ID. The monitor beside a container (`libpod-conmon-ID.scope`) is a process of the host.
fn runtime_id(group: &str) -> Option<&str> {
    const DIGITS: usize = 64;
    let bare = group.strip_suffix(".scope").unwrap_or(group);
    let (runtime, id) = match bare.rfind(['-', ':']) {
        Some(at) => (&bare[..at], &bare[at + 1..]),
        None => ("", bare),
    };
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let is_id = id.len() == DIGITS && id.bytes().all(is_hex);
    (is_id && !runtime.ends_with("conmon")).then_some(id)
}

/// `machine-NAME.scope` and `systemd-nspawn@NAME.service`, in which `payload` is the container and
/// `supervisor` is systemd-nspawn itself. Virtual machines are in such groups too.
fn machine(group: &str, within: Option<&str>) -> Option<String> {
    let scope = || group.strip_prefix("machine-")?.strip_suffix(".scope");
    let service = || {
        let name = group.strip_prefix("systemd-nspawn@")?;
        name.strip_suffix(".service")
    };
    let name = plain(&unescaped(scope().or_else(service)?))?;
    (within != Some("supervisor") && !name.starts_with("qemu-")).then_some(name)
}

/// `lxc.payload.NAME`; before LXC 4 `lxc.payload/NAME`, and before 3.1 `lxc/NAME`.
fn lxc(parent: Option<&str>, group: &str) -> Option<String> {
    let name = match (group.strip_prefix("lxc.payload."), parent) {
        (Some(name), _) => name,
        (None, Some("lxc" | "lxc.payload")) => group,
        _ => return None,
    };
    plain(name)
}

/// systemd.unit(5) writes what may not stand in a unit's name as `\x2d`.
fn unescaped(name: &str) -> String {
    let mut parts = name.split("\\x");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(code) = code.filter(u8::is_ascii) {
            text.push(char::from(code));
            text.push_str(&part[2..]);
        } else {
            text.push_str("\\x");
            text.push_str(part);
        }
    }
    text
}

/// What a host's name may hold: nothing that acts on a terminal or ends a field.
fn plain(name: &str) -> Option<String> {
    const MAX: usize = 64;
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    ((1..=MAX).contains(&name.len()) && name.bytes().all(fits)).then(|| name.to_owned())
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

    /// Path, id and pod; `ID`, `POD` and `FLAT` stand for themselves.
    const FOUND: &[(&str, &str, Option<&str>)] = &[
        ("/system.slice/docker-ID.scope", ID, None),
        ("/docker/ID", ID, None),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope",
            ID,
            None,
        ),
        ("/machine.slice/libpod-ID.scope/container", ID, None),
        ("/libpod_parent/libpod-ID", ID, None),
        ("/system.slice/containerd.service/ID", ID, None),
        ("/default/ID", ID, None),
        ("/ecs/0123456789abcdef0123456789abcdef/ID", ID, None),
        ("/kubepods/besteffort/podPOD/ID", ID, Some(POD)),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podFLAT.slice/\
             cri-containerd-ID.scope",
            ID,
            Some(POD),
        ),
        (
            "/kubelet.slice/kubelet-kubepods-podFLAT.slice/crio-ID.scope",
            ID,
            Some(POD),
        ),
        (
            "/kubepods.slice/kubepods-podFLAT.slice/crio-ID.scope/container",
            ID,
            Some(POD),
        ),
        (
            "/system.slice/containerd.service/kubepods-podFLAT.slice:cri-containerd:ID",
            ID,
            None,
        ),
        // kind: a node of Kubernetes is a container of docker.
        (
            "/docker/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee/kubelet.slice/\
             kubelet-kubepods-podFLAT.slice/cri-containerd-ID.scope",
            ID,
            Some(POD),
        ),
        (
            "/machine.slice/machine-web.scope/payload/init.scope",
            "web",
            None,
        ),
        (
            "/machine.slice/machine-my\\x2dbox.scope/payload",
            "my-box",
            None,
        ),
        ("/machine.slice/machine-web.scope", "web", None),
        (
            "/machine.slice/systemd-nspawn@web.service/payload/system.slice",
            "web",
            None,
        ),
        (
            "/machine.slice/machine-web.scope/payload/system.slice/docker-ID.scope",
            ID,
            None,
        ),
        ("/lxc.payload.web", "web", None),
        ("/lxc.payload/web/init.scope", "web", None),
        ("/lxc/web", "web", None),
    ];

    /// The host, its monitors of containers, virtual machines, and what only looks alike.
    const HOST: &[&str] = &[
        "",
        "/",
        "/init.scope",
        "/user.slice/user-1000.slice/session-2.scope",
        "/podium/3f9a",
        "/docker/3f9a",
        "/machine.slice/libpod-conmon-ID.scope",
        "/system.slice/crio-conmon-ID.scope",
        "/machine.slice/machine-web.scope/supervisor",
        "/machine.slice/machine-qemu\\x2d1\\x2dwin.scope/libvirt",
        "/machine.slice/machine-.scope",
        "/machine.slice/machine-a\\x1b[31m.scope",
        "/machine.slice/machine-a, Type:3.scope",
        "/machine.slice/machine-a\\xff.scope",
        "/lxc.monitor.web",
        "/lxc",
    ];

    fn written(path: &str) -> String {
        let flat = POD.replace('-', "_");
        path.replace("FLAT", &flat)
            .replace("POD", POD)
            .replace("ID", ID)
    }

    #[test]
    fn groups_of_containers() {
        for (path, id, pod) in FOUND {
            let expected = Container {
                id: (*id).to_owned(),
                pod: pod.map(str::to_owned),
            };
            let path = written(path);
            for groups in [
                format!("0::{path}\n"),
                format!("12:pids:/\n3:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::/\n"),
            ] {
                assert_eq!(of_groups(&groups), Some(expected.clone()), "{groups}");
            }
        }
    }

    #[test]
    fn the_host_is_no_container() {
        for path in HOST {
            let groups = format!("0::{}\n", written(path));
            assert_eq!(of_groups(&groups), None, "{groups}");
        }
        assert_eq!(of_groups("no groups at all"), None);
    }
}
