//! The key-log sink: the one internal function that is handed every TLS secret with its label.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{self, Call, Copy, Root};
use crate::elf::{Address, Elf};
use crate::plan::{FieldPath, LayoutValue, Missing, Plan, Probe, Role, SinkAbi};

/// The labels of the NSS key log format that a TLS library logs.
const LABELS: &[&str] = &[
    "CLIENT_RANDOM",
    "CLIENT_EARLY_TRAFFIC_SECRET",
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_TRAFFIC_SECRET_0",
    "SERVER_TRAFFIC_SECRET_0",
    "CLIENT_TRAFFIC_SECRET_N",
    "SERVER_TRAFFIC_SECRET_N",
    "EARLY_EXPORTER_SECRET",
    "EXPORTER_SECRET",
];

/// One label may be called for by chance; two that agree are a sink.
const AGREEING: usize = 2;

/// Plans the probe on the sink and the way to the client random, or says why not.
pub(super) fn add_secrets(elf: &Elf<'_>, plan: &mut Plan) {
    let missing = |why: String| Missing {
        what: "secrets".into(),
        why,
    };
    let sink = match find(elf) {
        Ok(sink) => sink,
        Err(why) => return plan.missing.push(missing(why)),
    };
    let Some(offset) = elf
        .file_offset(sink.address)
        .filter(|_| elf.is_code(sink.address))
    else {
        return plan.missing.push(missing(format!(
            "the key-log sink {} is no code",
            sink.address
        )));
    };
    if sink.abi.client_random.is_none() {
        match client_random(elf, sink.address) {
            Ok(value) => plan.layout.client_random = Some(value),
            Err(why) => return plan.missing.push(missing(why)),
        }
    }
    plan.layout.sink = sink.abi;
    plan.probes.push(Probe {
        role: Role::SecretSink,
        symbol: elf
            .symbols
            .at(sink.address)
            .map(|symbol| symbol.name.to_string()),
        address: sink.address,
        offset,
        evidence: sink.evidence,
    });
}

/// Whether the image names any secret in the key log's way.
pub(super) fn has_labels(elf: &Elf<'_>) -> bool {
    LABELS
        .iter()
        .any(|label| !elf.find_text(label, 1).is_empty())
}

#[derive(Debug)]
struct Sink {
    address: Address,
    abi: SinkAbi,
    evidence: String,
}

/// A callee and the position at which it takes a label.
type Candidate = (Address, u8);

fn find(elf: &Elf<'_>) -> Result<Sink, String> {
    let labels = label_places(elf);
    if labels.is_empty() {
        return Err("no key-log label stands in the image".into());
    }
    let texts: Vec<Address> = labels.keys().copied().collect();
    let mut candidates: BTreeMap<Candidate, BTreeMap<&str, Address>> = BTreeMap::new();
    for Call {
        text,
        at,
        callee,
        argument,
    } in code::calls_with_text(elf, &texts)
    {
        if let (Some(callee), Some(label)) = (callee, labels.get(&text)) {
            candidates
                .entry((callee, argument))
                .or_default()
                .insert(label, at);
        }
    }
    candidates.retain(|(callee, argument), labels| {
        labels.len() >= AGREEING && code::takes_argument(elf, *callee, *argument)
    });
    drop_callees(elf, &mut candidates);
    let mut candidates = candidates.into_iter();
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => sink_of(only),
        (None, _) => Err("no function is handed two different key-log labels".into()),
        (Some(((one, _), _)), Some(((other, _), _))) => Err(format!(
            "key-log labels go to {one} and to {other}: which is the sink is not certain"
        )),
    }
}

/// Where a jump ends a caller of the sink and nothing tells where functions end, the walk to the
/// call goes on into the sink and meets what that calls with the label.
fn drop_callees(elf: &Elf<'_>, candidates: &mut BTreeMap<Candidate, BTreeMap<&str, Address>>) {
    let inner: BTreeSet<Address> = candidates
        .keys()
        .flat_map(|(callee, _)| code::calls_of(elf, *callee))
        .map(|call| call.at)
        .collect();
    candidates.retain(|_, labels| !labels.values().all(|at| inner.contains(at)));
}

fn sink_of((candidate, labels): (Candidate, BTreeMap<&str, Address>)) -> Result<Sink, String> {
    let (address, argument) = candidate;
    let abi = match argument {
        1 => SinkAbi::default(),
        0 => SinkAbi {
            connection: 1,
            label: 0,
            secret: 4,
            length: 5,
            client_random: Some(2),
        },
        other => {
            return Err(format!(
                "{address} takes key-log labels as argument {other}: not a known sink"
            ));
        }
    };
    let calls: Vec<String> = labels
        .iter()
        .map(|(label, at)| format!("{label} at {at}"))
        .collect();
    let evidence = format!(
        "{} labels agree as argument {argument}: {}",
        labels.len(),
        calls.join(", ")
    );
    Ok(Sink {
        address,
        abi,
        evidence,
    })
}

fn label_places(elf: &Elf<'_>) -> BTreeMap<Address, &'static str> {
    // A label stands once per copy of the library; more are other things' texts.
    const COPIES: usize = 16;
    LABELS
        .iter()
        .flat_map(|label| {
            elf.find_text(label, COPIES)
                .into_iter()
                .map(|at| (at, *label))
        })
        .collect()
}

/// The client random as `SSL_get_client_random` copies it and as the sink passes it on.
/// Where both are legible they must agree.
fn client_random(elf: &Elf<'_>, sink: Address) -> Result<LayoutValue, String> {
    let accessor = elf.symbols.get("SSL_get_client_random");
    let copied = accessor.map(|accessor| code::copies_to_argument(elf, accessor.address, 1));
    let copied = copied.as_deref().and_then(shortest);
    let mut passed = code::random_passed_on(elf, sink);
    if passed.is_empty() {
        passed = code::random_looped_over(elf, sink);
    }
    let passed = shortest(&passed);
    let by_accessor =
        |copy: &Copy| format!("SSL_get_client_random copies {} at {}", copy.field, copy.at);
    let by_sink = |copy: &Copy| {
        format!(
            "the sink takes {} with length 0x20 at {}",
            copy.field, copy.at
        )
    };
    let (path, evidence) = match (copied, passed) {
        (Some((path, copy)), Some((same, passing))) if path == same => {
            (path, format!("{}; {}", by_accessor(copy), by_sink(passing)))
        }
        (Some((_, copy)), Some((_, passing))) => {
            return Err(format!(
                "{}, but {}: which is the client random is not certain",
                by_accessor(copy),
                by_sink(passing)
            ));
        }
        (Some((path, copy)), None) => (path, by_accessor(copy)),
        (None, Some((path, passing))) => (path, by_sink(passing)),
        (None, None) => {
            return Err(format!(
                "the key-log sink is {sink}, but neither SSL_get_client_random nor its own code \
                 shows where the client random is"
            ));
        }
    };
    Ok(LayoutValue {
        path: FieldPath(path),
        evidence,
    })
}

/// The path that starts at the connection itself. Where the public object may be a QUIC one (3.2
/// and later), an accessor also walks to the connection inside; those paths end in the same way.
fn shortest(copies: &[Copy]) -> Option<(Vec<u32>, &Copy)> {
    let paths: BTreeSet<Vec<u32>> = copies
        .iter()
        .filter_map(|copy| copy.field.offsets())
        .collect();
    let direct = copies
        .iter()
        .filter(|copy| copy.field.root == Root::Argument(0));
    let (path, copy) = direct
        .filter_map(|copy| Some((copy.field.offsets()?, copy)))
        .min_by_key(|(path, _)| path.len())?;
    paths
        .iter()
        .all(|other| other.ends_with(&path))
        .then_some((path, copy))
}
