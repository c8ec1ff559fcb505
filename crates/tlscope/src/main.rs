//! Entry point: exit codes, and errors as the user sees them.
#![forbid(unsafe_code)]

/// In place of std's, for all modules: these panic where stderr is a pipe that nobody reads any
/// more, and what cannot be told is no reason to end a capture.
macro_rules! eprint {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stderr(), $($words)*);
    }};
}
macro_rules! eprintln {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

mod args;
mod capture;
mod commands;
mod config;
mod modules;

use std::io;
use std::process::ExitCode;

use anyhow::Error;
use clap::Parser;

use args::{Args, Command};

/// Why tlscope ends. Documented in README and in the man page of `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Also Ctrl-C, SIGTERM and a reader that closed the pipe.
    Success = 0,
    Failure = 1,
    Usage = 2,
    /// A missing privilege or kernel feature.
    Unable = 3,
    /// Nothing to probe was found.
    Nothing = 4,
}

/// An error with the exit code it ends in.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    error: Error,
}

impl Exit {
    fn because(self, error: impl Into<Error>) -> Failure {
        Failure {
            exit: self,
            error: error.into(),
        }
    }
}

/// An unclassified error is a plain failure.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Exit::Failure.because(error)
    }
}

fn main() -> ExitCode {
    let args = Args::parse_from(commands::with_subcommand(std::env::args_os().collect()));
    let result = match args.command {
        Command::All(args) => commands::all(&args),
        Command::Tls(args) => commands::tls(&args),
        Command::Gotls(args) => commands::gotls(&args),
        Command::Gnutls(args) => commands::gnutls(&args),
        Command::Nss(args) => commands::nss(&args),
        Command::Inspect(args) => commands::inspect(&args).map(|()| 0),
        Command::List(args) => commands::list(&args).map(|()| 0),
        Command::Doctor => commands::doctor().map(|()| 0),
        Command::Extcap(args) => commands::extcap(&args),
        Command::Generate(args) => commands::generate(&args).map(|()| 0),
    };
    let exit = match result {
        Ok(code) => return ExitCode::from(code),
        Err(failure) if is_closed_pipe(&failure.error) => Exit::Success,
        Err(Failure { exit, error }) => {
            eprintln!("tlscope: {error:#}");
            exit
        }
    };
    ExitCode::from(exit as u8)
}

fn is_closed_pipe(error: &Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}
