//! The function behind the public read and write forms of OpenSSL.
//!
//! `SSL_read` and `SSL_read_ex` both hand their work to one function that no
//! symbol names. `BIO_f_ssl` calls it too, past the public forms: what `openssl
//! s_server -www` and other users of SSL BIOs say is seen only there.

use std::collections::BTreeMap;

use super::ssl_api::Function;
use crate::code::{self, CallSite, Root, Value};
use crate::elf::{Address, Elf};
use crate::plan::Role;

/// A public pair. `SSL_write_ex` is a tail call of `SSL_write_ex2` where that exists (3.3).
struct Forms {
    worker: &'static str,
    plain: &'static str,
    /// The form with an out-parameter, and which argument that is.
    stored: &'static [(&'static str, u8)],
    /// The worker's role by the position of its own out-parameter.
    roles: &'static [(usize, Role)],
}

const FORMS: &[Forms] = &[
    Forms {
        worker: "ssl_read_internal",
        plain: "SSL_read",
        stored: &[("SSL_read_ex", 3)],
        roles: &[(3, Role::ReadEx)],
    },
    Forms {
        worker: "ssl_write_internal",
        plain: "SSL_write",
        stored: &[("SSL_write_ex2", 4), ("SSL_write_ex", 3)],
        roles: &[(3, Role::WriteEx), (4, Role::WriteEx2)],
    },
];

/// The workers that both forms of a pair call in the same way. Where a compiler
/// dissolved one into its callers there is none, and the forms themselves serve.
pub(super) fn shared(elf: &Elf<'_>, functions: &[Function]) -> Vec<Function> {
    FORMS
        .iter()
        .filter_map(|forms| worker(elf, functions, forms))
        .collect()
}

fn worker(elf: &Elf<'_>, functions: &[Function], forms: &Forms) -> Option<Function> {
    let find = |name: &str| functions.iter().find(|function| function.name == name);
    let plain = find(forms.plain)?;
    let (stored, out) = forms
        .stored
        .iter()
        .find_map(|(name, out)| Some((find(name)?, *out)))?;

    // The plain form keeps the count in a variable of its own.
    let of_plain = handed_on(elf, plain.address, |value| {
        value
            .path()
            .is_some_and(|path| path.root == Root::Stack && path.loads.is_empty())
    });
    let of_stored = handed_on(elf, stored.address, |value| {
        *value == Value::root(Root::Argument(out))
    });
    let mut common = of_plain.into_iter().filter_map(|(target, (position, at))| {
        let (other, _) = of_stored.get(&target)?;
        (*other == position).then_some((target, position, at))
    });
    let (address, position, at) = common.next().filter(|_| common.next().is_none())?;
    if functions.iter().any(|function| function.address == address) || !uses_method(elf, address) {
        return None;
    }
    let (_, role) = forms.roles.iter().find(|(out, _)| *out == position)?;
    let by = format!(
        "{} (at {at}) and {} hand it connection and buffer, and the place of the count as argument {position}",
        plain.name, stored.name
    );
    Some(Function::told(forms.worker, *role, address, &by))
}

/// `s->method->ssl_read(s, buf, ..)`: what the worker does at last. Where it is dissolved into the
/// public forms, what they still call in the same way is QUIC's `ossl_quic_write_flags`.
fn uses_method(elf: &Elf<'_>, worker: Address) -> bool {
    code::calls_of(elf, worker).iter().any(|call| {
        let method = call.through.path();
        method.is_some_and(|path| path.root == Root::Argument(0) && path.loads.len() == 2)
            && passes_connection_and_buffer(call)
    })
}

fn passes_connection_and_buffer(call: &CallSite) -> bool {
    (0..2).all(|index| {
        call.arguments.get(usize::from(index)) == Some(&Value::root(Root::Argument(index)))
    })
}

/// Calls that pass on the connection and the buffer, and the place for the
/// count as the fourth or fifth argument: that position, by function called.
fn handed_on(
    elf: &Elf<'_>,
    function: Address,
    is_out: impl Fn(&Value) -> bool,
) -> BTreeMap<Address, (usize, Address)> {
    code::calls_of(elf, function)
        .into_iter()
        .filter(passes_connection_and_buffer)
        .filter_map(|call| {
            let position = (3..=4).find(|index| call.arguments.get(*index).is_some_and(&is_out))?;
            Some((call.target?, (position, call.at)))
        })
        .collect()
}
