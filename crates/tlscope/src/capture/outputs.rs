//! Opens the outputs and makes the sinks that write to them.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use tlscope_core::sink::{
    HarSink, JsonOptions, JsonSink, KeylogSink, Payload, Sink, TextOptions, TextSink,
};

use super::remote::Remote;
use super::turns::PlaintextFiles;
use crate::config::{Config, Destination, Form, Plaintext, PlaintextTo, Rotation, Terminal};

/// What holds plaintext or secrets is for its owner alone.
pub(super) const PRIVATE: u32 = 0o600;

/// The sinks of a capture, and what has an end of its own.
pub(super) struct Outputs {
    pub(super) sinks: Vec<Box<dyn Sink + Send>>,
    pub(super) remote: Option<Remote>,
}

pub(super) fn open(config: &Config) -> Result<Outputs> {
    let (mut sinks, mut remote) = (Vec::new(), None);
    if let Some(plaintext) = &config.plaintext {
        let writer: Box<dyn Write + Send> = match &plaintext.to {
            PlaintextTo::Local(to) => local(to, plaintext.rotation)?,
            PlaintextTo::Tcp(address) => {
                let started = Remote::start(address).context("a thread for -o")?;
                Box::new(remote.insert(started).clone())
            }
        };
        sinks.push(plaintext_sink(plaintext, writer));
        if let Some(path) = &plaintext.har {
            sinks.push(Box::new(HarSink::new(create(path)?)));
        }
    }
    if let Some(destination) = &config.keylog {
        sinks.push(keylog_sink(destination)?);
    }
    Ok(Outputs { sinks, remote })
}

fn local(to: &Destination, rotation: Rotation) -> Result<Box<dyn Write + Send>> {
    Ok(match to {
        Destination::Stdout => Box::new(stdout()?),
        Destination::File(path) if rotation != Rotation::default() => {
            let files = PlaintextFiles::create(path, rotation);
            Box::new(files.with_context(|| unwritable(path))?)
        }
        Destination::File(path) => Box::new(create(path)?),
    })
}

fn plaintext_sink(plaintext: &Plaintext, writer: Box<dyn Write + Send>) -> Box<dyn Sink + Send> {
    let truncate = plaintext.truncate;
    let text = |payload, Terminal { color, width }| TextOptions {
        payload,
        truncate,
        exchanges: payload != Payload::Raw,
        lifecycle: plaintext.lifecycle,
        color,
        width,
    };
    match plaintext.form {
        Form::Text(payload, terminal) => Box::new(TextSink::new(writer, text(payload, terminal))),
        Form::Json { secrets } => Box::new(JsonSink::new(
            writer,
            JsonOptions {
                secrets,
                truncate,
                ..JsonOptions::default()
            },
        )),
    }
}

fn keylog_sink(destination: &Destination) -> Result<Box<dyn Sink + Send>> {
    let path = match destination {
        Destination::Stdout => return Ok(Box::new(KeylogSink::new(stdout()?))),
        Destination::File(path) => path,
    };
    let file = OpenOptions::new()
        .append(true)
        .read(true)
        .create(true)
        .mode(PRIVATE)
        .open(path)
        .with_context(|| unwritable(path))?;
    warn_if_shared(&file, path);
    let existing = BufReader::new(
        file.try_clone()
            .with_context(|| path.display().to_string())?,
    );
    let sink = KeylogSink::new(file)
        .with_existing(existing)
        .with_context(|| path.display().to_string())?;
    Ok(Box::new(sink))
}

/// The descriptor itself: `io::Stdout` would look for a newline in all that it is given.
fn stdout() -> Result<File> {
    let descriptor = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .context("stdout")?;
    Ok(File::from(descriptor))
}

fn create(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(PRIVATE)
        .open(path)
        .with_context(|| unwritable(path))
}

pub(super) fn unwritable(path: &Path) -> String {
    let shown = path.display();
    format!("{shown} cannot be written; -o, -w and -k choose the place")
}

/// A file that existed keeps its mode: that is the user's to change.
fn warn_if_shared(file: &File, path: &Path) {
    let Ok(metadata) = file.metadata() else {
        return;
    };
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        let shown = path.display();
        eprintln!("tlscope: {shown} holds secrets and others may open it; chmod 600 {shown}");
    }
}
