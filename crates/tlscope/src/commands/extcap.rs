//! `tlscope extcap`: what Wireshark and dumpcap ask of a capture source of theirs.
//!
//! One interface, `tlscope`; which network interface it captures on is one of
//! its settings. A capture is `tlscope tls -m pcap` into the pipe that dumpcap made.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context, anyhow};
use clap::Parser;

use crate::args::{Args, Command, ExtcapArgs};
use crate::commands::tls_config;
use crate::{Exit, Failure, capture};

const INTERFACE: &str = "tlscope";

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
        "arg {{number=3}}{{call=--libssl}}{{display=TLS library}}{{type=fileselect}}\
         {{mustexist=true}}{{required=false}}\
         {{tooltip=The library, or a program that holds it; empty finds them all}}"
    );
    println!("value {{arg=0}}{{value=any}}{{display=any}}{{default=true}}");
    for name in interfaces() {
        println!("value {{arg=0}}{{value={name}}}{{display={name}}}");
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
    let mut words: Vec<OsString> = ["tlscope", "tls", "--quiet", "-m", "pcap", "-w"]
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
    for library in args
        .libssl
        .iter()
        .filter(|path| !path.as_os_str().is_empty())
    {
        words.extend(["--libssl".into(), library.into()]);
    }
    words.extend(args.extcap_capture_filter.iter().map(Into::into));
    let parsed = Args::try_parse_from(words).map_err(|error| Exit::Usage.because(error))?;
    let Command::Tls(tls) = parsed.command else {
        return Err(Exit::Usage.because(anyhow!("no capture was asked for")));
    };
    capture::run(&tls_config(&tls)?)
}
