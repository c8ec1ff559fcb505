use super::*;
use crate::packet::build;

/// The body in a record that holds one whole message.
fn body(record: &[u8]) -> &[u8] {
    &record[9..]
}

#[test]
fn a_client_says_its_random_name_and_early_data() {
    for early in [false, true] {
        let record = build::client_hello([7; 32], "example.org", early);
        let hello = client_hello(body(&record)).unwrap();
        assert_eq!(hello.random, [7; 32]);
        assert_eq!(hello.server_name.as_deref(), Some("example.org"));
        assert_eq!(hello.early_data, early);
    }
}

#[test]
fn a_name_that_is_none_is_left_out() {
    for name in ["", "a\nb", "a b", "\u{1b}[31m", "ex\u{e4}mple"] {
        let record = build::client_hello([7; 32], name, false);
        let hello = client_hello(body(&record)).unwrap();
        assert_eq!(hello.server_name, None, "{name:?}");
    }
}

#[test]
fn a_server_says_its_version() {
    for (tls13, version) in [(true, Version::Tls13), (false, Version::Tls12)] {
        let record = build::server_hello([9; 32], tls13);
        let hello = server_hello(body(&record)).unwrap();
        assert_eq!((hello.version, hello.retry), (version, false));
    }
    let retry = build::server_hello(RETRY, true);
    assert!(server_hello(body(&retry)).unwrap().retry);
}

#[test]
fn damage_is_survived() {
    let client = build::client_hello([7; 32], "example.org", true);
    let server = build::server_hello([9; 32], true);
    for hello in [body(&client), body(&server)] {
        for end in 0..=hello.len() {
            let cut = client_hello(&hello[..end]);
            assert!(end < hello.len() || cut.is_some() || hello == body(&server));
            let _ = server_hello(&hello[..end]);
        }
        for at in 0..hello.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = hello.to_vec();
                damaged[at] = byte;
                let _ = client_hello(&damaged);
                let _ = server_hello(&damaged);
            }
        }
    }
}
