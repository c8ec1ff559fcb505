//! The key-log sink: the one internal function that is handed every TLS secret with its label.

mod client_random;

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{self, Call, CallSite, Root, Value};
use crate::elf::{Address, Elf};
use crate::library::if_all_was_walked;
use crate::plan::{LayoutValue, Missing, Plan, Probe, Role, SinkAbi};

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

/// A layout value, and what it is known not to cover.
type Known = (LayoutValue, Option<Missing>);

/// What a family's sink is told and completed by.
#[derive(Debug)]
pub(super) struct Kind {
    /// Whether the function at an address makes use of its argument of this index, which the label
    /// is: one that it does not have may hold a label by chance.
    pub(super) takes: fn(&Elf<'_>, Address, u8) -> bool,
    /// Where the function looks itself whether a key log is wanted, if it does: given its address
    /// and which argument is the connection.
    pub(super) asks: fn(&Elf<'_>, Address, u8) -> Option<Address>,
    /// The way from the connection to the client random, and what it is known to lack.
    pub(super) client_random: fn(&Elf<'_>, Address) -> Result<Known, String>,
}

/// `ssl_log_secret`: `ssl->ctx->keylog_callback` stands behind two pointers.
pub(super) const OF_SSL: Kind = Kind {
    takes: code::takes_argument,
    asks: |elf, sink, connection| code::tests_pointer_behind(elf, sink, connection, 2),
    client_random: client_random::of_sink,
};

/// Plans the probe on the sink and the way to the client random; the error says why not.
pub(super) fn add_secrets(elf: &Elf<'_>, plan: &mut Plan, kind: &Kind) -> Result<(), String> {
    let sink = if_all_was_walked(elf, find(elf, kind)?)?;
    plan.layout.sink = sink.abi;
    plan.layout.client_random = sink.client_random;
    plan.probes.push(sink.probe);
    plan.missing.extend(sink.missing);
    Ok(())
}

/// What a plan without secrets says.
pub(super) fn not_found(why: String) -> Missing {
    Missing {
        what: "secrets".into(),
        why,
    }
}

/// The way to the client random as others than the sink tell it.
pub(super) fn client_random(elf: &Elf<'_>) -> Option<LayoutValue> {
    client_random::known(elf)
}

/// Whether the image names any secret in the key log's way.
pub(super) fn has_labels(elf: &Elf<'_>) -> bool {
    LABELS
        .iter()
        .any(|label| !elf.find_text(label, 1).is_empty())
}

#[derive(Debug)]
struct Sink {
    probe: Probe,
    abi: SinkAbi,
    client_random: Option<LayoutValue>,
    /// What the sink is known not to give.
    missing: Vec<Missing>,
}

/// A callee and the position at which it takes a label.
type Candidate = (Address, u8);

fn find(elf: &Elf<'_>, kind: &Kind) -> Result<Sink, String> {
    let labels = label_places(elf);
    if labels.is_empty() {
        return Err("no key-log label stands in the image".into());
    }
    let texts: Vec<Address> = labels.keys().copied().collect();
    let (calls, references) = code::calls_with_text(elf, &texts);
    let mut candidates: BTreeMap<Candidate, Vec<&Call>> = BTreeMap::new();
    for call in &calls {
        if let Some(callee) = call.callee {
            candidates
                .entry((callee, call.argument))
                .or_default()
                .push(call);
        }
    }
    candidates.retain(|(callee, argument), calls| {
        let different: BTreeSet<_> = calls.iter().map(|call| labels.get(&call.text)).collect();
        different.len() >= AGREEING && (kind.takes)(elf, *callee, *argument)
    });
    drop_callees(elf, &mut candidates);
    let ((address, argument), calls) = only_sink(elf, candidates)?;
    let evidence = evidence(&labels, argument, &calls);
    let lost: Vec<Missing> = references
        .iter()
        .filter(|reference| !calls.iter().any(|call| call.loaded_at == reference.at))
        .filter(|reference| match elf.function_around(reference.at) {
            // The sink itself may look which label it was given.
            Some(own) => own.start != address,
            // Where functions have call frames, what has none is data that looks like code.
            None => elf.frames.is_empty(),
        })
        .filter_map(|reference| {
            let label = labels.get(&reference.to)?;
            let why = format!(
                "the code that loads this label at {} does not call the key-log sink",
                reference.at
            );
            Some(Missing {
                what: format!("secret `{label}`"),
                why,
            })
        })
        .collect();
    let (address, abi, evidence) = match passes_random(elf, address, argument) {
        Some((inner, abi, at)) => (
            inner,
            abi,
            format!("{evidence}; {address} hands all on at {at}"),
        ),
        None => (address, abi(elf, address, argument, &calls)?, evidence),
    };
    if (kind.asks)(elf, address, abi.connection).is_none() {
        return Err(format!(
            "{address} takes the secrets, but does not itself test whether a key log is wanted: if its \
             callers do, it is called only when the application asks for one"
        ));
    }
    let mut missing = lost;
    let client_random = if abi.client_random.is_none() {
        let (value, exception) = (kind.client_random)(elf, address)?;
        missing.extend(exception);
        Some(value)
    } else {
        None
    };
    Ok(Sink {
        probe: probe(elf, address, evidence)?,
        abi,
        client_random,
        missing,
    })
}

fn probe(elf: &Elf<'_>, address: Address, evidence: String) -> Result<Probe, String> {
    let offset = elf.file_offset(address).filter(|_| elf.is_code(address));
    Ok(Probe {
        role: Role::SecretSink,
        symbol: elf
            .symbols
            .at(address)
            .map(|symbol| symbol.name.to_string()),
        address,
        offset: offset.ok_or_else(|| format!("the key-log sink {address} is no code"))?,
        returns: Vec::new(),
        evidence,
    })
}

/// A sink that chooses between randoms (4.0: an Encrypted Client Hello has its own) and hands its
/// choice to one inner function: there the right random is an argument.
fn passes_random(elf: &Elf<'_>, sink: Address, label: u8) -> Option<(Address, SinkAbi, Address)> {
    if label != 1 {
        return None;
    }
    let position = |call: &CallSite, argument: u8| {
        let value = Value::root(Root::Argument(argument));
        let index = call.arguments.iter().position(|held| *held == value)?;
        u8::try_from(index).ok()
    };
    let mut randoms = BTreeSet::new();
    let mut inner = BTreeSet::new();
    for call in code::calls_of(elf, sink) {
        let Some((random, field)) = code::random_in(&call) else {
            continue;
        };
        randoms.insert(field.clone());
        let abi = SinkAbi {
            connection: position(&call, 0)?,
            label: position(&call, 1)?,
            secret: position(&call, 2)?,
            length: position(&call, 3)?,
            client_random: Some(u8::try_from(random).ok()?),
        };
        inner.insert((call.target?, abi, call.at));
    }
    let (address, abi, at) = inner.first().copied()?;
    let one_function = inner
        .iter()
        .all(|(other, same, _)| (*other, *same) == (address, abi));
    (randoms.len() > 1 && one_function).then_some((address, abi, at))
}

/// Where a jump ends a caller of the sink and nothing tells where functions end, the walk to the
/// call goes on into the sink and meets what that calls with the label.
fn drop_callees(elf: &Elf<'_>, candidates: &mut BTreeMap<Candidate, Vec<&Call>>) {
    let inner: BTreeSet<Address> = candidates
        .keys()
        .flat_map(|(callee, _)| code::calls_of(elf, *callee))
        .map(|call| call.at)
        .collect();
    candidates.retain(|_, calls| !calls.iter().all(|call| inner.contains(&call.at)));
}

/// `ssl_log_secret` takes the label second. Only where no function does so, one that takes it
/// first, as `nss_keylog_int` does, is what a dissolved sink called.
fn only_sink<'c>(
    elf: &Elf<'_>,
    candidates: BTreeMap<Candidate, Vec<&'c Call>>,
) -> Result<(Candidate, Vec<&'c Call>), String> {
    let (mut second, other): (Vec<_>, Vec<_>) = candidates
        .into_iter()
        .partition(|((_, argument), _)| *argument == 1);
    let mut first = other;
    first.retain(|((callee, argument), calls)| {
        *argument == 0 && label_first(elf, *callee, calls).is_some()
    });
    let of_form = if second.is_empty() {
        &mut first
    } else {
        &mut second
    };
    match (of_form.pop(), of_form.pop()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err("no function is handed two different key-log labels".into()),
        (Some(((one, _), _)), Some(((other, _), _))) => Err(format!(
            "key-log labels go to {one} and to {other}: which is the sink is not certain"
        )),
    }
}

fn abi(elf: &Elf<'_>, address: Address, label: u8, calls: &[&Call]) -> Result<SinkAbi, String> {
    match label {
        1 => Some(SinkAbi::default()),
        0 => label_first(elf, address, calls),
        _ => None,
    }
    .ok_or_else(|| format!("{address} takes key-log labels as argument {label}: not a known sink"))
}

/// `nss_keylog_int(label, conn, random, random_len, secret, len)`. GCC's link-time optimisation
/// leaves out the length of the random, which is always the same: then what stands behind the
/// connection has to be its client random, as it is known from elsewhere.
fn label_first(elf: &Elf<'_>, sink: Address, calls: &[&Call]) -> Option<SinkAbi> {
    let whole = SinkAbi {
        connection: 1,
        label: 0,
        secret: 4,
        length: 5,
        client_random: Some(2),
    };
    if calls.iter().all(|call| call.passes_random_length()) {
        return Some(whole);
    }
    let fields: BTreeSet<Vec<u32>> = code::callers(elf, sink)
        .into_iter()
        .flat_map(|caller| code::calls_of(elf, caller))
        .filter(|call| call.target == Some(sink))
        .filter_map(|call| call.field_behind(1))
        .collect();
    let known = client_random::known(elf)?.path.0;
    (fields == BTreeSet::from([known])).then_some(SinkAbi {
        secret: 3,
        length: 4,
        ..whole
    })
}

fn evidence(labels: &BTreeMap<Address, &str>, argument: u8, calls: &[&Call]) -> String {
    let calls: BTreeMap<&str, Address> = calls
        .iter()
        .filter_map(|call| Some((*labels.get(&call.text)?, call.at)))
        .collect();
    let places: Vec<String> = calls
        .iter()
        .map(|(label, at)| format!("{label} at {at}"))
        .collect();
    format!(
        "{} labels agree as argument {argument}: {}",
        calls.len(),
        places.join(", ")
    )
}

pub(super) fn label_places(elf: &Elf<'_>) -> BTreeMap<Address, &'static str> {
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
