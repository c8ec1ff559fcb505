//! Which of the functions that take labels derives, where one hands its label on to another.
//!
//! OpenSSL's `tls13_hkdf_expand`, which is told the connection, is from 3.2 on a wrapper of
//! `tls13_hkdf_expand_ex`, which is not; a compiler that dissolves it into some of its callers leaves
//! labels at both. All of them pass the inner function. The outer one serves where nobody else
//! hands the inner one a secret that a key log holds.

use std::collections::{BTreeMap, BTreeSet};

use super::{Form, LOGGED};
use crate::code::{self, CallSite, Holding, Root, Value};
use crate::elf::{Address, Elf};
use crate::plan::ExpansionAbi;

/// A function, and how it is called.
pub(super) type Deriving<'f> = (Address, &'f Form);

/// What is to be probed of functions of which each hands its label on to the next one.
#[derive(Debug)]
pub(super) struct Chain<'f> {
    pub(super) probed: Deriving<'f>,
    /// Whom that hands all on to.
    pub(super) inner: Option<Address>,
    /// What hands labels on to it, and is not handed all of them.
    pub(super) passed_by: Option<Address>,
}

impl<'f> Chain<'f> {
    pub(super) fn of(
        elf: &Elf<'_>,
        forms: &'f [Form],
        candidates: &[Deriving<'f>],
    ) -> Result<Self, String> {
        let mut longest = Vec::new();
        let mut ends = BTreeSet::new();
        for candidate in candidates {
            let links = links(elf, forms, *candidate);
            ends.extend(links.last().map(|(address, _)| *address));
            if links.len() >= longest.len() {
                longest = links;
            }
        }
        let mut ends = ends.into_iter();
        if let (Some(one), Some(other)) = (ends.next(), ends.next()) {
            return Err(format!(
                "labels of HKDF go to {one} and to {other}: which derives is not certain"
            ));
        }
        let mut pairs = longest.windows(2);
        let passed_by = pairs.rposition(|pair| !takes_all_of(elf, pair[0].0, pair[1]));
        let first = passed_by.map_or(0, |at| at + 1);
        let probed = longest.get(first).copied();
        let address = |at: usize| longest.get(at).map(|(address, _)| *address);
        Ok(Self {
            probed: probed.ok_or("no function is handed labels of HKDF in a way that is known")?,
            inner: address(first + 1),
            passed_by: passed_by.and_then(address),
        })
    }

    /// Whether a call hands a text to the probed function as its label: itself, or through one
    /// function more.
    pub(super) fn is_reached(&self, elf: &Elf<'_>, call: Holding) -> bool {
        let (probed, form) = self.probed;
        if call.callee == probed {
            return call.is_text(form.abi.label);
        }
        let label = usize::from(form.abi.label);
        code::calls_of(elf, call.callee).iter().any(|inner| {
            let passed = inner.arguments.get(label);
            inner.target == Some(probed) && call.arguments().any(|own| passed == Some(&own))
        })
    }
}

/// A function, whom it hands its label on to, whom that does, and so on.
fn links<'f>(elf: &Elf<'_>, forms: &'f [Form], outermost: Deriving<'f>) -> Vec<Deriving<'f>> {
    const LONGEST: usize = 4;
    let inner = |outer: &Deriving<'f>| handed_on(elf, forms, *outer);
    std::iter::successors(Some(outermost), inner)
        .take(LONGEST)
        .collect()
}

/// The only function that one hands on what it was handed: the label, and where to put the secret.
fn handed_on<'f>(
    elf: &Elf<'_>,
    forms: &'f [Form],
    (outer, form): Deriving<'f>,
) -> Option<Deriving<'f>> {
    let mut inner: BTreeMap<Address, &'f Form> = BTreeMap::new();
    for call in code::calls_of(elf, outer) {
        let target = call.target.filter(|target| *target != outer);
        let fitting = forms
            .iter()
            .find(|inner| hands_on(&call, &form.abi, &inner.abi));
        inner.extend(target.zip(fitting));
    }
    let only = inner.pop_first();
    only.filter(|_| inner.is_empty())
}

fn hands_on(call: &CallSite, outer: &ExpansionAbi, inner: &ExpansionAbi) -> bool {
    let handed = |from: u8, to: u8| {
        call.arguments.get(usize::from(to)) == Some(&Value::root(Root::Argument(from)))
    };
    let is_handed = |to: u8| (0..call.arguments.len() as u8).any(|from| handed(from, to));
    let length = |from: Option<u8>, to: Option<u8>| match (from, to) {
        (Some(from), Some(to)) => handed(from, to),
        // What the outer one measures it was not handed.
        (None, Some(to)) => !is_handed(to),
        (None, None) => true,
        (Some(_), None) => false,
    };
    handed(outer.label, inner.label)
        && handed(outer.output, inner.output)
        && length(outer.label_length, inner.label_length)
        && length(outer.output_length, inner.output_length)
}

/// Whether every other call of the inner function is seen to be for what no key log holds.
fn takes_all_of(elf: &Elf<'_>, outer: Address, (inner, form): Deriving<'_>) -> bool {
    let Some(places) = code::places_calling(elf, inner) else {
        return false;
    };
    let mut calling: BTreeMap<Address, BTreeSet<Address>> = BTreeMap::new();
    for (place, function) in places {
        let Some(function) = function else {
            return false;
        };
        calling.entry(function).or_default().insert(place);
    }
    // Where its own call does not show, others may not either.
    calling.remove(&inner);
    calling.remove(&outer).is_some()
        && calling.into_iter().all(|(function, mut places)| {
            let calls = code::calls_of(elf, function);
            let mut of_inner = calls.iter().filter(|call| call.target == Some(inner));
            of_inner.all(|call| {
                places.remove(&call.at);
                is_of_no_key_log(elf, &form.abi, call)
            }) && places.is_empty()
        })
}

fn is_of_no_key_log(elf: &Elf<'_>, abi: &ExpansionAbi, call: &CallSite) -> bool {
    let constant = |index: u8| match call.arguments.get(usize::from(index)) {
        Some(Value::Const(value)) => Some(*value),
        _ => None,
    };
    let label = constant(abi.label).and_then(|place| {
        let place = Address(place);
        match abi.label_length {
            Some(index) => elf
                .bytes_from(place)?
                .get(..usize::try_from(constant(index)?).ok()?),
            None => elf.text_at(place).map(str::as_bytes),
        }
    });
    label.is_some_and(|label| LOGGED.iter().all(|(logged, _)| logged.as_bytes() != label))
}
