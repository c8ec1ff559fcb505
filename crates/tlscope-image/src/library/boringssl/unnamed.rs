//! BoringSSL's functions in images without names, by the errors that they report.
//!
//! `OPENSSL_PUT_ERROR` is `ERR_put_error(library, 0, reason, file, line)`. The reasons are part
//! of the API, so their numbers stay; the set that a function reports tells which function it is.
//! Each answer must be the only one, else it is missing.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{self, CallSite, Root, Store, Value};
use crate::elf::{Address, Elf};
use crate::library::lifetime;
use crate::library::ssl_api::Function;
use crate::plan::Role;

/// `ERR_LIB_SSL`
const LIBRARY: Value = Value::Const(16);

/// `SSL_R_*`, from BoringSSL's include/openssl/ssl.h.
const CONNECTION_TYPE_NOT_SET: u64 = 134;
const NULL_SSL_CTX: u64 = 185;
const SSL_HANDSHAKE_FAILURE: u64 = 215;
const UNINITIALIZED: u64 = 226;

/// The functions that their code tells for sure.
pub(super) fn functions(elf: &Elf<'_>) -> Vec<Function> {
    let reporting = Reporting::of(elf);
    let write = reporting.write();
    let read = reporting.read(elf);
    let callers: Vec<Address> = write.iter().chain(&read).copied().collect();
    let handshake = reporting.handshake(&callers);
    let new = only(&reporting.with(|reasons| *reasons == BTreeSet::from([NULL_SSL_CTX])));
    let found = [
        (
            "SSL_read",
            Role::Read,
            read,
            "fills its caller's buffer and consumes the record",
        ),
        (
            "SSL_write",
            Role::Write,
            write,
            "hands its caller's buffer to the connection's method",
        ),
        (
            "SSL_do_handshake",
            Role::Handshake,
            handshake,
            "called to shake hands first",
        ),
        ("SSL_new", Role::New, new, "asks for a context"),
    ];
    let told = found
        .into_iter()
        .filter_map(|(name, role, address, marks)| {
            let address = address?;
            let by = format!("{marks}; reports {}", reporting.reasons(address));
            Some(Function::told(name, role, address, &by))
        });
    let mut told: Vec<Function> = told.collect();
    if let Some(new) = new {
        let same_file = reporting.functions.keys().copied();
        told.extend(lifetime::of_boringssl(elf, new, same_file));
    }
    told
}

/// The functions that report errors as of `ssl_lib.cc`.
struct Reporting {
    functions: BTreeMap<Address, Reports>,
}

struct Reports {
    reasons: BTreeSet<u64>,
    calls: Vec<CallSite>,
}

impl Reporting {
    fn of(elf: &Elf<'_>) -> Self {
        const COPIES: usize = 16;
        let files: Vec<Address> = elf
            .find_text(super::SOURCE, COPIES)
            .into_iter()
            .filter_map(|tail| elf.text_start(tail))
            .collect();
        let functions = code::functions_with_text(elf, &files)
            .into_keys()
            .map(|function| {
                let calls = code::calls_of(elf, function);
                let reasons = calls
                    .iter()
                    .filter_map(|call| reason(call, &files))
                    .collect();
                (function, Reports { reasons, calls })
            });
        Self {
            functions: functions.collect(),
        }
    }

    fn with(&self, are: impl Fn(&BTreeSet<u64>) -> bool) -> Vec<Address> {
        let matching = self
            .functions
            .iter()
            .filter(|(_, function)| are(&function.reasons));
        matching.map(|(address, _)| *address).collect()
    }

    fn reasons(&self, function: Address) -> String {
        match self.functions.get(&function) {
            Some(reports) => format!("ssl_lib.cc reasons {:?}", Vec::from_iter(&reports.reasons)),
            None => "no error".into(),
        }
    }

    /// What needs a finished handshake and gives its buffer to `ssl->method->write_app_data`.
    fn write(&self) -> Option<Address> {
        let mut candidates = self.needing_handshake();
        candidates.retain(|function| self.writes(*function));
        only(&candidates)
    }

    fn needing_handshake(&self) -> Vec<Address> {
        self.with(|reasons| {
            [SSL_HANDSHAKE_FAILURE, UNINITIALIZED]
                .iter()
                .all(|reason| reasons.contains(reason))
        })
    }

    fn writes(&self, function: Address) -> bool {
        let function = self.functions.get(&function);
        function.is_some_and(|function| function.calls.iter().any(writes_through_method))
    }

    /// `ssl_read_impl` is told by its errors; it fills a buffer of the connection. Who calls it
    /// (or is merged with it) and copies from there to a buffer of its caller is `SSL_read`, or
    /// else `SSL_peek`, which consumes nothing: it stores to no field.
    fn read(&self, elf: &Elf<'_>) -> Option<Address> {
        let mut fills = self.needing_handshake();
        fills.retain(|function| !self.writes(*function));
        let copying = self
            .callers(&fills)
            .into_iter()
            .chain(fills)
            .filter(|function| fills_buffer(elf, *function));
        let copying: BTreeSet<Address> = copying.collect();
        let consuming = |functions: &BTreeSet<Address>| {
            only(
                &functions
                    .iter()
                    .copied()
                    .filter(|function| consumes(elf, *function))
                    .collect::<Vec<_>>(),
            )
        };
        consuming(&copying).or_else(|| {
            // SSL_read on top of SSL_peek: the same arguments, then it consumes.
            let peeks: Vec<Address> = copying.into_iter().collect();
            consuming(&self.callers(&peeks).into_iter().collect()).or_else(|| {
                // Of late it reports nothing itself.
                let handing_on = peeks.iter().flat_map(|peek| {
                    let callers = code::callers(elf, *peek).into_iter();
                    callers.filter(|caller| hands_on(elf, *caller, *peek))
                });
                consuming(&handing_on.collect())
            })
        })
    }

    /// What `SSL_write` and the like call when there is no session yet.
    fn handshake(&self, callers: &[Address]) -> Option<Address> {
        let candidates = self.with(|reasons| reasons.contains(&CONNECTION_TYPE_NOT_SET));
        let called: BTreeSet<Address> = callers
            .iter()
            .filter_map(|caller| self.functions.get(caller))
            .flat_map(|caller| caller.calls.iter().filter_map(|call| call.target))
            .filter(|target| candidates.contains(target))
            .collect();
        only(&called.into_iter().collect::<Vec<_>>())
    }

    fn callers(&self, callees: &[Address]) -> Vec<Address> {
        let calls = |function: &Reports| {
            function
                .calls
                .iter()
                .any(|call| call.target.is_some_and(|target| callees.contains(&target)))
        };
        self.functions
            .iter()
            .filter(|(_, function)| calls(function))
            .map(|(address, _)| *address)
            .collect()
    }
}

/// Link-time optimisation leaves out the function's number, which is always 0.
fn reason(call: &CallSite, files: &[Address]) -> Option<u64> {
    let [library, passed @ ..] = call.arguments.as_slice() else {
        return None;
    };
    match passed {
        [_, Value::Const(reason), Value::Const(file), ..]
        | [Value::Const(reason), Value::Const(file), ..]
            if *library == LIBRARY && files.contains(&Address(*file)) =>
        {
            Some(*reason)
        }
        _ => None,
    }
}

fn only(candidates: &[Address]) -> Option<Address> {
    match candidates {
        [only] => Some(*only),
        _ => None,
    }
}

/// `(*ssl->method->f)(ssl, .., buf, ..)`
fn writes_through_method(call: &CallSite) -> bool {
    let connection = Value::root(Root::Argument(0));
    let buffer = Value::root(Root::Argument(1));
    call.through
        .path()
        .is_some_and(|path| path.root == Root::Argument(0) && path.loads.len() == 2)
        && call.arguments.first() == Some(&connection)
        && call
            .arguments
            .get(1..)
            .is_some_and(|rest| rest.contains(&buffer))
}

/// `memcpy(buf, ..)` of the buffer that it was given.
fn fills_buffer(elf: &Elf<'_>, function: Address) -> bool {
    let buffer = Value::root(Root::Argument(1));
    code::calls_of(elf, function)
        .iter()
        .any(|call| call.arguments.first() == Some(&buffer))
}

/// Hands its connection, buffer and length to another function.
fn hands_on(elf: &Elf<'_>, function: Address, to: Address) -> bool {
    let own = [0, 1, 2].map(|index| Value::root(Root::Argument(index)));
    code::calls_of(elf, function)
        .iter()
        .any(|call| call.target == Some(to) && call.arguments.starts_with(&own))
}

/// Stores to an object that the connection points at.
fn consumes(elf: &Elf<'_>, function: Address) -> bool {
    code::stores_of(elf, function)
        .iter()
        .any(|Store { to, .. }| {
            to.path()
                .is_some_and(|to| to.root == Root::Argument(0) && !to.loads.is_empty())
        })
}
