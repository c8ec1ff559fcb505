//! From a plan to links: which probes a capture needs, and how each is attached.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use libbpf_rs::{AsRawLibbpf, Link, Object, ProgramMut, UprobeMultiOpts, UprobeOpts};
use tlscope_image::plan::{Module, Plan, Probe, Role};

use crate::abi;
use crate::features::AttachMode;
use crate::programs::{self, Point};

/// What a capture is after. Keylog and pcap need no probe on the data path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    pub data: bool,
    pub secrets: bool,
    /// Which process uses which socket: for packets.
    pub owners: bool,
    pub roles: Roles,
}

/// Roles that may be probed: what no image will have need not pass the verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles(u64);

impl Roles {
    pub const ALL: Self = Self(u64::MAX);

    /// Those that images of these modules may have.
    pub fn of_modules(modules: &[Module]) -> Self {
        let may_have = |role: &Role| {
            let go = role.is_go();
            modules
                .iter()
                .any(|module| (*module == Module::Gotls) == go)
        };
        let all = programs::ROLE_PROGRAMS.iter().map(|row| row.role);
        all.filter(may_have).collect()
    }

    fn hold(self, role: Role) -> bool {
        self.0 & Self::bit(role) != 0
    }

    fn bit(role: Role) -> u64 {
        1 << role as u32
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<T: IntoIterator<Item = Role>>(roles: T) -> Self {
        Self(roles.into_iter().fold(0, |all, role| all | Self::bit(role)))
    }
}

impl Needs {
    pub fn role(self, role: Role) -> bool {
        let carries = if role.is_secret() {
            self.secrets
        } else {
            self.data
        };
        carries && self.roles.hold(role)
    }

    /// Whether calls of goroutines are followed, or those of threads.
    pub(crate) fn made_by(self, goroutines: bool) -> bool {
        let mut roles = programs::ROLE_PROGRAMS.iter().map(|row| row.role);
        roles.any(|role| self.roles.hold(role) && role.is_go() == goroutines)
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
    pub(crate) returns_are_filtered: bool,
    /// The image's index in the `images` map.
    pub(crate) image: u16,
}

impl Attachment {
    /// Whether the kernel itself keeps the probes to one process. The programs do in any case.
    /// Kernels 6.6 to 6.9 compare the thread, and would miss all threads but the first; sessions
    /// (6.13) and filtered returns (6.11) are younger.
    pub(crate) fn is_of_process(&self) -> bool {
        let multi = match self.mode {
            AttachMode::Session => true,
            AttachMode::Multi => self.returns_are_filtered,
            _ => false,
        };
        multi && self.pid.is_some()
    }
}

/// A place of a point: where, and what its program is told of it.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    cookie: u64,
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
        let of_role = probes.iter().filter(|probe| probe.role == role);
        let of_role: Vec<&Probe> = of_role.copied().collect();
        for point in row.shape.points(session) {
            let name = format!("{}{}", row.name, point.suffix());
            let program = object
                .progs_mut()
                .find(|program| program.name() == name.as_str())
                .ok_or_else(|| libbpf_rs::Error::from_raw_os_error(libc::ENOENT))?;
            let places = places(&of_role, *point, attachment);
            links.extend(attach_point(&program, *point, path, &places, attachment)?);
        }
    }
    Ok(links)
}

/// Where a point of some probes is, each with its cookie: the image, and above it the address of
/// the very instruction, from which a program learns where the image was loaded.
fn places(probes: &[&Probe], point: Point, attachment: Attachment) -> Vec<Place> {
    let place = |probe: &Probe, offset: u64| {
        let address = probe
            .address
            .0
            .wrapping_add(offset.wrapping_sub(probe.offset.0));
        Place {
            offset,
            cookie: if attachment.mode.has_cookie() {
                u64::from(attachment.image) | address << abi::COOKIE_ADDRESS_SHIFT
            } else {
                0
            },
        }
    };
    let of_probe = |probe: &&Probe| -> Vec<Place> {
        match point {
            Point::Site => {
                let returns = probe.returns.iter();
                returns.map(|offset| place(probe, offset.0)).collect()
            }
            _ => vec![place(probe, probe.offset.0)],
        }
    };
    probes.iter().flat_map(of_probe).collect()
}

fn attach_point(
    program: &ProgramMut<'_>,
    point: Point,
    path: &Path,
    places: &[Place],
    attachment: Attachment,
) -> libbpf_rs::Result<Vec<Link>> {
    let retprobe = point == Point::Return;
    match attachment.mode {
        AttachMode::Session | AttachMode::Multi => {
            let opts = UprobeMultiOpts {
                offsets: places.iter().map(|place| place.offset as usize).collect(),
                cookies: places.iter().map(|place| place.cookie).collect(),
                retprobe,
                session: point == Point::Session,
                ..Default::default()
            };
            let pid = attachment.pid.filter(|_| attachment.is_of_process());
            let pid = pid.map_or(-1, u32::cast_signed);
            Ok(vec![
                program.attach_uprobe_multi_with_opts(pid, path, "", opts)?,
            ])
        }
        AttachMode::Tracefs => {
            let attach = |place: &Place| attach_by_tracefs(program, path, place.offset, retprobe);
            places.iter().map(attach).collect()
        }
        // A perf event's pid is one thread, so the filter stays with the program.
        AttachMode::SingleCookie | AttachMode::Single => places
            .iter()
            .map(|place| {
                let opts = UprobeOpts {
                    retprobe,
                    cookie: place.cookie,
                    ..Default::default()
                };
                program.attach_uprobe_with_opts(-1, path, place.offset as usize, opts)
            })
            .collect(),
    }
}

/// libbpf-rs 0.27 has no name for this way.
fn attach_by_tracefs(
    program: &ProgramMut<'_>,
    path: &Path,
    offset: u64,
    retprobe: bool,
) -> libbpf_rs::Result<Link> {
    let invalid = |_| libbpf_rs::Error::from_raw_os_error(libc::EINVAL);
    let path = CString::new(path.as_os_str().as_bytes()).map_err(invalid)?;
    let opts = libbpf_sys::bpf_uprobe_opts {
        sz: size_of::<libbpf_sys::bpf_uprobe_opts>() as libbpf_sys::size_t,
        retprobe,
        attach_mode: libbpf_sys::PROBE_ATTACH_MODE_LEGACY,
        ..Default::default()
    };
    // SAFETY: the program is loaded and outlives the call, as do path and options.
    let link = unsafe {
        libbpf_sys::bpf_program__attach_uprobe_opts(
            program.as_libbpf_object().as_ptr(),
            -1,
            path.as_ptr(),
            offset as libbpf_sys::size_t,
            &raw const opts,
        )
    };
    match NonNull::new(link) {
        // SAFETY: a link of ours alone.
        Some(link) => Ok(unsafe { Link::from_ptr(link) }),
        None => Err(io::Error::last_os_error().into()),
    }
}
