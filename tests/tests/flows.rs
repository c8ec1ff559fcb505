//! Whose bytes these are: the socket under a connection, for each way of meeting one.

use std::{env, fs};

use tlscope_tests::Scene;
use tlscope_tests::flows::{Group, Way, assert_group, assert_packets_named, page};

#[track_caller]
fn assert_groups(name: &str, group: Group) {
    let scene = Scene::new(name);
    for way in Way::ALL {
        assert_group(&scene, group, way);
    }
}

#[test]
fn a_connection_has_the_socket_that_its_calls_touch() {
    assert_groups("flows-library", Group::Library);
}

#[test]
fn a_memory_bio_has_the_socket_that_its_hello_passed() {
    assert_groups("flows-program", Group::Program);
}

#[test]
fn node_has_the_sockets_that_its_hellos_passed() {
    assert_groups("flows-node", Group::Node);
}

#[test]
fn apache_has_the_sockets_of_its_workers() {
    assert_groups("flows-apache", Group::Apache);
}

#[test]
fn haproxy_has_two_sockets_on_one_thread() {
    assert_groups("flows-haproxy", Group::Haproxy);
}

#[test]
fn stunnel_has_what_it_reads_and_what_it_writes() {
    assert_groups("flows-stunnel", Group::Stunnel);
}

#[test]
fn postgres_has_the_sockets_of_its_backends() {
    assert_groups("flows-postgres", Group::Postgres);
}

#[test]
fn a_connection_older_than_the_capture_has_its_data_and_address() {
    assert_groups("flows-older", Group::Older);
}

/// As text has it; packets have no descriptor.
#[test]
fn packets_name_whoever_uses_their_socket() {
    for (name, group) in [
        ("flows-library-packets", Group::Library),
        ("flows-haproxy-packets", Group::Haproxy),
    ] {
        assert_packets_named(&Scene::new(name), group);
    }
}

#[test]
fn the_page_lists_what_is_tested() {
    const REWRITE: &str = "TLSCOPE_WRITE_PAGES";
    let (path, text, expected) = page();
    if env::var_os(REWRITE).is_some() {
        fs::write(&path, expected).expect("docs/flows.md can be written");
    } else {
        assert_eq!(text, expected, "run this test with {REWRITE}=1");
    }
}
