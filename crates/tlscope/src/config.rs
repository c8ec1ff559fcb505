//! Flags made into a configuration in which everything fits together.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use tlscope_probe::{AttachMode, Needs, ObjectKind};

use crate::args::{Attach, Model, TlsArgs, User};

const DEFAULT_KEYLOG: &str = "tlscope_tls_keylog.log";

#[derive(Debug)]
pub(crate) struct Config {
    /// Named libraries; none means search.
    pub(crate) libraries: Vec<PathBuf>,
    pub(crate) pid: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) plaintext: Option<Plaintext>,
    pub(crate) keylog: Option<Destination>,
    pub(crate) shard_bytes: u32,
    pub(crate) object: Option<ObjectKind>,
    pub(crate) mode: Option<AttachMode>,
    pub(crate) ready_file: Option<PathBuf>,
}

/// Where and how plaintext is written.
#[derive(Debug)]
pub(crate) struct Plaintext {
    pub(crate) to: Destination,
    pub(crate) form: Form,
    pub(crate) truncate: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text { color: bool },
    Hex { color: bool },
    Raw,
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    Stdout,
    File(PathBuf),
}

impl Destination {
    fn new(path: &Path) -> Self {
        if path == Path::new("-") {
            Self::Stdout
        } else {
            Self::File(path.to_path_buf())
        }
    }
}

impl Config {
    pub(crate) fn new(args: &TlsArgs) -> Result<Self> {
        let plaintext = (args.model == Model::Text).then(|| plaintext(args));
        let keylog = match (&args.keylogfile, args.model) {
            (Some(path), _) => Some(Destination::new(path)),
            (None, Model::Keylog) => Some(Destination::File(DEFAULT_KEYLOG.into())),
            (None, Model::Text) => None,
        };
        if args.model == Model::Keylog && (args.json || args.hex || args.raw) {
            return Err(anyhow!(
                "--json, --hex and --raw shape plaintext: they need -m text"
            ));
        }
        Ok(Self {
            libraries: args.libssl.clone(),
            pid: (args.pid != 0).then_some(args.pid),
            uid: uid(&args.uid)?,
            plaintext,
            keylog,
            shard_bytes: args.mapsize.0,
            object: [None, Some(ObjectKind::Core), Some(ObjectKind::Noncore)]
                [usize::from(args.btf)],
            mode: args.attach.map(|attach| match attach {
                Attach::Session => AttachMode::Session,
                Attach::Multi => AttachMode::Multi,
                Attach::SingleCookie => AttachMode::SingleCookie,
                Attach::Single => AttachMode::Single,
            }),
            ready_file: args.ready_file.clone(),
        })
    }

    pub(crate) fn needs(&self) -> Needs {
        Needs {
            data: self.plaintext.is_some(),
            secrets: self.keylog.is_some(),
        }
    }
}

fn plaintext(args: &TlsArgs) -> Plaintext {
    let to = Destination::new(&args.output);
    let color = to == Destination::Stdout
        && io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let form = match (args.json, args.hex, args.raw) {
        (true, ..) => Form::Json,
        (_, true, _) => Form::Hex { color },
        (.., true) => Form::Raw,
        _ => Form::Text { color },
    };
    Plaintext {
        to,
        form,
        truncate: (args.tsize != 0).then_some(args.tsize),
    }
}

fn uid(user: &User) -> Result<Option<u32>> {
    match user {
        User::Any => Ok(None),
        User::Id(id) => Ok(Some(*id)),
        User::Name(name) => {
            let passwd = fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
            let id = passwd.lines().find_map(|line| {
                let mut fields = line.split(':');
                (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
            });
            id.map(Some).ok_or_else(|| {
                anyhow!("--uid {name}: no such user in /etc/passwd; give its number instead")
            })
        }
    }
}
