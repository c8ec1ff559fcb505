//! The line behind a response: what it answers, how long it took, how much it was.

use std::fmt::Write;
use std::time::Duration;

use super::escape::{self, Shown};
use crate::decode::{Finished, Start, Timing};

/// A target is not shortened to less than this, however narrow the terminal.
const MIN_TARGET: usize = 16;

/// `-- GET example.org/: 200, 42 bytes, first byte 1.52ms, total 12.0ms --`. `None`
/// for what is no final response. A long target is cut to fit `width` columns.
pub(super) fn line(finished: &Finished, width: Option<usize>) -> Option<String> {
    let Start::Response { status, .. } = finished.response.as_ref()?.start() else {
        return None;
    };
    if (100..200).contains(&status) && status != 101 {
        return None;
    }
    let (what, behind) = (asked(finished), outcome(finished, status));
    let room = width.map_or(usize::MAX, |width| {
        let taken = "--  --".len() + behind.chars().count();
        width.saturating_sub(taken).max(MIN_TARGET)
    });
    Some(format!("-- {}{behind} --", shortened(what, room)))
}

/// Words of the peer, harmless.
fn asked(finished: &Finished) -> String {
    let Some((request, Start::Request { method, target })) = finished
        .request
        .as_ref()
        .map(|request| (request, request.start()))
    else {
        return "unknown request".into();
    };
    let host = request.host().unwrap_or_default();
    let host = String::from_utf8_lossy(if target.starts_with('/') { host } else { b"" });
    let asked = format!("{method} {host}{target}");
    let mut safe = Vec::new();
    match escape::show(&mut safe, asked.as_bytes()) {
        Shown::Clean => asked,
        Shown::Escaped => String::from_utf8_lossy(&safe).into_owned(),
        Shown::Binary => asked.escape_debug().to_string(),
    }
}

fn outcome(finished: &Finished, status: u16) -> String {
    let mut text = format!(": {status}, {} bytes", finished.transferred);
    // Writing to a String does not fail.
    if finished.decoded != finished.transferred {
        let _ = write!(text, " ({} decoded)", finished.decoded);
    }
    if let Some(Timing { first_byte, total }) = finished.timing {
        let _ = write!(
            text,
            ", first byte {}, total {}",
            shown(first_byte),
            shown(total)
        );
    }
    if !finished.complete {
        text.push_str(", incomplete");
    }
    text
}

/// With three digits, as far as there are as many.
fn shown(duration: Duration) -> String {
    const UNITS: [(&str, f64); 3] = [("s", 1.0), ("ms", 1e-3), ("\u{b5}s", 1e-6)];
    let seconds = duration.as_secs_f64();
    let Some((unit, size)) = UNITS.into_iter().find(|(_, size)| seconds >= *size) else {
        return format!("{}ns", duration.subsec_nanos());
    };
    let number = seconds / size;
    let digits = usize::from(number < 10.0) + usize::from(number < 100.0);
    format!("{number:.digits$}{unit}")
}

fn shortened(text: String, room: usize) -> String {
    if text.chars().nth(room).is_none() {
        return text;
    }
    let kept = text.chars().take(room.saturating_sub(1));
    kept.chain(['\u{2026}']).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::decode::Head;

    fn finished(target: &str, status: u16) -> Finished {
        let mut request = Head::request("HTTP/1.1", "GET", target);
        request.push(b"Host", b"example.org");
        Finished {
            request: Some(Arc::new(request)),
            response: Some(Arc::new(Head::response("HTTP/1.1", status, ""))),
            transferred: 42,
            decoded: 100,
            duration: Duration::ZERO,
            timing: Some(Timing {
                first_byte: Duration::from_micros(1520),
                total: Duration::from_millis(12),
            }),
            complete: true,
        }
    }

    #[test]
    fn an_exchange_in_one_line() {
        let shown = line(&finished("/a", 200), None).unwrap();
        assert_eq!(
            shown,
            "-- GET example.org/a: 200, 42 bytes (100 decoded), first byte 1.52ms, total 12.0ms --"
        );
    }

    #[test]
    fn a_long_target_is_cut_to_the_width() {
        let long = finished(&format!("/{}", "x".repeat(500)), 200);
        assert_eq!(line(&long, Some(100)).unwrap().chars().count(), 100);
        let narrow = line(&long, Some(10)).unwrap();
        assert!(
            narrow.starts_with("-- GET example.org\u{2026}: 200"),
            "{narrow}"
        );
        let short = finished("/a", 200);
        assert_eq!(line(&short, Some(100)), line(&short, None));
    }

    #[test]
    fn nothing_in_it_acts_on_a_terminal() {
        let hostile = finished("/\u{202e}a\u{9b}31m", 200);
        let shown = line(&hostile, None).unwrap();
        assert!(shown.contains(r"/\u{202e}a\u{9b}31m: 200"), "{shown}");
    }

    #[test]
    fn durations_have_three_digits() {
        for (nanoseconds, expected) in [
            (0, "0ns"),
            (999, "999ns"),
            (1000, "1.00\u{b5}s"),
            (56_700, "56.7\u{b5}s"),
            (100_000_000, "100ms"),
            (61_230_000_000, "61.2s"),
        ] {
            assert_eq!(shown(Duration::from_nanos(nanoseconds)), expected);
        }
    }

    #[test]
    fn interim_responses_are_no_answers() {
        for (status, shown) in [(100, false), (103, false), (101, true), (204, true)] {
            assert_eq!(
                line(&finished("/", status), None).is_some(),
                shown,
                "{status}"
            );
        }
    }
}
