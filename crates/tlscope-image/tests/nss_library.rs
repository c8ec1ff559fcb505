//! The plans of the system's own libssl3 and libsoftokn3: two images of one library.

use tlscope_image::plan::{Family, Module, Plan, Role};
use tlscope_image::{analyze, might_hold};

/// The tests install libnss3; a machine without it fails here, by name.
fn image(name: &str) -> Vec<u8> {
    let path = format!("/usr/lib/x86_64-linux-gnu/{name}");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path} (Debian's libnss3): {error}"))
}

fn plan(name: &str) -> Plan {
    let image = image(name);
    assert!(might_hold(&image, &[Module::Nss]), "{name}");
    let plan = analyze(&image).expect("a plan");
    assert_eq!(plan.family, Family::Nss, "{name}");
    assert_eq!(plan.missing, [], "{name}");
    plan
}

fn roles(plan: &Plan) -> Vec<Role> {
    plan.probes.iter().map(|probe| probe.role).collect()
}

#[test]
fn the_tls_library_has_data_and_names_of_secrets() {
    let plan = plan("libssl3.so");
    let expected = [Role::NssRead, Role::Write, Role::Clear, Role::NssSecret];
    assert_eq!(roles(&plan), expected);
    assert!(plan.layout.client_random.is_some());
    assert!(!plan.is_token());
}

#[test]
fn the_token_has_the_bytes_of_secrets_and_no_data() {
    let plan = plan("libsoftokn3.so");
    for role in [Role::TokenDerive, Role::TokenUnwrap, Role::TokenCreate] {
        let probes = roles(&plan).into_iter().filter(|other| *other == role);
        assert_eq!(probes.count(), 1, "{role:?}");
    }
    assert!(roles(&plan).contains(&Role::TokenValue));
    assert!(plan.is_token());
    assert_eq!(plan.data_probes().count(), 0);
}

/// The other libraries of NSS have no part in TLS.
#[test]
fn what_is_no_half_of_it_is_passed_by() {
    for name in ["libnss3.so", "libsmime3.so", "libnssckbi.so"] {
        assert!(analyze(&image(name)).is_err(), "{name}");
    }
}
