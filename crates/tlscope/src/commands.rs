//! One file per subcommand; those that capture share one.

mod capture;
mod doctor;
mod extcap;
mod generate;
mod inspect;
mod list;

use std::ffi::OsString;

pub(crate) use capture::{all, gnutls, gotls, nss, tls};
pub(crate) use doctor::doctor;
pub(crate) use extcap::extcap;
pub(crate) use generate::generate;
pub(crate) use inspect::inspect;
pub(crate) use list::list;

/// Without a subcommand it is `extcap` when Wireshark asks, and else `all`.
pub(crate) fn with_subcommand(mut arguments: Vec<OsString>) -> Vec<OsString> {
    const OF_CLAP: [&str; 4] = ["-h", "--help", "-V", "--version"];
    let word = |argument: &OsString| argument.to_string_lossy().into_owned();
    let first = arguments.get(1).map(word);
    let none = first.is_none_or(|first| first.starts_with('-') && !OF_CLAP.contains(&&*first));
    if none {
        let of_wireshark = |argument| word(argument).starts_with("--extcap-");
        let extcap = arguments.iter().any(of_wireshark);
        let at = arguments.len().min(1);
        arguments.insert(at, if extcap { "extcap" } else { "all" }.into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subcommand(line: &str) -> String {
        let words = line.split(' ').map(OsString::from).collect();
        with_subcommand(words)[1].to_string_lossy().into_owned()
    }

    #[test]
    fn a_line_without_a_subcommand_means_all() {
        for (line, expected) in [
            ("tlscope", "all"),
            ("tlscope -m pcap -i any", "all"),
            ("tlscope --json", "all"),
            ("tlscope --extcap-interfaces", "extcap"),
            ("tlscope --capture --extcap-interface tlscope", "extcap"),
            ("tlscope tls --json", "tls"),
            ("tlscope --help", "--help"),
            ("tlscope -V", "-V"),
            ("tlscope help", "help"),
        ] {
            assert_eq!(subcommand(line), expected, "{line}");
        }
    }
}
