//! The Rust mirror of the BPF ABI against the BTF of both objects. No root.

use std::mem::size_of;

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Struct;
use libbpf_rs::{HasSize, ObjectBuilder};
use tlscope_probe::{ObjectKind, abi};

/// Every struct that the two sides share.
fn compare(btf: &Btf<'_>, object: ObjectKind) {
    macro_rules! same {
        ($($c:literal => $rust:ident,)*) => {
            $(check(btf, object, $c, size_of::<abi::$rust>(), abi::$rust::FIELDS);)*
        };
    }
    same! {
        "config" => Config,
        "field_path" => FieldPath,
        "go_layout" => GoLayout,
        "expansion_abi" => ExpansionAbi,
        "image" => Image,
        "record_header" => RecordHeader,
        "socket_address" => SocketAddress,
        "connection_id" => ConnectionId,
        "data_record" => DataRecord,
        "close_record" => CloseRecord,
        "owner_record" => OwnerRecord,
        "connection_key" => ConnectionKey,
        "connection" => Connection,
    }
}

fn check(btf: &Btf<'_>, object: ObjectKind, name: &str, size: usize, fields: &[(&str, usize)]) {
    let c: Struct<'_> = btf
        .type_by_name(name)
        .unwrap_or_else(|| panic!("{object}: no struct {name} in BTF"));
    assert_eq!(c.size(), size, "{object}: size of struct {name}");
    assert_eq!(
        size % 8,
        0,
        "{object}: struct {name} has padding at its end"
    );
    let members: Vec<(String, usize)> = c
        .iter()
        .map(|member| {
            let libbpf_rs::btf::types::MemberAttr::Normal { offset } = member.attr else {
                panic!("{object}: struct {name} has a bit field");
            };
            (
                member.name.unwrap().to_string_lossy().into_owned(),
                offset as usize / 8,
            )
        })
        .collect();
    let mirrored: Vec<(String, usize)> = fields
        .iter()
        .map(|(name, offset)| ((*name).to_string(), *offset))
        .collect();
    assert_eq!(members, mirrored, "{object}: fields of struct {name}");
}

#[test]
fn mirror_equals_both_objects() {
    for object in [ObjectKind::Core, ObjectKind::Noncore] {
        let name = object.to_string();
        let btf = Btf::from_raw(&name, object.bytes())
            .expect("the object is an ELF file with BTF")
            .expect("the object has a .BTF section");
        compare(&btf, object);
    }
}

#[test]
fn every_counter_has_a_name() {
    let object = ObjectBuilder::default()
        .open_memory(ObjectKind::Core.bytes())
        .expect("opening needs no privilege");
    let slots = object
        .maps()
        .find(|map| map.name() == "counters")
        .unwrap()
        .max_entries();
    assert_eq!(slots as usize, abi::COUNTERS.len());
}

#[test]
fn a_record_is_parsed_whole_or_not_at_all() {
    use zerocopy::{FromZeros, IntoBytes};
    let mut record = abi::DataRecord::new_zeroed();
    record.header.kind = 1;
    record.length = 5;
    let mut bytes = record.as_bytes().to_vec();
    bytes.extend_from_slice(b"hello, then padding");
    let Some(abi::Record::Data(parsed, payload)) = abi::Record::parse(&bytes) else {
        panic!("a data record");
    };
    assert_eq!((parsed.length, payload), (5, &b"hello"[..]));
    for end in 0..record.as_bytes().len() + 5 {
        assert!(
            abi::Record::parse(&bytes[..end]).is_none(),
            "cut to {end} bytes"
        );
    }
    for kind in [0, 99, u8::MAX] {
        bytes[0] = kind;
        assert!(abi::Record::parse(&bytes).is_none(), "kind {kind}");
    }
}
