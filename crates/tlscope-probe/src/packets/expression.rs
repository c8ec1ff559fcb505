//! Filter expressions: checked before anything is attached, and with the place
//! of the fault, which libpcap itself does not tell.

use std::fmt;

use pcap::{Capture, Linktype};

use super::message;

const SYNTAX_ERROR: &str = "syntax error";

/// What may stand after a sound beginning. One that none of them completes has
/// its fault in its last word.
const COMPLETIONS: &[&str] = &[
    "",
    "1",
    "tcp",
    "port 1",
    "127.0.0.1",
    "::1",
    "1 = 1",
    "= 1",
    "lo",
    "host 1",
    "1-2",
    "2:2:2:2:2:2",
    "net 1",
    "0 = 0",
    "] = 0",
    "1] = 0",
    "255.0.0.0",
    "proto 1",
    "mask 255.0.0.0",
    "echo",
];

/// Why an expression was refused, and at which word of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError {
    pub reason: String,
    expression: String,
    /// In bytes; `None` when the whole is at fault.
    place: Option<std::ops::Range<usize>>,
}

impl std::error::Error for ExpressionError {}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filter: {}\n  {}", self.reason, self.expression)?;
        let Some(place) = &self.place else {
            return Ok(());
        };
        let before = self.expression[..place.start].chars().count();
        let marked = self.expression[place.clone()].chars().count().max(1);
        write!(f, "\n  {:before$}{:^<marked$}", "", "")
    }
}

/// Compiles for the type of most interfaces. What depends on the type, or needs
/// a live interface (`inbound`, `ifindex`), is left to the interface.
pub fn check(expression: &str) -> Result<(), ExpressionError> {
    let Err(reason) = compile(expression) else {
        return Ok(());
    };
    if reason.contains("not supported") || reason.contains("rejects all packets") {
        return Ok(());
    }
    let place = if reason == SYNTAX_ERROR {
        Some(first_fault(expression))
    } else {
        named_word(expression, &reason)
    };
    Err(ExpressionError {
        reason,
        expression: expression.to_owned(),
        place,
    })
}

fn compile(expression: &str) -> Result<(), String> {
    const ETHERNET: Linktype = Linktype(1);
    let compiled =
        Capture::dead(ETHERNET).and_then(|handle| handle.compile(expression, true).map(drop));
    compiled.map_err(|error| {
        let text = message(&error);
        // Some versions say what they were doing first.
        text.rsplit("expression: ")
            .next()
            .unwrap_or(&text)
            .to_owned()
    })
}

/// `unknown host 'x'`: the word that the message quotes.
fn named_word(expression: &str, reason: &str) -> Option<std::ops::Range<usize>> {
    let quoted = reason.split(['\'', '"']).nth(1)?;
    let start = expression.find(quoted)?;
    Some(start..start + quoted.len())
}

/// The end of an expression that is sound as far as it goes, and not finished.
fn first_fault(expression: &str) -> std::ops::Range<usize> {
    let end = expression.len()..expression.len();
    words(expression)
        .find(|word| !can_be_completed(&expression[..word.end]))
        .unwrap_or(end)
}

fn words(expression: &str) -> impl Iterator<Item = std::ops::Range<usize>> {
    let start = expression.as_ptr() as usize;
    expression.split_whitespace().map(move |word| {
        let at = word.as_ptr() as usize - start;
        at..at + word.len()
    })
}

fn can_be_completed(beginning: &str) -> bool {
    let open = beginning.matches('(').count();
    let close = ")".repeat(open.saturating_sub(beginning.matches(')').count()));
    COMPLETIONS.iter().any(|completion| {
        let whole = format!("{beginning} {completion}{close}");
        compile(&whole).map_or_else(|reason| reason != SYNTAX_ERROR, |()| true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_expressions() {
        for sound in [
            "tcp port 443",
            "host 10.0.0.1 and (port 80 or port 443)",
            "ip and tcp[13] & 2 != 0",
            "vlan 5 and not arp",
            "inbound and tcp",
        ] {
            assert_eq!(check(sound), Ok(()), "{sound}");
        }
    }

    #[track_caller]
    fn fault(expression: &str, word: &str) {
        let error = check(expression).unwrap_err();
        let place = error.place.clone().expect("a place");
        assert_eq!(&expression[place], word, "{error}");
    }

    #[test]
    fn the_word_at_fault_is_marked() {
        fault("tcp port and 443", "and");
        fault("tcp port 443 443 or", "443");
        fault("tcp porrt 443", "porrt");
        fault("host 10.0.0.1 and", "");
        fault("(tcp port 443", "");
    }

    #[test]
    fn the_mark_stands_under_the_word() {
        let shown = check("tcp port and 443").unwrap_err().to_string();
        assert_eq!(
            shown,
            "filter: syntax error\n  tcp port and 443\n           ^^^"
        );
    }
}
