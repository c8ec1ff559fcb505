//! The verifier itself: it follows a program along all its branches, by the rules of kernel 4.19
//! for kprobe and raw tracepoint programs (`do_check`). What it gave up on since is what these are
//! for: it does not know what was spilled, nor that a copy is bounded as its original is, and goes
//! both ways where numbers that it knows are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::number::Number;
use crate::opcode::{
    ADD, ALU64, CALL, END, EXIT, JA, JEQ, JGE, JGT, JLE, JLT, JMP, JNE, JSGE, JSGT, JSLE, JSLT, LD,
    LDX, MOV, NEG, ST, STX, SUB, XADD,
};
use crate::state::{Kind, Register, Saved, State};

/// `BPF_COMPLEXITY_LIMIT_INSNS` and `BPF_COMPLEXITY_LIMIT_STACK`.
const LOOKED_AT_MAX: usize = 131_072;
const WAITING_MAX: usize = 1024;
/// `BPF_MAX_VAR_OFF`, and `BPF_MAX_VAR_SIZ`.
const VARIABLE_MAX: u64 = 1 << 29;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Instruction {
    pub(crate) opcode: u8,
    pub(crate) to: u8,
    pub(crate) from: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

impl Instruction {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Self {
            opcode: bytes[0],
            to: bytes[1] & 0xf,
            from: bytes[1] >> 4,
            offset: i16::from_le_bytes([bytes[2], bytes[3]]),
            immediate: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    fn class(self) -> u8 {
        self.opcode & 0x07
    }

    fn operation(self) -> u8 {
        self.opcode & 0xf0
    }

    fn has_source(self) -> bool {
        self.opcode & 0x08 != 0
    }

    fn bytes(self) -> i64 {
        match self.opcode & 0x18 {
            0x00 => 4,
            0x08 => 2,
            0x10 => 1,
            _ => 8,
        }
    }

    fn value(self) -> u64 {
        i64::from(self.immediate).cast_unsigned()
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Map {
    pub(crate) key: u32,
    pub(crate) value: u32,
}

/// What a helper takes; libbpf puts older ones in the place of those that read (4, 45).
#[derive(Debug, Clone, Copy)]
enum Takes {
    Context,
    Map,
    Key,
    Value,
    /// With its size in the next register.
    Memory,
    /// It is written, so what was there does not matter.
    Room,
    Size {
        zero: bool,
    },
    Anything,
}

fn helper(number: i32) -> Option<&'static [Takes]> {
    use Takes::{Anything, Context, Key, Map, Memory, Room, Size, Value};
    Some(match number {
        1 | 3 => &[Map, Key],
        2 => &[Map, Key, Value, Anything],
        5 | 14 | 15 => &[],
        12 => &[Context, Map, Anything],
        16 => &[Room, Size { zero: false }],
        25 => &[Context, Map, Anything, Memory, Size { zero: true }],
        112..=114 => &[Room, Size { zero: true }, Anything],
        _ => return None,
    })
}

type Result<T> = std::result::Result<T, String>;

#[derive(Debug)]
pub(crate) struct Machine<'p> {
    code: &'p [Instruction],
    maps: &'p [Map],
    /// Maps by the instruction that loads each.
    loaded: &'p BTreeMap<usize, usize>,
    context: i64,
    lookups: u32,
    looked_at: usize,
    waiting: Vec<(usize, State)>,
}

impl<'p> Machine<'p> {
    pub(crate) fn new(
        code: &'p [Instruction],
        maps: &'p [Map],
        loaded: &'p BTreeMap<usize, usize>,
        context: i64,
    ) -> Self {
        Self {
            code,
            maps,
            loaded,
            context,
            lookups: 0,
            looked_at: 0,
            waiting: Vec::new(),
        }
    }

    /// How many instructions it looked at, or why it refuses.
    pub(crate) fn verify(mut self) -> Result<usize> {
        let compared = self.compared_at();
        let mut seen: BTreeMap<usize, Vec<Rc<Saved>>> = BTreeMap::new();
        let (mut at, mut state) = (0, State::at_entry());
        loop {
            self.looked_at += 1;
            if self.looked_at > LOOKED_AT_MAX || self.waiting.len() > WAITING_MAX {
                return Err(format!("{at}: too complex"));
            }
            let known = seen.entry(at).or_default();
            let found = known.iter().find(|saved| state.is_covered_by(saved));
            let next = if let Some(saved) = found {
                state.read_as(saved);
                None
            } else {
                if compared.contains(&at) {
                    known.push(state.save());
                }
                let instruction = self.code[at];
                self.step(&mut state, at)
                    .map_err(|why| format!("{at}: {instruction:x?}: {why}"))?
            };
            (at, state) = match (next, self.waiting.pop()) {
                (Some(next), waiting) => {
                    self.waiting.extend(waiting);
                    (next, state)
                }
                (None, Some(waiting)) => waiting,
                (None, None) => return Ok(self.looked_at),
            };
        }
    }

    /// Where states are compared: at branches, where they lead, and behind calls and jumps.
    fn compared_at(&self) -> BTreeSet<usize> {
        let mut all = BTreeSet::new();
        for (at, instruction) in self.code.iter().enumerate() {
            if instruction.class() != JMP {
                continue;
            }
            match instruction.operation() {
                EXIT => {}
                CALL | JA => drop(all.insert(at + 1)),
                _ => all.extend([at, target(at, *instruction)]),
            }
        }
        all
    }

    /// Where it goes on; `None` at the end.
    fn step(&mut self, state: &mut State, at: usize) -> Result<Option<usize>> {
        let one = self.code[at];
        match one.class() {
            LD => {
                let register = match self.loaded.get(&at) {
                    Some(map) => Register::pointer(Kind::Map(*map)),
                    None => Register::number(Number::ANY),
                };
                state.set(one.to, register)?;
                return Ok(Some(at + 2));
            }
            LDX => {
                let size = one.bytes();
                let mut found = self.load(state, one.from, one.offset.into(), size)?;
                if found.kind == Kind::Number && size < 8 {
                    found.number = found.number.cut(size.cast_unsigned() as u32);
                }
                state.set(one.to, found)?;
            }
            ST => self.store(state, one, None)?,
            STX => {
                let value = state.get(one.from)?;
                // An addition in memory leaves what is not known.
                let added = one.opcode & 0xe0 == XADD;
                if added {
                    self.load(state, one.to, one.offset.into(), one.bytes())?;
                }
                self.store(state, one, (!added).then_some(&value))?;
            }
            JMP => return self.jump(state, at, one),
            class => compute(state, one, class == ALU64)?,
        }
        Ok(Some(at + 1))
    }

    fn load(&self, state: &State, register: u8, offset: i64, size: i64) -> Result<Register> {
        let base = state.get(register)?;
        match base.kind {
            Kind::Context => {
                let whole = base.offset == 0 && base.number.value() == Some(0);
                let inside = offset >= 0 && offset + size <= self.context && offset % size == 0;
                if whole && inside {
                    return Ok(Register::number(Number::ANY));
                }
                Err(format!("{size} bytes at {offset} of the context"))
            }
            Kind::Stack => state.load(place_on_stack(&base)? + offset, size),
            Kind::Value(map) => {
                self.within(&base, map, offset, size)?;
                Ok(Register::number(Number::ANY))
            }
            _ => Err(format!("r{register} leads to no memory: {base:?}")),
        }
    }

    fn store(&self, state: &mut State, one: Instruction, value: Option<&Register>) -> Result<()> {
        let (base, offset) = (state.get(one.to)?, i64::from(one.offset));
        match base.kind {
            Kind::Stack => state.store(place_on_stack(&base)? + offset, one.bytes(), value),
            Kind::Value(map) => self.within(&base, map, offset, one.bytes()),
            _ => Err(format!("r{} leads to no memory: {base:?}", one.to)),
        }
    }

    /// `check_map_access`
    fn within(&self, base: &Register, map: usize, offset: i64, size: i64) -> Result<()> {
        let number = &base.number;
        let least = number.smin.saturating_add(base.offset + offset);
        let most = number.umax.saturating_add_signed(base.offset + offset);
        let length = u64::from(self.maps[map].value);
        let fits = number.smin >= 0
            && least >= 0
            && number.umax < VARIABLE_MAX
            && most.saturating_add_signed(size) <= length;
        if fits {
            return Ok(());
        }
        Err(format!("{size} bytes at {least}..={most} of {length}"))
    }

    /// `check_helper_mem_access`
    fn lend(&self, state: &mut State, register: u8, size: i64, room: bool) -> Result<()> {
        let base = state.get(register)?;
        match base.kind {
            Kind::Stack if room => {
                let begin = place_on_stack(&base)?;
                (begin..begin + size).try_for_each(|at| state.store(at, 1, None))
            }
            Kind::Stack => state.lend(place_on_stack(&base)?, size),
            Kind::Value(map) => self.within(&base, map, 0, size),
            _ => Err(format!("r{register} leads to no memory: {base:?}")),
        }
    }

    fn call(&mut self, state: &mut State, number: i32) -> Result<()> {
        let takes = helper(number).ok_or_else(|| format!("no helper {number}"))?;
        let mut map = None;
        for (register, takes_this) in (1..).zip(takes) {
            let given = state.get(register)?;
            match (takes_this, given.kind) {
                (Takes::Anything | Takes::Memory | Takes::Room, _)
                | (Takes::Context, Kind::Context) => {}
                (Takes::Map, Kind::Map(number)) => map = Some(number),
                (Takes::Key | Takes::Value, _) => {
                    let map = self.maps[map.ok_or("no map")?];
                    let is_key = matches!(takes_this, Takes::Key);
                    let size = if is_key { map.key } else { map.value };
                    self.lend(state, register, size.into(), false)?;
                }
                (Takes::Size { zero }, Kind::Number) => {
                    let Number {
                        smin, umin, umax, ..
                    } = given.number;
                    if smin < 0 || umax >= VARIABLE_MAX || (umin == 0 && !zero) {
                        return Err(format!("a size in r{register}: {given:?}"));
                    }
                    // Room of a size that is not known has to be set before.
                    let room = matches!(takes[usize::from(register) - 2], Takes::Room)
                        && given.number.value().is_some();
                    self.lend(state, register - 1, umax.cast_signed(), room)?;
                }
                _ => return Err(format!("r{register} is {given:?}, not {takes_this:?}")),
            }
        }
        let result = match (number, map) {
            (1, Some(map)) => {
                self.lookups += 1;
                Register::pointer(Kind::MaybeValue(map, self.lookups))
            }
            _ => Register::number(Number::ANY),
        };
        for register in 1..=5 {
            state.set(register, Register::UNSET)?;
        }
        state.set(0, result)
    }

    fn jump(&mut self, state: &mut State, at: usize, one: Instruction) -> Result<Option<usize>> {
        let comparison = one.operation();
        match comparison {
            JA => return Ok(Some(target(at, one))),
            CALL => {
                self.call(state, one.immediate)?;
                return Ok(Some(at + 1));
            }
            EXIT => return state.get(0).map(|_| None),
            _ => {}
        }
        let left = state.get(one.to)?;
        let right = if one.has_source() {
            state.get(one.from)?
        } else {
            Register::number(Number::known(one.value()))
        };
        // Equality with an immediate is all that it decides by what it knows.
        let decided = left.number.value().filter(|_| {
            let equality = [JEQ, JNE].contains(&comparison);
            equality && !one.has_source() && left.kind == Kind::Number
        });
        if let Some(value) = decided {
            let is_taken = (value == one.value()) == (comparison == JEQ);
            return Ok(Some(if is_taken { target(at, one) } else { at + 1 }));
        }
        let mut taken = state.clone();
        learn(one, left, right, &mut taken, state);
        self.waiting.push((target(at, one), taken));
        Ok(Some(at + 1))
    }
}

fn target(at: usize, one: Instruction) -> usize {
    (at + 1).wrapping_add_signed(one.offset.into())
}

/// Places are constant, also those that helpers are given (5.2).
fn place_on_stack(base: &Register) -> Result<i64> {
    let added = base.number.value().ok_or("a computed place on the stack")?;
    Ok(base.offset + added.cast_signed())
}

/// What either branch knows: of what was compared with a number that is known, and whether a
/// pointer is NULL.
fn learn(one: Instruction, left: Register, right: Register, taken: &mut State, not: &mut State) {
    let comparison = one.operation();
    let numbers = left.kind == Kind::Number && right.kind == Kind::Number;
    let equality = [JEQ, JNE].contains(&comparison);
    match (left.kind, left.number.value(), right.number.value()) {
        (_, _, Some(value)) if numbers => {
            let [holds, fails] = left.number.compared(comparison, value);
            taken.learn(one.to, Register::number(holds));
            not.learn(one.to, Register::number(fails));
        }
        (_, Some(value), _) if numbers => {
            let [holds, fails] = right.number.compared(mirrored(comparison), value);
            taken.learn(one.from, Register::number(holds));
            not.learn(one.from, Register::number(fails));
        }
        _ if numbers && equality => {
            let both = Register::number(left.number.equal_to(&right.number));
            let equal = if comparison == JEQ { taken } else { not };
            equal.learn(one.to, both);
            equal.learn(one.from, both);
        }
        (Kind::MaybeValue(_, id), _, Some(0)) if equality && !one.has_source() => {
            taken.learn_of_pointer(id, comparison == JEQ);
            not.learn_of_pointer(id, comparison != JEQ);
        }
        _ => {}
    }
}

/// The same with its sides changed.
fn mirrored(comparison: u8) -> u8 {
    match comparison {
        JGT => JLT,
        JLT => JGT,
        JGE => JLE,
        JLE => JGE,
        JSGT => JSLT,
        JSLT => JSGT,
        JSGE => JSLE,
        JSLE => JSGE,
        same => same,
    }
}

fn compute(state: &mut State, one: Instruction, wide: bool) -> Result<()> {
    let operation = one.operation();
    if [NEG, END].contains(&operation) {
        state.get(one.to)?;
        return state.set(one.to, Register::number(Number::ANY));
    }
    let other = if one.has_source() {
        state.get(one.from)?
    } else {
        Register::number(Number::known(one.value()))
    };
    let result = if operation == MOV {
        other
    } else {
        let own = state.get(one.to)?;
        match (own.kind, other.kind) {
            (Kind::Number, Kind::Number) => {
                Register::number(own.number.computed(operation, &other.number, wide))
            }
            (_, Kind::Number) => moved(&own, operation, &other.number)?,
            (Kind::Number, _) if operation == ADD => moved(&other, operation, &own.number)?,
            // The difference of two pointers.
            _ if operation == SUB && own.kind != Kind::Number => Register::number(Number::ANY),
            _ => return Err("a number is made of pointers".into()),
        }
    };
    if wide {
        return state.set(one.to, result);
    }
    if result.kind != Kind::Number {
        return Err("32 bits of a pointer".into());
    }
    state.set(one.to, Register::number(result.number.cut(4)))
}

/// `adjust_ptr_min_max_vals`
fn moved(pointer: &Register, operation: u8, by: &Number) -> Result<Register> {
    if matches!(
        pointer.kind,
        Kind::MaybeValue(..) | Kind::Map(_) | Kind::Unset
    ) {
        return Err(format!("arithmetic on {pointer:?}"));
    }
    if by.is_impossible() {
        return Ok(Register::number(Number::ANY));
    }
    let mut result = *pointer;
    match (operation, by.value()) {
        (ADD, Some(value)) => result.offset += value.cast_signed(),
        (ADD, None) => result.number = pointer.number.plus(by).settled(),
        (SUB, _) if pointer.kind == Kind::Stack => return Err("less than a place".into()),
        (SUB, Some(value)) => result.offset -= value.cast_signed(),
        (SUB, None) => result.number = pointer.number.minus(by).settled(),
        _ => return Err(format!("operation {operation:#x} on a pointer")),
    }
    Ok(result)
}
