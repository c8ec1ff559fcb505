//! `tlscope extcap`: what Wireshark and dumpcap ask of a capture source of theirs.
//!
//! One interface, `tlscope`; which network interface it captures on, and of which
//! libraries it takes the secrets, are settings of it. A capture is `tlscope all -m pcap`,
//! or of one module, into the pipe that dumpcap made.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow};
use clap::Parser;

use crate::args::{Args, Command, ExtcapArgs};
use crate::modules::MODULES;
use crate::{Exit, Failure, commands};

const INTERFACE: &str = "tlscope";
/// Of the setting that names one module, or this.
const EVERY: &str = "all";

pub(crate) fn extcap(args: &ExtcapArgs) -> Result<u8, Failure> {
    if args.extcap_interfaces {
        println!(
            "extcap {{version={}}}{{display=tlscope}}",
            env!("CARGO_PKG_VERSION")
        );
        println!("interface {{value={INTERFACE}}}{{display=TLS of this machine, decrypted}}");
        return Ok(0);
    }
    match &args.extcap_interface {
        Some(interface) if interface == INTERFACE => {}
        Some(other) => {
            return Err(Exit::Usage.because(anyhow!("{other}: the interface is {INTERFACE}")));
        }
        None => return Err(Exit::Usage.because(anyhow!("--extcap-interface is missing"))),
    }
    if args.capture {
        return capture_to_pipe(args);
    }
    if args.extcap_dlts {
        println!("dlt {{number=276}}{{name=LINUX_SLL2}}{{display=As the interface has it}}");
    } else if args.extcap_config {
        show_settings();
    } else if let Some(filter) = &args.extcap_capture_filter {
        // Wireshark takes silence for consent, and shows what is said.
        if let Err(error) = tlscope_probe::packets::check_expression(filter) {
            println!("{error}");
        }
    }
    Ok(0)
}

fn show_settings() {
    println!(
        "arg {{number=0}}{{call=--ifname}}{{display=Interface}}{{type=selector}}\
         {{tooltip=Where packets are captured}}"
    );
    println!(
        "arg {{number=1}}{{call=--pid}}{{display=Process}}{{type=unsigned}}{{default=0}}\
         {{tooltip=Only packets of this process; 0 is every process}}"
    );
    println!(
        "arg {{number=2}}{{call=--uid}}{{display=User}}{{type=string}}{{default=0}}\
         {{tooltip=Only packets of this user's processes, by name or number; 0 is every user}}"
    );
    println!(
        "arg {{number=3}}{{call=--module}}{{display=Libraries}}{{type=selector}}\
         {{tooltip=Of which libraries secrets are taken}}"
    );
    println!(
        "arg {{number=4}}{{call=--library}}{{display=File}}{{type=fileselect}}\
         {{mustexist=true}}{{required=false}}\
         {{tooltip=With one kind of library: the library, or a program that holds it; empty finds \
         them all}}"
    );
    println!("value {{arg=0}}{{value=any}}{{display=any}}{{default=true}}");
    for name in interfaces() {
        println!("value {{arg=0}}{{value={name}}}{{display={name}}}");
    }
    println!("value {{arg=3}}{{value={EVERY}}}{{display=All of them}}{{default=true}}");
    for module in &MODULES {
        let (name, title) = (module.name, module.title);
        println!("value {{arg=3}}{{value={name}}}{{display={title}}}");
    }
}

fn interfaces() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten();
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

fn capture_to_pipe(args: &ExtcapArgs) -> Result<u8, Failure> {
    let fifo = args
        .fifo
        .as_ref()
        .context("--capture needs --fifo")
        .map_err(|error| Exit::Usage.because(error))?;
    let mut words: Vec<OsString> = ["tlscope", &args.module, "--quiet", "-m", "pcap", "-w"]
        .map(Into::into)
        .into();
    words.push(fifo.into());
    for (flag, value) in [
        ("--ifname", args.ifname.as_deref().unwrap_or("any")),
        ("--pid", args.pid.as_deref().unwrap_or("0")),
        ("--uid", args.uid.as_deref().unwrap_or("0")),
    ] {
        words.extend([flag.into(), value.into()]);
    }
    let library = args.library.as_deref();
    if let Some(library) = library.filter(|path| !path.as_os_str().is_empty()) {
        words.extend([library_flag(&args.module, library)?.into(), library.into()]);
    }
    words.extend(args.extcap_capture_filter.iter().map(Into::into));
    let parsed = Args::try_parse_from(words).map_err(|error| Exit::Usage.because(error))?;
    match &parsed.command {
        Command::All(all) => commands::all(all),
        Command::Tls(tls) => commands::tls(tls),
        Command::Gotls(gotls) => commands::gotls(gotls),
        Command::Gnutls(gnutls) => commands::gnutls(gnutls),
        Command::Nss(nss) => commands::nss(nss),
        _ => Err(Exit::Usage.because(anyhow!("no capture was asked for"))),
    }
}

fn library_flag(module: &str, library: &Path) -> Result<&'static str, Failure> {
    let row = MODULES.iter().find(|row| row.name == module);
    let of_no_module = || {
        anyhow!(
            "{} is one library: choose its kind, in place of all",
            library.display()
        )
    };
    row.map(|row| row.flag)
        .ok_or_else(|| Exit::Usage.because(of_no_module()))
}
