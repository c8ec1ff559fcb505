//! The questions that libraries ask of code. Each answer names the place that it was read from.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;

use super::callee::{follow_stub, resolve};
use super::functions::starts_of;
use super::references::{Reference, references};
use super::value::Path;
use super::walk::{Event, Known, Limits, Step, each_event, walk};
use super::{Flow, Root, Value, convention, instructions};
use crate::elf::{Address, Elf};

/// RFC 8446, section 4.1.2: a random is 32 bytes.
const RANDOM_BYTES: i64 = 0x20;
const RANDOM_LENGTH: Value = Value::Const(0x20);

const GO_ON: Step = ControlFlow::Continue(());

/// Where a function copies a field to a buffer of its caller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Copy {
    pub(crate) field: Path,
    pub(crate) at: Address,
}

/// What a function copies to where its argument `out` points: `memcpy(out, field, ..)`,
/// called or inlined.
pub(crate) fn copies_to_argument(elf: &Elf<'_>, function: Address, out: u8) -> Vec<Copy> {
    let mut copies = BTreeSet::new();
    let mut add = |at: Address, to: &Value, field: Option<Path>| {
        let start = to
            .path()
            .filter(|to| to.root == Root::Argument(out) && to.loads.is_empty());
        if let (Some(start), Some(mut field)) = (start, field) {
            field.add = field.add.wrapping_sub(start.add);
            copies.insert(Copy { field, at });
        }
    };
    each_event(elf, function, |at, event| match event {
        Event::Store { to, from, .. } => {
            add(at, &to, from.path().and_then(Path::loaded_from));
        }
        Event::Copy { to, from } => add(at, &to, from.path().cloned()),
        Event::Call { arguments, .. } => {
            if let [to, Value::Path(from), ..] = arguments.as_slice() {
                add(at, to, Some(from.clone()));
            }
        }
        _ => {}
    });
    copies.into_iter().collect()
}

/// The fields inside its first argument whose addresses a function stores where its argument `out`
/// points.
pub(crate) fn addresses_given(elf: &Elf<'_>, function: Address, out: u8) -> Vec<Copy> {
    let mut given = BTreeSet::new();
    let target = Value::root(Root::Argument(out));
    each_event(elf, function, |at, event| {
        if let Event::Store { to, from, .. } = event
            && to == target
            && let Some(field) = from.path()
            && field.root == Root::Argument(0)
            && field.loads.is_empty()
        {
            let field = field.clone();
            given.insert(Copy { field, at });
        }
    });
    given.into_iter().collect()
}

/// The fields right behind its first argument that a function reads: offset, width and one place.
pub(crate) fn fields_read(elf: &Elf<'_>, function: Address) -> BTreeMap<(i64, u32), Address> {
    let mut fields = BTreeMap::new();
    each_event(elf, function, |at, event| {
        if let Event::Load { from, width } = event
            && let Some(path) = from.path()
            && path.root == Root::Argument(0)
            && path.loads.is_empty()
        {
            fields.entry((path.add, width)).or_insert(at);
        }
    });
    fields
}

/// A call that passes the address of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) text: Address,
    pub(crate) loaded_at: Address,
    pub(crate) at: Address,
    /// What is called, if it is a place known from the image.
    pub(crate) callee: Option<Address>,
    /// The index of the argument that is the text.
    pub(crate) argument: u8,
    /// What is passed, as far as it is known; empty for a tail call.
    pub(crate) arguments: Vec<Value>,
}

impl Call {
    /// Whether its fourth argument is the length of a TLS random.
    pub(crate) fn passes_random_length(&self) -> bool {
        self.arguments.get(3) == Some(&RANDOM_LENGTH)
    }
}

/// Every call that is given one of `texts`, found from the places that load its address, and
/// every place of loading.
pub(crate) fn calls_with_text(elf: &Elf<'_>, texts: &[Address]) -> (Vec<Call>, Vec<Reference>) {
    let in_registers = convention(elf.arch).arguments.len();
    let mut calls = BTreeMap::new();
    let mut jumps = Vec::new();
    let references = references(elf, texts);
    for reference in &references {
        let text = reference.value();
        let call = |at, callee, argument| Call {
            text: reference.to,
            loaded_at: reference.at,
            at,
            callee,
            argument: argument as u8,
            arguments: Vec::new(),
        };
        walk_from(elf, reference, &mut |at, event| {
            match event {
                Event::Call { target, arguments } => {
                    let mut registers = arguments.iter().take(in_registers);
                    if let Some(argument) = registers.position(|argument| *argument == text) {
                        let found = call(at, resolve(elf, &target), argument);
                        calls.insert((at, reference.at), Call { arguments, ..found });
                    }
                }
                Event::Jump { target, arguments } => {
                    let argument = arguments.position(&text);
                    jumps.extend(argument.map(|argument| call(at, Some(target), argument)));
                }
                _ => {}
            }
            // A register may still hold the text at a call that has no such argument, so go on.
            GO_ON
        });
    }
    // A jump to what others call is a tail call.
    let callees: BTreeSet<_> = calls
        .values()
        .map(|call| (call.callee, call.argument))
        .collect();
    jumps.retain(|jump| callees.contains(&(jump.callee, jump.argument)));
    (calls.into_values().chain(jumps).collect(), references)
}

/// A function that is called with a text among its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holding {
    pub(crate) text: Address,
    pub(crate) callee: Address,
    /// The arguments that are the text, bit by bit.
    arguments: u32,
}

impl Holding {
    /// Whether the argument of this index is the text.
    pub(crate) fn is_text(self, argument: u8) -> bool {
        self.arguments.checked_shr(argument.into()).unwrap_or(0) & 1 == 1
    }

    /// What its callee finds the text as.
    pub(crate) fn arguments(self) -> impl Iterator<Item = Value> {
        let indexes = (0..u32::BITS as u8).filter(move |index| self.is_text(*index));
        indexes.map(|index| Value::root(Root::Argument(index)))
    }
}

/// Every function that is called with one of `texts` among its arguments, in a register or on the
/// stack. Where a text lies there by chance, it is seen too.
pub(crate) fn calls_holding(elf: &Elf<'_>, texts: &[Address]) -> BTreeSet<Holding> {
    let mut found = BTreeSet::new();
    for reference in &references(elf, texts) {
        let text = reference.value();
        walk_from(elf, reference, &mut |_, event| {
            if let Event::Call { target, arguments } = event
                && let Some(callee) = resolve(elf, &target)
            {
                let held = arguments.iter().take(u32::BITS as usize).enumerate();
                let held = held.filter(|(_, argument)| **argument == text);
                let arguments = held.fold(0, |all, (index, _)| all | 1 << index);
                if arguments != 0 {
                    found.insert(Holding {
                        text: reference.to,
                        callee,
                        arguments,
                    });
                }
            }
            GO_ON
        });
    }
    found
}

fn walk_from(
    elf: &Elf<'_>,
    reference: &Reference,
    visit: &mut dyn FnMut(Address, Event<'_>) -> Step,
) {
    // From the load of a label to its call: the longest measured is some 300 instructions, in
    // OpenSSL's tls13_change_cipher_state, where one call serves five labels.
    const TO_THE_CALL: Limits = Limits {
        steps: 20_000,
        states_per_target: 8,
    };
    let known = reference.given.map_or(Known::Nothing, |(register, page)| {
        Known::Constant(register, page)
    });
    walk(elf, reference.at, known, TO_THE_CALL, visit);
}

/// Where a function, or one that it hands the argument to, looks whether a pointer at least so many
/// loads behind its argument is null.
pub(crate) fn tests_pointer_behind(
    elf: &Elf<'_>,
    function: Address,
    argument: u8,
    loads: usize,
) -> Option<Address> {
    null_test(elf, function, argument, loads).or_else(|| {
        let root = Value::root(Root::Argument(argument));
        calls_of(elf, function).into_iter().find_map(|call| {
            let passed = call.arguments.iter().position(|value| *value == root)?;
            null_test(elf, call.target?, passed as u8, loads)
        })
    })
}

fn null_test(elf: &Elf<'_>, function: Address, argument: u8, loads: usize) -> Option<Address> {
    let mut found = None;
    each_event(elf, function, |at, event| {
        if let Event::Compare { left, right } = event
            && (right == Value::Const(0) || right == left)
            && left.path().is_some_and(|path| {
                path.root == Root::Argument(argument) && path.loads.len() >= loads && path.add == 0
            })
        {
            found.get_or_insert(at);
        }
    });
    found
}

/// Whether a function makes use of its argument of this index: moves it elsewhere or reads
/// through it. An argument that it does not have stays where it is until overwritten.
pub(crate) fn takes_argument(elf: &Elf<'_>, function: Address, argument: u8) -> bool {
    let home = convention(elf.arch).arguments.get(usize::from(argument));
    let is_it = |value: &Value| *value == Value::root(Root::Argument(argument));
    let mut taken = false;
    each_event(elf, function, |_, event| {
        taken |= match event {
            Event::Set { to, value } => Some(&to) != home && is_it(value),
            Event::Load { from, .. } => is_it(&from),
            Event::Store { from, .. } => is_it(from),
            _ => false,
        };
    });
    taken
}

/// A call inside one function, its arguments in terms of that function's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CallSite {
    pub(crate) at: Address,
    pub(crate) target: Option<Address>,
    /// The value that was called: a constant, or where a pointer was loaded from.
    pub(crate) through: Value,
    pub(crate) arguments: Vec<Value>,
}

impl CallSite {
    /// The way from the object that one argument points at to the field that the next one does.
    pub(crate) fn field_behind(&self, object: usize) -> Option<Vec<u32>> {
        let object_at = self.arguments.get(object)?.path()?;
        let field = self.arguments.get(object + 1)?.path()?;
        let loads = field.loads.strip_prefix(object_at.loads.as_slice())?;
        let way = Path {
            root: Root::Argument(object as u8),
            loads: loads.to_vec(),
            add: field.add,
        };
        let mut offsets = way.offsets()?;
        // The first step of the way starts where the object is.
        let first = offsets.first_mut()?;
        *first = first.checked_sub(u32::try_from(object_at.add).ok()?)?;
        (field.root == object_at.root).then_some(offsets)
    }
}

/// The calls that a function makes, on every path that a walk within the limits reaches.
pub(crate) fn calls_of(elf: &Elf<'_>, function: Address) -> Vec<CallSite> {
    let mut calls = Vec::new();
    let mut seen = HashSet::new();
    each_event(elf, function, |at, event| {
        if let Event::Call { target, arguments } = event {
            let call = CallSite {
                at,
                target: resolve(elf, &target),
                through: target,
                arguments,
            };
            if seen.insert(call.clone()) {
                calls.push(call);
            }
        }
    });
    calls
}

/// A store to memory, in terms of the function's arguments.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) at: Address,
    pub(crate) to: Value,
}

/// The stores of a function to places that can be told.
pub(crate) fn stores_of(elf: &Elf<'_>, function: Address) -> Vec<Store> {
    let mut stores = Vec::new();
    let mut seen = HashSet::new();
    each_event(elf, function, |at, event| {
        if let Event::Store { to, .. } = event
            && to.path().is_some()
        {
            let store = Store { at, to };
            if seen.insert(store.clone()) {
                stores.push(store);
            }
        }
    });
    stores
}

/// The places in the image whose addresses a function returns, or one that it ends in.
pub(crate) fn places_returned(elf: &Elf<'_>, function: Address) -> BTreeSet<Address> {
    let (places, called) = returned(elf, function);
    match called.first() {
        Some(inner) if places.is_empty() && called.len() == 1 => returned(elf, *inner).0,
        _ => places,
    }
}

/// What a function returns if that is constant, and what it calls.
fn returned(elf: &Elf<'_>, function: Address) -> (BTreeSet<Address>, BTreeSet<Address>) {
    let mut places = BTreeSet::new();
    let mut called = BTreeSet::new();
    each_event(elf, function, |_, event| match event {
        Event::Return {
            value: Value::Const(place),
        } => {
            places.insert(Address(place));
        }
        Event::Call { target, .. } => called.extend(resolve(elf, &target)),
        _ => {}
    });
    (places, called)
}

/// The functions that load the address of one of `texts`, with one place of loading in each.
pub(crate) fn functions_with_text(elf: &Elf<'_>, texts: &[Address]) -> BTreeMap<Address, Address> {
    let places: Vec<Address> = references(elf, texts)
        .into_iter()
        .map(|reference| reference.at)
        .collect();
    starts_of(elf, &places)
        .into_iter()
        .map(|(place, start)| (start, place))
        .collect()
}

/// The buffer inside its first argument that a key-log sink turns to hexadecimal digits itself,
/// in a loop over 32 bytes: by an index, or by a pointer that runs from its start to its end.
pub(crate) fn random_looped_over(elf: &Elf<'_>, sink: Address) -> Vec<Copy> {
    let mut indexed = Vec::new();
    let mut loaded = Vec::new();
    let mut ends = BTreeMap::new();
    let mut bounded = false;
    each_event(elf, sink, |at, event| {
        let of_connection = |path: &Path| path.root == Root::Argument(0);
        match event {
            Event::LoadByte {
                base: Value::Path(field),
            } if of_connection(&field) => {
                indexed.push(Copy { field, at });
            }
            Event::Load {
                from: Value::Path(field),
                ..
            } if of_connection(&field) => {
                loaded.push(Copy { field, at });
            }
            Event::Compare { right, .. } if right == RANDOM_LENGTH => bounded = true,
            Event::Compare {
                left: Value::Path(left),
                right: Value::Path(right),
            } if left.loads == right.loads && of_connection(&left) && of_connection(&right) => {
                // A walk runs on past the end; the first round is short of it.
                let end = left.add.max(right.add);
                ends.entry(left.loads)
                    .and_modify(|known: &mut i64| *known = end.min(*known))
                    .or_insert(end);
            }
            _ => {}
        }
    });
    if bounded && !indexed.is_empty() {
        return starts_of_loops(indexed);
    }
    loaded.retain(|Copy { field, .. }| {
        let end = field.add.checked_add(RANDOM_BYTES);
        end.is_some_and(|end| ends.get(&field.loads) == Some(&end))
    });
    loaded
}

/// An unrolled loop reads at a few indices from the same start: of those, the first.
fn starts_of_loops(mut copies: Vec<Copy>) -> Vec<Copy> {
    copies.sort();
    let mut starts: Vec<Copy> = Vec::new();
    for copy in copies {
        let continues = starts.last().is_some_and(|start| {
            start.field.loads == copy.field.loads
                && copy.field.add.wrapping_sub(start.field.add) < RANDOM_BYTES
        });
        if !continues {
            starts.push(copy);
        }
    }
    starts
}

/// The 32 bytes that a key-log sink passes on with their length, as a path from its first argument.
pub(crate) fn random_passed_on(elf: &Elf<'_>, sink: Address) -> Vec<Copy> {
    let calls = calls_of(elf, sink);
    let found: BTreeSet<Copy> = calls
        .iter()
        .filter_map(|call| {
            Some(Copy {
                field: random_in(call)?.1.clone(),
                at: call.at,
            })
        })
        .collect();
    found.into_iter().collect()
}

/// Which argument of a call is a random of the connection, its length beside it.
pub(crate) fn random_in(call: &CallSite) -> Option<(usize, &Path)> {
    call.arguments
        .windows(2)
        .enumerate()
        .find_map(|(index, pair)| match pair {
            [Value::Path(field), length]
                if *length == RANDOM_LENGTH
                    && field.root == Root::Argument(0)
                    && field.add != 0 =>
            {
                Some((index, field))
            }
            _ => None,
        })
}

/// Every function that a function calls or jumps to, with the place of the call.
/// PLT stubs and pointer slots are resolved.
pub(crate) fn callees(elf: &Elf<'_>, function: Address) -> BTreeMap<Address, Address> {
    // Control flow alone: one visit of each branch target is enough.
    const ONCE: Limits = Limits {
        steps: 20_000,
        states_per_target: 1,
    };
    let mut found = BTreeMap::new();
    walk(elf, function, Known::Nothing, ONCE, &mut |at, event| {
        let (target, jump) = match event {
            Event::Call { target, .. } => (resolve(elf, &target), false),
            Event::JumpThrough { target } => (resolve(elf, &target), true),
            Event::Jump { target, .. } => (follow_stub(elf, target), true),
            _ => return GO_ON,
        };
        let Some(target) = target else { return GO_ON };
        let another_function = target != function && elf.symbols.at(target).is_some();
        if !jump || another_function {
            found.entry(target).or_insert(at);
        }
        if jump && another_function {
            ControlFlow::Break(())
        } else {
            GO_ON
        }
    });
    for (target, at) in direct_calls(elf, function) {
        found.entry(target).or_insert(at);
    }
    found
}

/// The direct calls between a function's first byte and its last, whatever leads to them: a walk
/// does not see through the table of a `switch`.
fn direct_calls(elf: &Elf<'_>, function: Address) -> Vec<(Address, Address)> {
    const LARGEST: u64 = 0x4000;
    instructions(elf, function, LARGEST)
        .filter_map(|instruction| match instruction.flow {
            Flow::Call(target) => Some((follow_stub(elf, target)?, instruction.address)),
            _ => None,
        })
        .collect()
}
