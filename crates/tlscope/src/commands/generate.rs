//! `tlscope generate DIR`: man pages and shell completions, made from the flags themselves.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::Failure;
use crate::args::{Args, GenerateArgs};

/// Where man(1) and the shells look, below a prefix such as `/usr/local`.
const MAN_PAGES: &str = "share/man/man1";
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "share/bash-completion/completions"),
    (Shell::Fish, "share/fish/vendor_completions.d"),
    (Shell::Zsh, "share/zsh/site-functions"),
];

pub(crate) fn generate(args: &GenerateArgs) -> Result<(), Failure> {
    let prefix = &args.directory;
    Ok(write(prefix).with_context(|| prefix.display().to_string())?)
}

fn write(prefix: &Path) -> io::Result<()> {
    let pages = prefix.join(MAN_PAGES);
    fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(Args::command(), pages)?;
    for (shell, place) in COMPLETIONS {
        let place = prefix.join(place);
        fs::create_dir_all(&place)?;
        clap_complete::generate_to(shell, &mut Args::command(), "tlscope", place)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_man_page_and_each_shell_completes_them() {
        let prefix = std::env::temp_dir().join(format!("tlscope-pages-{}", std::process::id()));
        write(&prefix).unwrap();
        let read = |path: &str| fs::read_to_string(prefix.join(path)).unwrap();
        let shown = |command: &&clap::Command| !command.is_hide_set();
        let whole = Args::command();
        let names: Vec<_> = whole.get_subcommands().filter(shown).collect();
        let bash = read("share/bash-completion/completions/tlscope.bash");
        for command in names {
            let name = command.get_name();
            let page = read(&format!("{MAN_PAGES}/tlscope-{name}.1"));
            assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
            assert!(bash.contains(&format!("tlscope__subcmd__{name}")), "{name}");
        }
        assert!(read("share/zsh/site-functions/_tlscope").contains("--keylogfile"));
        assert!(read("share/fish/vendor_completions.d/tlscope.fish").contains("keylogfile"));
        fs::remove_dir_all(prefix).unwrap();
    }
}
