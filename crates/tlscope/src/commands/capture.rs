//! The subcommands that capture: each says which module, and what of it.

use std::path::PathBuf;

use tlscope_image::plan::Module;

use crate::args::{AllArgs, CaptureArgs, GnutlsArgs, GotlsArgs, NssArgs, TlsArgs};
use crate::capture::claim::Claim;
use crate::config::{Config, Wanted};
use crate::modules::row;
use crate::{Exit, Failure, capture};

pub(crate) fn all(args: &AllArgs) -> Result<u8, Failure> {
    let wanted = Wanted {
        modules: Module::ALL.to_vec(),
        name: "all",
        libraries: Vec::new(),
        claim: Claim::default(),
    };
    capture::run(&config(wanted, &args.capture)?)
}

pub(crate) fn tls(args: &TlsArgs) -> Result<u8, Failure> {
    let mut wanted = one(Module::Tls, &args.libssl);
    wanted.claim = Claim {
        android: args.android,
        version: args.ssl_version.clone(),
    };
    capture::run(&config(wanted, &args.capture)?)
}

pub(crate) fn gotls(args: &GotlsArgs) -> Result<u8, Failure> {
    let wanted = one(Module::Gotls, &args.elfpath);
    capture::run(&config(wanted, &args.capture)?)
}

pub(crate) fn gnutls(args: &GnutlsArgs) -> Result<u8, Failure> {
    let wanted = one(Module::Gnutls, &args.gnutls);
    capture::run(&config(wanted, &args.capture)?)
}

pub(crate) fn nss(args: &NssArgs) -> Result<u8, Failure> {
    let wanted = one(Module::Nss, &args.nss);
    capture::run(&config(wanted, &args.capture)?)
}

fn one(module: Module, libraries: &[PathBuf]) -> Wanted {
    Wanted {
        modules: vec![module],
        name: row(module).name,
        libraries: libraries.to_vec(),
        claim: Claim::default(),
    }
}

fn config(wanted: Wanted, args: &CaptureArgs) -> Result<Config, Failure> {
    Config::new(wanted, args).map_err(|error| Exit::Usage.because(error))
}
