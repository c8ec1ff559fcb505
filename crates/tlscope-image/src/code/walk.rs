//! Walks the paths through a function with symbolic values, within a budget.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;

use super::callee::never_returns;
use super::value::Path;
use super::{
    Convention, Effect, Flow, Instruction, Memory, Reg, Root, Source, Value, convention, decode,
};
use crate::elf::{Address, Elf};

/// Something that happens on a path.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A call; `target` is the place called as far as it is known. The arguments are those in
    /// registers, then what lies on top of the stack.
    Call {
        target: Value,
        arguments: Vec<Value>,
    },
    /// A jump to a place that only a value names: a tail call, or a switch.
    JumpThrough {
        target: Value,
    },
    /// A direct jump, with what the argument registers hold: it may be a tail call.
    Jump {
        target: Address,
        arguments: Arguments<'a>,
    },
    /// A register takes a value.
    Set {
        to: Reg,
        value: &'a Value,
    },
    Load {
        from: Value,
        width: u32,
    },
    /// One byte at an index from `base`: a loop over a buffer.
    LoadByte {
        base: Value,
    },
    Store {
        to: Value,
        from: &'a Value,
    },
    Copy {
        to: Value,
        from: Value,
    },
    Compare {
        left: Value,
        right: Value,
    },
    /// What the function returns, if it returns anything.
    Return {
        value: Value,
    },
}

/// The argument registers at a place, read on demand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arguments<'a> {
    state: &'a State,
    convention: &'static Convention,
}

impl Arguments<'_> {
    /// The index of the register argument that holds a value.
    pub(crate) fn position(&self, value: &Value) -> Option<usize> {
        let mut registers = self.convention.arguments.iter();
        registers.position(|register| self.state.get(*register) == *value)
    }
}

/// What to do after an event: go on, or give up this path (others are still walked).
pub(crate) type Step = ControlFlow<()>;

/// The state of one path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    registers: BTreeMap<Reg, Value>,
    /// What the path itself stored: in its frame, and around what a preserved register (a frame
    /// pointer, say) points at.
    stored: BTreeMap<(Root, i64), Value>,
}

/// Where a walk may go, and how far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Instructions in all, over all paths.
    pub(crate) steps: usize,
    /// Different states in which one branch target is walked again.
    pub(crate) states_per_target: usize,
}

/// A function's extent as far as a walk needs it.
pub(crate) const FUNCTION: Limits = Limits {
    steps: 20_000,
    states_per_target: 24,
};

/// What is known where a walk starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Nothing,
    /// Every argument register, and the first places behind them on the stack, hold their
    /// `Root::Argument`.
    Arguments,
    /// One register holds a constant.
    Constant(Reg, u64),
}

/// Every event on every path of a function.
pub(crate) fn each_event(
    elf: &Elf<'_>,
    function: Address,
    mut visit: impl FnMut(Address, Event<'_>),
) {
    walk(
        elf,
        function,
        Known::Arguments,
        FUNCTION,
        &mut |at, event| {
            visit(at, event);
            ControlFlow::Continue(())
        },
    );
}

/// Walks every path from `start` within the limits.
pub(crate) fn walk(
    elf: &Elf<'_>,
    start: Address,
    known: Known,
    limits: Limits,
    visit: &mut dyn FnMut(Address, Event<'_>) -> Step,
) {
    let convention = convention(elf.arch);
    let mut state = State::default();
    for register in convention.preserved {
        state.set(*register, Value::root(Root::Register(register.0)));
    }
    state.set(convention.stack_pointer, Value::root(Root::Stack));
    match known {
        Known::Nothing => {}
        Known::Arguments => {
            for (index, register) in convention.arguments.iter().enumerate() {
                state.set(*register, Value::root(Root::Argument(index as u8)));
            }
            for index in 0..ARGUMENTS_OF_ITS_OWN {
                let number = convention.arguments.len() as u8 + index;
                let slot = convention.to_stack_arguments + 8 * i64::from(index);
                let argument = Value::root(Root::Argument(number));
                state.stored.insert((Root::Stack, slot), argument);
            }
        }
        Known::Constant(register, value) => state.set(register, Value::Const(value)),
    }
    Walk {
        elf,
        convention,
        limits,
        visit,
        from_entry: known == Known::Arguments,
        pending: VecDeque::from([(start, state)]),
        seen: HashMap::new(),
    }
    .run();
}

struct Walk<'w, 'd> {
    elf: &'w Elf<'d>,
    convention: &'static Convention,
    limits: Limits,
    visit: &'w mut dyn FnMut(Address, Event<'_>) -> Step,
    /// The walk started where a function starts, so the stack on entry is known.
    from_entry: bool,
    pending: VecDeque<(Address, State)>,
    seen: HashMap<Address, HashSet<u64>>,
}

impl Walk<'_, '_> {
    fn run(&mut self) {
        let hasher = RandomState::new();
        let mut steps = self.limits.steps;
        while let Some((mut address, mut state)) = self.pending.pop_front() {
            let seen = self.seen.entry(address).or_default();
            if seen.len() >= self.limits.states_per_target || !seen.insert(hasher.hash_one(&state))
            {
                continue;
            }
            loop {
                if steps == 0 || !self.elf.spend_step() {
                    return;
                }
                steps -= 1;
                let Some(instruction) = decode(self.elf, address) else {
                    break;
                };
                let Some(next) = self.step(&instruction, &mut state) else {
                    break;
                };
                address = next;
            }
        }
    }

    /// Applies one instruction; the address of the next one on this path.
    fn step(&mut self, instruction: &Instruction, state: &mut State) -> Option<Address> {
        for effect in &instruction.effects {
            self.apply(instruction, *effect, state)?;
        }
        let at = instruction.address;
        match instruction.flow {
            Flow::Next => instruction.next(),
            Flow::Jump(target) if self.leaves_function(at, target, state) => {
                self.tail_call(instruction, Value::Const(target.0), state);
                None
            }
            Flow::Jump(target) => {
                let arguments = Arguments {
                    state,
                    convention: self.convention,
                };
                self.emit(at, Event::Jump { target, arguments })?;
                // As a new path, so that a loop meets its own state again and ends.
                self.pending.push_back((target, state.clone()));
                None
            }
            Flow::Branch(target) => {
                let arguments = Arguments {
                    state,
                    convention: self.convention,
                };
                if self.emit(at, Event::Jump { target, arguments }).is_some() {
                    self.pending.push_back((target, state.clone()));
                }
                self.pending.push_back((instruction.next()?, state.clone()));
                None
            }
            Flow::Call(target) => self.call(instruction, Value::Const(target.0), state),
            Flow::CallThrough(source) => {
                let target = self.evaluate(at, source, state)?;
                self.call(instruction, target, state)
            }
            Flow::JumpThrough(source) => {
                let target = self.evaluate(at, source, state)?;
                // A pointer out of an object is a function; the table of a `switch` is not in one.
                let of_object =
                    |path: &Path| matches!(path.root, Root::Argument(_) | Root::Call(_));
                if target.path().is_some_and(of_object) {
                    self.tail_call(instruction, target, state);
                } else {
                    self.emit(at, Event::JumpThrough { target });
                }
                None
            }
            Flow::Return => {
                let value = state.get(self.convention.result);
                self.emit(at, Event::Return { value });
                None
            }
            Flow::Stop => None,
        }
    }

    /// Whether a jump is a tail call: to the first instruction of another function, with the
    /// stack as it was on entry. A function's own cold part may begin like one, but is entered
    /// with a frame.
    fn leaves_function(&self, at: Address, target: Address, state: &State) -> bool {
        let own = self.elf.function_around(at);
        let other = self.elf.function_around(target);
        let is_other = match (own, other) {
            (Some(own), Some(other)) => own.start != other.start && other.start == target,
            _ => false,
        };
        is_other
            && (!self.from_entry
                || stack_slot(&state.get(self.convention.stack_pointer)) == Some(0))
    }

    fn call(
        &mut self,
        instruction: &Instruction,
        target: Value,
        state: &mut State,
    ) -> Option<Address> {
        let at = instruction.address;
        let returns = !never_returns(self.elf, &target);
        self.emit_call(at, target, state, 0)?;
        if !returns {
            return None;
        }
        state
            .registers
            .retain(|register, _| self.convention.preserved.contains(register));
        state.set(self.convention.result, Value::root(Root::Call(at.0)));
        // What stands last in a function does not come back: in a static program no name says
        // that this is `__stack_chk_fail`.
        let extent = self.elf.function_around(at);
        let inside = |next: &Address| extent.is_none_or(|extent| extent.contains(next));
        instruction.next().filter(inside)
    }

    /// What is called so finds the stack as this function found it.
    fn tail_call(&mut self, instruction: &Instruction, target: Value, state: &State) {
        let to_arguments = self.convention.to_stack_arguments;
        self.emit_call(instruction.address, target, state, to_arguments);
    }

    fn emit_call(
        &mut self,
        at: Address,
        target: Value,
        state: &State,
        to_arguments: i64,
    ) -> Option<()> {
        let registers = self.convention.arguments.iter();
        let in_registers = registers.map(|register| state.get(*register));
        let on_stack = state.passed_on_stack(self.convention, to_arguments);
        let arguments = in_registers.chain(on_stack).collect();
        self.emit(at, Event::Call { target, arguments })
    }

    fn apply(
        &mut self,
        instruction: &Instruction,
        effect: Effect,
        state: &mut State,
    ) -> Option<()> {
        let at = instruction.address;
        match effect {
            Effect::Set { to, from } => {
                let value = self.evaluate(at, from, state)?;
                self.emit(at, Event::Set { to, value: &value })?;
                state.set(to, value);
            }
            Effect::Choose { to, either, or } => {
                let either = self.evaluate(at, either, state)?;
                let or = self.evaluate(at, or, state)?;
                if either != or {
                    let mut other = state.clone();
                    other.set(to, or);
                    self.pending.push_back((instruction.next()?, other));
                }
                state.set(to, either);
            }
            Effect::Store { to, from } => {
                let value = self.evaluate(at, from, state)?;
                let place = state.address_of(to);
                self.emit(
                    at,
                    Event::Store {
                        to: place.clone(),
                        from: &value,
                    },
                )?;
                state.store(&place, value);
            }
            Effect::Copy { to, from } => {
                let (to, from) = (state.get(to), state.get(from));
                self.emit(at, Event::Copy { to, from })?;
            }
            Effect::Compare { left, right } => {
                let left = self.evaluate(at, left, state)?;
                let right = self.evaluate(at, right, state)?;
                self.emit(at, Event::Compare { left, right })?;
            }
        }
        Some(())
    }

    fn evaluate(&mut self, at: Address, source: Source, state: &State) -> Option<Value> {
        Some(match source {
            Source::Reg(register) => state.get(register),
            Source::Const(value) => Value::Const(value),
            Source::AddressOf(memory) => state.address_of(memory),
            Source::Load(memory) => {
                if memory.index.is_some() && memory.width == 1 {
                    let base = state.address_of(Memory {
                        index: None,
                        ..memory
                    });
                    self.emit(at, Event::LoadByte { base })?;
                }
                let from = state.address_of(memory);
                let width = memory.width;
                self.emit(
                    at,
                    Event::Load {
                        from: from.clone(),
                        width,
                    },
                )?;
                state.load(&from)
            }
            Source::Unknown => Value::Unknown,
        })
    }

    fn emit(&mut self, at: Address, event: Event<'_>) -> Option<()> {
        match (self.visit)(at, event) {
            ControlFlow::Continue(()) => Some(()),
            ControlFlow::Break(()) => None,
        }
    }
}

impl State {
    fn get(&self, register: Reg) -> Value {
        self.registers.get(&register).cloned().unwrap_or_default()
    }

    /// Unknown values are not kept: equal knowledge must compare equal.
    fn set(&mut self, register: Reg, value: Value) {
        if value == Value::Unknown {
            self.registers.remove(&register);
        } else {
            self.registers.insert(register, value);
        }
    }

    fn address_of(&self, memory: Memory) -> Value {
        if memory.index.is_some() {
            return Value::Unknown;
        }
        match memory.base {
            Some(base) => self.get(base).plus(memory.displacement),
            None => Value::Const(memory.displacement.cast_unsigned()),
        }
    }

    /// The arguments on the stack, so far behind the stack pointer.
    fn passed_on_stack(&self, convention: &Convention, from: i64) -> impl Iterator<Item = Value> {
        let top = stack_slot(&self.get(convention.stack_pointer));
        (0..STACK_ARGUMENTS).map(move |index| {
            let slot = top.and_then(|top| Some((Root::Stack, top.checked_add(from + index * 8)?)));
            slot.and_then(|slot| self.stored.get(&slot))
                .cloned()
                .unwrap_or_default()
        })
    }

    fn load(&self, from: &Value) -> Value {
        match frame_slot(from) {
            Some(slot) => self.stored.get(&slot).cloned().unwrap_or_default(),
            None => from.loaded(),
        }
    }

    fn store(&mut self, to: &Value, value: Value) {
        let Some(slot) = frame_slot(to) else { return };
        if value == Value::Unknown {
            self.stored.remove(&slot);
        } else {
            self.stored.insert(slot, value);
        }
    }
}

/// Slots on top of the stack that are looked at as arguments; OpenSSL's `tls1_PRF` has sixteen.
const STACK_ARGUMENTS: i64 = 12;

/// Slots above its frame that are looked at as the walked function's own: each makes every state
/// larger. `tls13_hkdf_expand_ex` has five.
const ARGUMENTS_OF_ITS_OWN: u8 = 5;

/// Where on the stack a value points.
fn stack_slot(place: &Value) -> Option<i64> {
    match frame_slot(place)? {
        (Root::Stack, slot) => Some(slot),
        _ => None,
    }
}

fn frame_slot(place: &Value) -> Option<(Root, i64)> {
    let path = place.path()?;
    let is_frame = matches!(path.root, Root::Stack | Root::Register(_));
    (is_frame && path.loads.is_empty()).then_some((path.root, path.add))
}
