//! OpenSSL's functions in images without names, by the errors that they report.
//!
//! Since 3.0 an error says the name of its function: `ERR_set_debug(file, line, name)`; 1.1.1
//! says a number, `ERR_put_error(20, function, reason, file, line)`. The `_ex` forms report
//! nothing: they are told by how they call the same internal function as the plain forms.

use std::collections::BTreeSet;

use crate::code::{self, CallSite, Root, Value};
use crate::elf::{Address, Elf};
use crate::library::lifetime;
use crate::library::ssl_api::Function;
use crate::plan::{Missing, Role};

/// The source file that all of these report errors from.
pub(super) const SOURCE: &str = "ssl_lib.c";

/// A function, and its `SSL_F_*` number in 1.1.1 (include/openssl/sslerr.h).
struct Mark {
    name: &'static str,
    number: u64,
}

const READ: Mark = Mark {
    name: "SSL_read",
    number: 223,
};
const WRITE: Mark = Mark {
    name: "SSL_write",
    number: 208,
};
const READ_INTERNAL: Mark = Mark {
    name: "ssl_read_internal",
    number: 523,
};
const WRITE_INTERNAL: Mark = Mark {
    name: "ssl_write_internal",
    number: 524,
};

const PUBLIC: &[(Mark, Role)] = &[
    (READ, Role::Read),
    (
        Mark {
            name: "SSL_read_early_data",
            number: 529,
        },
        Role::ReadEx,
    ),
    (WRITE, Role::Write),
    (
        Mark {
            name: "SSL_write_early_data",
            number: 526,
        },
        Role::WriteEx,
    ),
    (
        Mark {
            name: "SSL_do_handshake",
            number: 180,
        },
        Role::Handshake,
    ),
    (
        Mark {
            name: "SSL_new",
            number: 186,
        },
        Role::New,
    ),
    (
        Mark {
            name: "SSL_clear",
            number: 164,
        },
        Role::Clear,
    ),
];

/// The functions that their code tells for sure, and what is told but cannot be used.
pub(super) fn functions(elf: &Elf<'_>) -> (Vec<Function>, Vec<Missing>) {
    let reporting = Reporting::of(elf);
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for (mark, role) in PUBLIC {
        let Some(address) = reporting.only(elf, mark) else {
            continue;
        };
        // These switch on the state and may call other data functions through the PLT: without the
        // function's end, or what the slots hold, whether they do is not seen.
        let slots_known = !elf.dynamic || !elf.relocations.is_empty();
        let all_seen = elf.function_around(address).is_some() && slots_known;
        if all_seen || !mark.name.ends_with("_early_data") {
            let by = "reports errors as this function";
            found.push(Function::told(mark.name, *role, address, by));
        } else {
            missing.push(Missing {
                what: format!("`{}`", mark.name),
                why: format!("whether {address} calls another data function is not certain"),
            });
        }
    }
    if let Some(inner) = reporting.inner_of(elf, &READ, &READ_INTERNAL) {
        found.extend(straight(elf, &inner, 4, "SSL_read_ex", Role::ReadEx));
    }
    if let Some(inner) = reporting.inner_of(elf, &WRITE, &WRITE_INTERNAL) {
        // 3.3 put flags in front of the counter, and SSL_write_ex2 on top.
        if inner.has_flags {
            found.extend(straight(elf, &inner, 5, "SSL_write_ex2", Role::WriteEx2));
            found.extend(without_flags(elf, &inner));
        } else {
            found.extend(straight(elf, &inner, 4, "SSL_write_ex", Role::WriteEx));
        }
    }
    let told = |name: &str| found.iter().find(|function| function.name == name);
    if let (Some(new), Some(clear)) = (told("SSL_new"), told("SSL_clear")) {
        let same_file = reporting.functions.iter().map(|(function, _)| *function);
        found.extend(lifetime::free_of_openssl(
            elf,
            new.address,
            clear.address,
            same_file,
        ));
    }
    (found, missing)
}

/// The functions that load the name of the source file.
struct Reporting {
    functions: Vec<(Address, Vec<CallSite>)>,
    files: Vec<Address>,
}

/// The internal function under a plain form.
struct Inner {
    address: Address,
    has_flags: bool,
}

impl Reporting {
    fn of(elf: &Elf<'_>) -> Self {
        const COPIES: usize = 16;
        let tails = elf.find_text(SOURCE, COPIES);
        let files: Vec<Address> = tails
            .into_iter()
            .filter_map(|tail| elf.text_start(tail))
            .collect();
        let functions = code::functions_with_text(elf, &files).into_keys();
        let functions = functions.map(|function| (function, code::calls_of(elf, function)));
        Self {
            functions: functions.collect(),
            files,
        }
    }

    /// The only function that reports errors under a name or number.
    fn only(&self, elf: &Elf<'_>, mark: &Mark) -> Option<Address> {
        let names: Vec<Value> = elf
            .find_text(mark.name, 64)
            .into_iter()
            .map(|address| Value::Const(address.0))
            .collect();
        let mut reporting = self.functions.iter().filter(|(_, calls)| {
            calls
                .iter()
                .any(|call| self.reports(call, &names, mark.number))
        });
        let only = reporting.next()?;
        reporting.next().is_none().then_some(only.0)
    }

    fn reports(&self, call: &CallSite, names: &[Value], number: u64) -> bool {
        /// `ERR_LIB_SSL`
        const LIBRARY: Value = Value::Const(20);
        let is_file = |value: &Value| matches!(value, Value::Const(address) if self.files.contains(&Address(*address)));
        match call.arguments.as_slice() {
            [file, _, name, ..] if is_file(file) => names.contains(name),
            [library, function, _, file, ..] if *library == LIBRARY && is_file(file) => {
                *function == Value::Const(number)
            }
            _ => false,
        }
    }

    /// What a plain form calls with its own arguments and the address of a counter: the function
    /// that reports errors under `mark`.
    fn inner_of(&self, elf: &Elf<'_>, plain: &Mark, mark: &Mark) -> Option<Inner> {
        let address = self.only(elf, mark)?;
        let plain = self.only(elf, plain)?;
        let (_, calls) = self
            .functions
            .iter()
            .find(|(function, _)| *function == plain)?;
        let call = calls.iter().find(|call| call.target == Some(address))?;
        let is_counter = |value: Option<&Value>| {
            value
                .and_then(Value::path)
                .is_some_and(|path| path.root == Root::Stack)
        };
        passes(call, 2).then_some(())?;
        if is_counter(call.arguments.get(3)) {
            Some(Inner {
                address,
                has_flags: false,
            })
        } else if call.arguments.get(3) == Some(&Value::Const(0))
            && is_counter(call.arguments.get(4))
        {
            Some(Inner {
                address,
                has_flags: true,
            })
        } else {
            None
        }
    }
}

/// Whether the first arguments of a call are the caller's own.
fn passes(call: &CallSite, count: u8) -> bool {
    (0..count).all(|index| {
        call.arguments.get(usize::from(index)) == Some(&Value::root(Root::Argument(index)))
    })
}

/// The only caller of the inner function that does nothing but hand its arguments on.
fn straight(
    elf: &Elf<'_>,
    inner: &Inner,
    count: u8,
    name: &'static str,
    role: Role,
) -> Option<Function> {
    only_caller(elf, inner.address, name, role, |call| passes(call, count))
}

/// `SSL_write_ex`, 3.3 and later: no flags, then its own counter. It calls `SSL_write_ex2`, or the
/// inner function where that is merged into it.
fn without_flags(elf: &Elf<'_>, inner: &Inner) -> Option<Function> {
    let name = "SSL_write_ex";
    let no_flags = |call: &CallSite| {
        passes(call, 3)
            && call.arguments.get(3) == Some(&Value::Const(0))
            && call.arguments.get(4) == Some(&Value::root(Root::Argument(3)))
    };
    let over = straight(elf, inner, 5, "SSL_write_ex2", Role::WriteEx2);
    over.and_then(|over| only_caller(elf, over.address, name, Role::WriteEx, no_flags))
        .or_else(|| only_caller(elf, inner.address, name, Role::WriteEx, no_flags))
}

fn only_caller(
    elf: &Elf<'_>,
    callee: Address,
    name: &'static str,
    role: Role,
    is_it: impl Fn(&CallSite) -> bool,
) -> Option<Function> {
    let callers: BTreeSet<Address> = code::callers(elf, callee)
        .into_iter()
        .filter(|caller| {
            let calls = code::calls_of(elf, *caller);
            calls
                .iter()
                .any(|call| call.target == Some(callee) && is_it(call))
        })
        .collect();
    let mut callers = callers.into_iter();
    match (callers.next(), callers.next()) {
        (Some(only), None) => {
            let by = format!("hands its own arguments to {callee}");
            Some(Function::told(name, role, only, &by))
        }
        _ => None,
    }
}
