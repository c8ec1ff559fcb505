//! `SSL_free` and `SSL_clear` in images without names: by the table of methods that they call through.
//!
//! Both are in the source file of `SSL_new`, which is known by then. Each answer must be the only one.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{self, CallSite, Path, Root, Value};
use crate::elf::{Address, Elf};
use crate::library::ssl_api::Function;
use crate::plan::Role;

/// Offsets in a table of methods.
type Slots = BTreeSet<i64>;

/// A call of `object->method->slot(object, ..)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct OwnMethod {
    /// From the object to its method.
    method: i64,
    slot: i64,
}

/// A pointer's size: from a slot to the next one.
const NEXT: i64 = 8;

/// BoringSSL's `SSL_PROTOCOL_METHOD`: `is_dtls`, `ssl_new`, `ssl_free`. `SSL_clear` calls both of them,
/// `SSL_free` (or the destructor that it consists of) the latter alone.
pub(super) fn of_boringssl(
    elf: &Elf<'_>,
    new: Address,
    same_file: impl Iterator<Item = Address>,
) -> Vec<Function> {
    let calls = code::calls_of(elf, new);
    let Some(birth) = only(calls.iter().filter_map(birth)) else {
        return Vec::new();
    };
    let end = OwnMethod {
        slot: birth.slot + NEXT,
        ..birth
    };
    let callees = calls.iter().filter_map(|call| call.target);
    let candidates = neighbours(elf, same_file.chain([new]), callees);
    let users = users(elf, &candidates, birth.method);
    let with = |slots: &[i64], without: &[i64]| {
        only(users.iter().filter_map(|(function, used)| {
            let fits = slots.iter().all(|slot| used.contains(slot))
                && !without.iter().any(|slot| used.contains(slot));
            fits.then_some(*function)
        }))
    };
    let ends = with(&[end.slot], &[birth.slot])
        .map(|ends| handing_on(elf, ends, &candidates).unwrap_or(ends));
    let clears = with(&[end.slot, birth.slot], &[]);
    let by = |what: &str| format!("{what} at {:#x} of its table of methods", end.slot);
    let free =
        ends.map(|at| Function::told("SSL_free", Role::Free, at, &by("leads to what frees")));
    let clear = clears.map(|at| {
        Function::told(
            "SSL_clear",
            Role::Clear,
            at,
            &by("calls what begins and what frees"),
        )
    });
    free.into_iter().chain(clear).collect()
}

/// The only function of the file that hands its own object on to a destructor.
fn handing_on(
    elf: &Elf<'_>,
    destructor: Address,
    candidates: &BTreeSet<Address>,
) -> Option<Address> {
    let hands_on = |function: &Address| {
        code::calls_of(elf, *function).iter().any(|call| {
            call.target == Some(destructor)
                && call.arguments.first() == Some(&Value::root(Root::Argument(0)))
        })
    };
    only(candidates.iter().copied().filter(hands_on))
}

/// OpenSSL's `SSL_free`, where `SSL_clear` is known. Up to 3.1 a method has `ssl_new`, `ssl_clear`,
/// `ssl_free`, and `SSL_clear` calls the second; from 3.2 on `ssl_new`, `ssl_free`, `ssl_reset`, and it
/// calls the third.
pub(super) fn free_of_openssl(
    elf: &Elf<'_>,
    new: Address,
    clear: Address,
    same_file: impl Iterator<Item = Address>,
) -> Option<Function> {
    let cleared: BTreeSet<OwnMethod> = code::calls_of(elf, clear)
        .iter()
        .filter_map(own_method)
        .collect();
    let method = only(cleared.iter().map(|call| call.method))?;
    let slots: Slots = cleared.iter().map(|call| call.slot).collect();
    let calls = code::calls_of(elf, new);
    let birth = only(calls.iter().filter_map(|call| {
        let (_, slot) = through_method(call)?;
        (slots.contains(&(slot + NEXT)) || slots.contains(&(slot + 2 * NEXT))).then_some(slot)
    }))?;
    let end = if slots.contains(&(birth + NEXT)) {
        birth + 2 * NEXT
    } else {
        birth + NEXT
    };
    let callees = calls.iter().filter_map(|call| call.target);
    let candidates = neighbours(elf, same_file.chain([new, clear]), callees);
    let users = users(elf, &candidates, method);
    let ends = only(users.iter().filter_map(|(function, used)| {
        let frees = used.contains(&end) && !used.contains(&birth) && *function != clear;
        frees.then_some(*function)
    }))?;
    let by = format!("calls what frees at {end:#x} of its table of methods");
    Some(Function::told("SSL_free", Role::Free, ends, &by))
}

/// `ssl->method->ssl_new(ssl)` with an object that was just made.
fn birth(call: &CallSite) -> Option<OwnMethod> {
    let (object, slot) = through_method(call)?;
    let made = matches!(object.root, Root::Call(_));
    let own = call.arguments.first() == Some(&Value::root(object.root));
    match object.loads.as_slice() {
        [] if made && own => Some(OwnMethod {
            method: object.add,
            slot,
        }),
        _ => None,
    }
}

/// `ssl->method->f(ssl, ..)` with the caller's own object.
fn own_method(call: &CallSite) -> Option<OwnMethod> {
    let (object, slot) = through_method(call)?;
    let own = object.root == Root::Argument(0)
        && object.loads.is_empty()
        && call.arguments.first() == Some(&Value::root(Root::Argument(0)));
    own.then_some(OwnMethod {
        method: object.add,
        slot,
    })
}

/// Of a call of `*(*object + slot)`: the place of the method's pointer, and the slot.
fn through_method(call: &CallSite) -> Option<(Path, i64)> {
    let slot = call.through.path()?.loaded_from()?;
    let method = Path {
        add: 0,
        ..slot.clone()
    };
    Some((method.loaded_from()?, slot.add))
}

/// The functions between the first and the last that are known of a source file, and a few more.
fn neighbours(
    elf: &Elf<'_>,
    known: impl Iterator<Item = Address>,
    more: impl Iterator<Item = Address>,
) -> BTreeSet<Address> {
    /// `ssl_lib.c` takes some 64 KiB; a linker may have strewn its functions over the image.
    const LARGEST: u64 = 0x2_0000;
    let known: BTreeSet<Address> = known.collect();
    let mut found: BTreeSet<Address> = more.collect();
    if let (Some(first), Some(last)) = (known.first(), known.last())
        && last.distance_from(*first).is_some_and(|all| all < LARGEST)
    {
        found.extend(code::starts_between(elf, *first, *last));
    }
    found
}

/// Those that call through the method of their own first argument, with the slots.
fn users(elf: &Elf<'_>, candidates: &BTreeSet<Address>, method: i64) -> BTreeMap<Address, Slots> {
    let of_function = |function: &Address| {
        let calls = code::calls_of(elf, *function);
        let own = calls.iter().filter_map(own_method);
        let slots: Slots = own
            .filter(|call| call.method == method)
            .map(|call| call.slot)
            .collect();
        (!slots.is_empty()).then_some((*function, slots))
    };
    candidates.iter().filter_map(of_function).collect()
}

fn only<T: Ord>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut different: BTreeSet<T> = all.collect();
    different.pop_first().filter(|_| different.is_empty())
}
