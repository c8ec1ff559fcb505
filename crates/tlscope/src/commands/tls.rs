//! `tlscope tls`: capture programs that use OpenSSL.

use crate::args::TlsArgs;
use crate::config::Config;
use crate::{Exit, Failure, capture};

pub(crate) fn tls(args: &TlsArgs) -> Result<u8, Failure> {
    let config = Config::new(args).map_err(|error| Exit::Usage.because(error))?;
    capture::run(&config)
}
