//! What the verifier knows at an instruction: registers and stack, and which of them what comes
//! behind it reads, by which a state is found to have been seen before.

use std::cell::Cell;
use std::rc::Rc;

use crate::number::Number;

pub(crate) const FRAME: u8 = 10;
const SLOT: i64 = 8;
const STACK: i64 = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Unset,
    Number,
    Context,
    Map(usize),
    /// Of a map, by its number.
    Value(usize),
    /// The same, or NULL; which look-up gave it.
    MaybeValue(usize, u32),
    Stack,
}

/// A pointer's number is what was added to it beside the constant offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Register {
    pub(crate) kind: Kind,
    pub(crate) offset: i64,
    pub(crate) number: Number,
}

impl Register {
    pub(crate) const UNSET: Self = Self::of(Kind::Unset, Number::ANY);

    pub(crate) const fn of(kind: Kind, number: Number) -> Self {
        Self {
            kind,
            offset: 0,
            number,
        }
    }

    pub(crate) const fn pointer(kind: Kind) -> Self {
        Self::of(kind, Number::known(0))
    }

    pub(crate) const fn number(number: Number) -> Self {
        Self::of(Kind::Number, number)
    }

    /// `regsafe`: what went well with `self` goes well with `other`.
    fn covers(&self, other: &Self, ids: &mut Vec<(u32, u32)>) -> bool {
        if self == other || self.kind == Kind::Unset {
            return true;
        }
        match (self.kind, other.kind) {
            (Kind::Number, Kind::Number) => self.number.holds(&other.number),
            (Kind::Value(one), Kind::Value(two)) => {
                (one, self.offset) == (two, other.offset) && self.number.holds(&other.number)
            }
            (Kind::MaybeValue(one, id), Kind::MaybeValue(two, new)) => {
                if !ids.iter().any(|pair| pair.0 == id) {
                    ids.push((id, new));
                }
                (one, self.offset, self.number) == (two, other.offset, other.number)
                    && ids.contains(&(id, new))
            }
            _ => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Byte {
    Unset,
    Any,
    Zero,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    Bytes([Byte; SLOT as usize]),
    Pointer(Register),
}

impl Slot {
    const UNSET: Self = Self::Bytes([Byte::Unset; SLOT as usize]);

    fn covers(&self, other: &Self, ids: &mut Vec<(u32, u32)>) -> bool {
        match (self, other) {
            (Self::Pointer(one), Self::Pointer(two)) => one.covers(two, ids),
            (Self::Bytes(one), Self::Bytes(two)) => one.iter().zip(two).all(|pair| {
                pair.0 == pair.1 || matches!(pair, (Byte::Unset, _) | (Byte::Any, Byte::Zero))
            }),
            (Self::Bytes(bytes), Self::Pointer(_)) => *bytes == [Byte::Unset; SLOT as usize],
            (Self::Pointer(_), Self::Bytes(_)) => false,
        }
    }
}

/// A place that is read or written: a register, or behind those a slot of the stack.
type Places = u128;

fn place_of(register: u8) -> Places {
    1 << register
}

fn place_of_slot(slot: usize) -> Places {
    1 << (slot + 1 + usize::from(FRAME))
}

/// A state that others are compared with.
#[derive(Debug)]
pub(crate) struct Saved {
    state: State,
    read: Cell<Places>,
}

#[derive(Debug, Clone)]
pub(crate) struct State {
    registers: [Register; FRAME as usize + 1],
    stack: [Slot; (STACK / SLOT) as usize],
    parent: Option<Rc<Saved>>,
    /// Since the parent was saved.
    written: Places,
}

type Result<T> = std::result::Result<T, String>;

/// Of what is known to be positive.
fn index(number: i64) -> usize {
    number.cast_unsigned() as usize
}

impl State {
    pub(crate) fn at_entry() -> Self {
        let mut registers = [Register::UNSET; FRAME as usize + 1];
        registers[1] = Register::pointer(Kind::Context);
        registers[usize::from(FRAME)] = Register::pointer(Kind::Stack);
        Self {
            registers,
            stack: [Slot::UNSET; (STACK / SLOT) as usize],
            parent: None,
            written: 0,
        }
    }

    fn mark_read(&self, place: Places) {
        let (mut written, mut parent) = (self.written, &self.parent);
        while let Some(saved) = parent
            && written & place == 0
        {
            saved.read.set(saved.read.get() | place);
            (written, parent) = (saved.state.written, &saved.state.parent);
        }
    }

    pub(crate) fn get(&self, register: u8) -> Result<Register> {
        let found = self.registers[usize::from(register)];
        if found.kind == Kind::Unset {
            return Err(format!("r{register} is not set"));
        }
        self.mark_read(place_of(register));
        Ok(found)
    }

    pub(crate) fn set(&mut self, register: u8, value: Register) -> Result<()> {
        if register >= FRAME {
            return Err(format!("r{register} cannot be written"));
        }
        self.learn(register, value);
        self.written |= place_of(register);
        Ok(())
    }

    /// More is known of what a register holds.
    pub(crate) fn learn(&mut self, register: u8, value: Register) {
        self.registers[usize::from(register)] = value;
    }

    /// Wherever the pointer of this look-up is.
    pub(crate) fn learn_of_pointer(&mut self, id: u32, is_null: bool) {
        let learn = |register: &mut Register| match register.kind {
            Kind::MaybeValue(_, found) if found == id && is_null => {
                *register = Register::number(Number::known(0));
            }
            Kind::MaybeValue(map, found) if found == id => register.kind = Kind::Value(map),
            _ => {}
        };
        self.registers.iter_mut().for_each(learn);
        for slot in &mut self.stack {
            if let Slot::Pointer(register) = slot {
                learn(register);
            }
        }
    }

    /// Slot and byte of an address.
    fn place(offset: i64, size: i64) -> Result<(usize, usize)> {
        if !(-STACK..0).contains(&offset) || offset + size > 0 {
            return Err(format!("{size} bytes at {offset} of the stack"));
        }
        let from_top = -offset - 1;
        let byte = SLOT - 1 - from_top % SLOT;
        Ok((index(from_top / SLOT), index(byte)))
    }

    pub(crate) fn store(&mut self, offset: i64, size: i64, value: Option<&Register>) -> Result<()> {
        let (slot, byte) = Self::place(offset, size)?;
        if offset % size != 0 {
            return Err(format!("{size} bytes at {offset} of the stack: misaligned"));
        }
        if size == SLOT {
            self.written |= place_of_slot(slot);
        }
        if let Some(pointer) = value.filter(|value| value.kind != Kind::Number) {
            if size != SLOT {
                return Err("a part of a pointer is stored".into());
            }
            self.stack[slot] = Slot::Pointer(*pointer);
            return Ok(());
        }
        let is_zero = value.is_some_and(|value| value.number.value() == Some(0));
        let new = if is_zero { Byte::Zero } else { Byte::Any };
        let mut bytes = match self.stack[slot] {
            Slot::Bytes(bytes) => bytes,
            Slot::Pointer(_) => [Byte::Any; SLOT as usize],
        };
        bytes[byte..byte + index(size)].fill(new);
        self.stack[slot] = Slot::Bytes(bytes);
        Ok(())
    }

    pub(crate) fn load(&self, offset: i64, size: i64) -> Result<Register> {
        let (slot, byte) = Self::place(offset, size)?;
        self.mark_read(place_of_slot(slot));
        match self.stack[slot] {
            Slot::Pointer(pointer) if size == SLOT => Ok(pointer),
            Slot::Pointer(_) => Err("a part of a pointer is loaded".into()),
            Slot::Bytes(bytes) => {
                let bytes = &bytes[byte..byte + index(size)];
                if bytes.contains(&Byte::Unset) {
                    return Err(format!("{size} bytes at {offset} of the stack: not set"));
                }
                let is_zero = bytes.iter().all(|byte| *byte == Byte::Zero);
                let number = if is_zero {
                    Number::known(0)
                } else {
                    Number::ANY
                };
                Ok(Register::number(number))
            }
        }
    }

    /// A helper reads, and might write.
    pub(crate) fn lend(&mut self, offset: i64, size: i64) -> Result<()> {
        Self::place(offset, size)?;
        for at in offset..offset + size {
            let (slot, byte) = Self::place(at, 1)?;
            self.mark_read(place_of_slot(slot));
            match &mut self.stack[slot] {
                Slot::Bytes(bytes) if bytes[byte] != Byte::Unset => bytes[byte] = Byte::Any,
                _ => return Err(format!("a helper reads byte {at} of the stack: not set")),
            }
        }
        Ok(())
    }

    /// `states_equal`: what went well from `saved` on goes well from here.
    pub(crate) fn is_covered_by(&self, saved: &Saved) -> bool {
        let (read, old, mut ids) = (saved.read.get(), &saved.state, Vec::new());
        let is_read = |place| read & place != 0;
        let mut registers = (0..).zip(old.registers.iter().zip(&self.registers));
        let mut slots = old.stack.iter().zip(&self.stack).enumerate();
        registers.all(|(at, (one, two))| !is_read(place_of(at)) || one.covers(two, &mut ids))
            && slots
                .all(|(at, (one, two))| !is_read(place_of_slot(at)) || one.covers(two, &mut ids))
    }

    /// What comes behind reads it here too.
    pub(crate) fn read_as(&self, saved: &Saved) {
        let mut left = saved.read.get();
        while left != 0 {
            let place = left & left.wrapping_neg();
            self.mark_read(place);
            left &= !place;
        }
    }

    pub(crate) fn save(&mut self) -> Rc<Saved> {
        let saved = Rc::new(Saved {
            state: self.clone(),
            read: Cell::default(),
        });
        self.parent = Some(Rc::clone(&saved));
        self.written = 0;
        saved
    }
}
