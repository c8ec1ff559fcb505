//! From a plan to links: which probes a capture needs, and how each is attached.

use std::path::Path;

use libbpf_rs::{Link, Object, ProgramMut, UprobeMultiOpts, UprobeOpts};
use tlscope_image::plan::{Plan, Probe, Role};

use crate::features::AttachMode;
use crate::programs::{self, Point};

/// What a capture is after. Keylog and pcap need no probe on the data path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    pub data: bool,
    pub secrets: bool,
    /// Which process uses which socket: for packets.
    pub owners: bool,
}

impl Needs {
    pub fn role(self, role: Role) -> bool {
        if role.is_secret() {
            self.secrets
        } else {
            self.data
        }
    }

    /// Whether the plan can serve any of it.
    pub fn served_by(self, plan: &Plan) -> bool {
        (self.data && plan.data_probes().next().is_some())
            || (self.secrets && plan.secret_probes().next().is_some())
    }
}

/// How and for whom an image's probes are attached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attachment {
    pub(crate) mode: AttachMode,
    pub(crate) pid: Option<u32>,
    pub(crate) cookie: u64,
}

/// All links of one image, or none.
pub(crate) fn attach_image(
    object: &Object,
    probes: &[&Probe],
    path: &Path,
    attachment: Attachment,
) -> libbpf_rs::Result<Vec<Link>> {
    let session = attachment.mode == AttachMode::Session;
    let mut roles: Vec<Role> = probes.iter().map(|probe| probe.role).collect();
    roles.sort_unstable();
    roles.dedup();

    let mut links = Vec::new();
    for role in roles {
        let Some(row) = programs::of_role(role) else {
            continue;
        };
        let offsets: Vec<usize> = probes
            .iter()
            .filter(|probe| probe.role == role)
            .map(|probe| probe.offset.0 as usize)
            .collect();
        for point in row.shape.points(session) {
            let name = format!("{}{}", row.name, point.suffix());
            let program = object
                .progs_mut()
                .find(|program| program.name() == name.as_str())
                .ok_or_else(|| libbpf_rs::Error::from_raw_os_error(libc::ENOENT))?;
            links.extend(attach_point(&program, *point, path, &offsets, attachment)?);
        }
    }
    Ok(links)
}

fn attach_point(
    program: &ProgramMut<'_>,
    point: Point,
    path: &Path,
    offsets: &[usize],
    attachment: Attachment,
) -> libbpf_rs::Result<Vec<Link>> {
    let retprobe = point == Point::Return;
    match attachment.mode {
        AttachMode::Session | AttachMode::Multi => {
            let opts = UprobeMultiOpts {
                offsets: offsets.to_vec(),
                cookies: vec![attachment.cookie; offsets.len()],
                retprobe,
                session: point == Point::Session,
                ..Default::default()
            };
            let pid = attachment.pid.map_or(-1, u32::cast_signed);
            Ok(vec![
                program.attach_uprobe_multi_with_opts(pid, path, "", opts)?,
            ])
        }
        // A perf event's pid is one thread, so the filter stays with the program.
        AttachMode::SingleCookie | AttachMode::Single => offsets
            .iter()
            .map(|offset| {
                let cookie = if attachment.mode.has_cookie() {
                    attachment.cookie
                } else {
                    0
                };
                let opts = UprobeOpts {
                    retprobe,
                    cookie,
                    ..Default::default()
                };
                program.attach_uprobe_with_opts(-1, path, *offset, opts)
            })
            .collect(),
    }
}
