//! aarch64: instructions lowered to effects, and the procedure call standard.
//!
//! Only the forms that compilers use to move pointers, to form addresses and to
//! transfer control are decoded (Arm ARM DDI 0487, section C4.1); what another
//! instruction writes becomes unknown.

use super::{Convention, Effect, Flow, Instruction, Memory, Reg, Source};
use crate::elf::Address;

/// Register number 31 where it means the stack pointer; where it means zero it has no `Reg`.
const SP: Reg = Reg(31);
const FIRST_VECTOR: u8 = 32;

/// AAPCS64 2023Q3, section 6.1.1.
pub(super) static AAPCS64: Convention = Convention {
    arguments: &[
        Reg(0),
        Reg(1),
        Reg(2),
        Reg(3),
        Reg(4),
        Reg(5),
        Reg(6),
        Reg(7),
    ],
    result: Reg(0),
    stack_pointer: SP,
    to_stack_arguments: 0,
    preserved: &[
        Reg(19),
        Reg(20),
        Reg(21),
        Reg(22),
        Reg(23),
        Reg(24),
        Reg(25),
        Reg(26),
        Reg(27),
        Reg(28),
        Reg(29),
        SP,
    ],
};

const LENGTH: u64 = 4;

pub(super) fn decode(bytes: &[u8], address: Address) -> Option<Instruction> {
    let word = Word(u32::from_le_bytes(bytes.first_chunk::<4>().copied()?));
    let (effects, flow) = lower(word, address);
    Some(Instruction {
        address,
        length: LENGTH,
        effects,
        flow,
    })
}

/// What an address-forming instruction does, for the sweep over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forms {
    /// `adrp`: the register becomes the start of a page, to which compilers add even 0.
    Page(Reg, u64),
    /// `adr`: the register becomes this address.
    Whole(Reg, u64),
    /// `add to, from, #by`
    Add { from: Reg, by: u64 },
    /// `ldr to, [from, #by]`, 64 bits
    Load { from: Reg, by: u64 },
}

/// Decodes nothing but the instructions that form an address, or load one from a slot.
pub(super) fn forms(word: u32, address: Address) -> Option<Forms> {
    let word = Word(word);
    if word.is(0x1f00_0000, 0x1000_0000) {
        let (register, place) = (word.zero_or(0)?, pc_relative(word, address));
        return Some(if word.bit(31) {
            Forms::Page(register, place)
        } else {
            Forms::Whole(register, place)
        });
    }
    let (from, by) = (word.sp_or(5), u64::from(word.bits(10, 12)));
    // 64-bit ADD (immediate), unshifted; 64-bit LDR (unsigned offset), in units of 8 bytes.
    if word.is(0xffc0_0000, 0x9100_0000) {
        return Some(Forms::Add { from, by });
    }
    word.is(0xffc0_0000, 0xf940_0000)
        .then_some(Forms::Load { from, by: by * 8 })
}

/// The target of a `bl`, or of a `b`, for the sweep over an image.
pub(super) fn branch(word: u32, address: Address, linking: bool) -> Option<Address> {
    let word = Word(word);
    (word.is(0x7c00_0000, 0x1400_0000) && word.bit(31) == linking)
        .then(|| Address(address.0.wrapping_add_signed(word.signed(0, 26) << 2)))
}

/// One instruction's bits.
#[derive(Debug, Clone, Copy)]
struct Word(u32);

impl Word {
    fn is(self, mask: u32, value: u32) -> bool {
        self.0 & mask == value
    }

    fn bits(self, from: u32, count: u32) -> u32 {
        (self.0 >> from) & ((1 << count) - 1)
    }

    fn bit(self, at: u32) -> bool {
        self.bits(at, 1) == 1
    }

    fn signed(self, from: u32, count: u32) -> i64 {
        let unused = 32 - count;
        i64::from((self.bits(from, count) << unused).cast_signed() >> unused)
    }

    /// The register in a field where 31 is the stack pointer.
    fn sp_or(self, from: u32) -> Reg {
        Reg(self.bits(from, 5) as u8)
    }

    /// The register in a field where 31 is zero.
    fn zero_or(self, from: u32) -> Option<Reg> {
        let number = self.bits(from, 5) as u8;
        (number != 31).then_some(Reg(number))
    }

    fn source(self, from: u32) -> Source {
        self.zero_or(from).map_or(Source::Const(0), Source::Reg)
    }

    fn vector(self, from: u32) -> Reg {
        Reg(FIRST_VECTOR + self.bits(from, 5) as u8)
    }
}

type Lowered = (Vec<Effect>, Flow);

fn lower(word: Word, address: Address) -> Lowered {
    // Arm ARM C4.1: op0, bits 28 to 25.
    match word.bits(25, 4) {
        0b1000 | 0b1001 => (immediates(word, address), Flow::Next),
        0b1010 | 0b1011 => branches(word, address),
        0b0100 | 0b0110 | 0b1100 | 0b1110 => (memory(word, address), Flow::Next),
        0b0101 | 0b1101 => (registers(word), Flow::Next),
        0b0111 | 0b1111 => (vectors(word), Flow::Next),
        _ if word.is(0xffff_0000, 0) => (Vec::new(), Flow::Stop),
        // SVE and SME: no pointer of ours moves through them.
        _ => (Vec::new(), Flow::Next),
    }
}

fn immediates(word: Word, address: Address) -> Vec<Effect> {
    if word.is(0x1f00_0000, 0x1000_0000) {
        return set(word.zero_or(0), Source::Const(pc_relative(word, address)));
    }
    if word.is(0x1f80_0000, 0x1100_0000) {
        return add_immediate(word);
    }
    if word.is(0x1f80_0000, 0x1280_0000) {
        return move_wide(word);
    }
    // SBFM and UBFM that only widen: sxtw, uxtw.
    if word.is(0x1f80_0000, 0x1300_0000) && word.bits(16, 6) == 0 && word.bits(10, 6) >= 31 {
        return set(word.zero_or(0), word.source(5));
    }
    // AND and its kin write the stack pointer only to align it.
    let aligns_stack = word.is(0x1f80_0000, 0x1200_0000) && word.bits(29, 2) != 3;
    if aligns_stack && word.sp_or(0) == SP {
        Vec::new()
    } else {
        unknown(word.zero_or(0))
    }
}

fn pc_relative(word: Word, address: Address) -> u64 {
    let offset = (word.signed(5, 19) << 2) | i64::from(word.bits(29, 2));
    if word.bit(31) {
        (address.0 & !0xfff).wrapping_add_signed(offset << 12)
    } else {
        address.0.wrapping_add_signed(offset)
    }
}

fn add_immediate(word: Word) -> Vec<Effect> {
    let shift = if word.bit(22) { 12 } else { 0 };
    let amount = i64::from(word.bits(10, 12)) << shift;
    let from = word.sp_or(5);
    if word.bit(29) {
        // Sets flags: with the zero register as its target it is a comparison.
        let mut effects = vec![Effect::Compare {
            left: Source::Reg(from),
            right: Source::Const(amount.cast_unsigned()),
        }];
        effects.extend(unknown(word.zero_or(0)));
        return effects;
    }
    let by = if word.bit(30) { -amount } else { amount };
    set(Some(word.sp_or(0)), Source::AddressOf(at(from, by, 8)))
}

fn move_wide(word: Word) -> Vec<Effect> {
    const MOVN: u32 = 0;
    const MOVZ: u32 = 2;
    let value = u64::from(word.bits(5, 16)) << (word.bits(21, 2) * 16);
    let inverted = if word.bit(31) {
        !value
    } else {
        u64::from(!(value as u32))
    };
    match word.bits(29, 2) {
        MOVZ => set(word.zero_or(0), Source::Const(value)),
        MOVN => set(word.zero_or(0), Source::Const(inverted)),
        _ => unknown(word.zero_or(0)),
    }
}

fn branches(word: Word, address: Address) -> Lowered {
    let relative = |offset: i64| Address(address.0.wrapping_add_signed(offset << 2));
    if word.is(0x7c00_0000, 0x1400_0000) {
        let target = relative(word.signed(0, 26));
        return (
            Vec::new(),
            if word.bit(31) {
                Flow::Call(target)
            } else {
                Flow::Jump(target)
            },
        );
    }
    if word.is(0xff00_0000, 0x5400_0000) {
        return (Vec::new(), Flow::Branch(relative(word.signed(5, 19))));
    }
    if word.is(0x7e00_0000, 0x3400_0000) {
        let compare = Effect::Compare {
            left: word.source(0),
            right: Source::Const(0),
        };
        return (vec![compare], Flow::Branch(relative(word.signed(5, 19))));
    }
    if word.is(0x7e00_0000, 0x3600_0000) {
        return (Vec::new(), Flow::Branch(relative(word.signed(5, 14))));
    }
    if word.is(0xfe00_0000, 0xd600_0000) {
        return (Vec::new(), to_register(word));
    }
    if word.is(0xff00_0000, 0xd400_0000) {
        let is_system_call = word.is(0xffe0_001f, 0xd400_0001);
        return if is_system_call {
            (unknown(Some(Reg(0))), Flow::Next)
        } else {
            (Vec::new(), Flow::Stop)
        };
    }
    // MRS reads into a register; hints (BTI, PAC), barriers and the rest write none.
    let reads = word.is(0xfff0_0000, 0xd530_0000);
    (
        if reads {
            unknown(word.zero_or(0))
        } else {
            Vec::new()
        },
        Flow::Next,
    )
}

/// BR, BLR, RET and their authenticating forms.
fn to_register(word: Word) -> Flow {
    match word.bits(21, 4) & 0b0111 {
        0 => Flow::JumpThrough(word.source(5)),
        1 => Flow::CallThrough(word.source(5)),
        2 => Flow::Return,
        _ => Flow::Stop,
    }
}

/// How an address field is combined with its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Indexing {
    Offset,
    Pre,
    Post,
}

fn memory(word: Word, address: Address) -> Vec<Effect> {
    if word.is(0x3b00_0000, 0x1800_0000) {
        let from = address.0.wrapping_add_signed(word.signed(5, 19) << 2);
        let literal = Memory {
            base: None,
            index: None,
            displacement: from.cast_signed(),
            width: literal_width(word),
        };
        return set(data_register(word, 0), Source::Load(literal));
    }
    if word.is(0x3a00_0000, 0x2800_0000) {
        return pair(word);
    }
    if word.is(0x3b00_0000, 0x3900_0000) {
        let width = width(word);
        let offset = i64::from(word.bits(10, 12)) * i64::from(width);
        return single(word, at(word.sp_or(5), offset, width), Indexing::Offset);
    }
    if word.is(0x3b20_0000, 0x3800_0000) {
        let indexing = match word.bits(10, 2) {
            1 => Indexing::Post,
            3 => Indexing::Pre,
            _ => Indexing::Offset,
        };
        return single(
            word,
            at(word.sp_or(5), word.signed(12, 9), width(word)),
            indexing,
        );
    }
    if word.is(0x3b20_0c00, 0x3820_0800) {
        let indexed = Memory {
            index: word.zero_or(16),
            ..at(word.sp_or(5), 0, width(word))
        };
        return single(word, indexed, Indexing::Offset);
    }
    other_memory(word)
}

/// Bytes of the constant that a literal load reads; none of a prefetch.
fn literal_width(word: Word) -> u32 {
    match (word.bit(26), word.bits(30, 2)) {
        (_, 0) | (false, 2) => 4,
        (_, 1) => 8,
        (true, 2) => 16,
        _ => 0,
    }
}

/// Atomics, exclusives, vector structures: which of the fields they write is of no interest, so
/// all are unknown.
fn other_memory(word: Word) -> Vec<Effect> {
    let mut effects = unknown(Some(word.vector(0)));
    for field in [0, 10, 16] {
        effects.extend(unknown(word.zero_or(field)));
    }
    effects
}

/// Bytes that a single load or store moves.
fn width(word: Word) -> u32 {
    const VECTOR: u32 = 26;
    let is_quad = word.bit(VECTOR) && word.bit(23);
    if is_quad { 16 } else { 1 << word.bits(30, 2) }
}

fn single(word: Word, memory: Memory, indexing: Indexing) -> Vec<Effect> {
    let is_vector = word.bit(26);
    let operation = word.bits(22, 2);
    let is_load = if is_vector {
        operation & 1 == 1
    } else {
        operation != 0
    };
    let is_prefetch = !is_vector && word.bits(30, 2) == 3 && operation == 2;
    if is_prefetch {
        return Vec::new();
    }
    indexed(memory, indexing, |memory| {
        if is_load {
            set(data_register(word, 0), Source::Load(memory))
        } else {
            vec![Effect::Store {
                to: memory,
                from: data_source(word, 0),
            }]
        }
    })
}

fn pair(word: Word) -> Vec<Effect> {
    let size = word.bits(30, 2);
    let width = match (word.bit(26), size) {
        (true, size) => 4 << size,
        (false, 2) => 8,
        (false, _) => 4,
    };
    let indexing = match word.bits(23, 2) {
        1 => Indexing::Post,
        3 => Indexing::Pre,
        _ => Indexing::Offset,
    };
    let memory = at(word.sp_or(5), word.signed(15, 7) * i64::from(width), width);
    indexed(memory, indexing, |first| {
        let second = Memory {
            displacement: first.displacement + i64::from(width),
            ..first
        };
        if word.bit(22) {
            load_pair(word, first, second)
        } else {
            vec![
                Effect::Store {
                    to: first,
                    from: data_source(word, 0),
                },
                Effect::Store {
                    to: second,
                    from: data_source(word, 10),
                },
            ]
        }
    })
}

/// `ldp x0, x1, [x0]` reads both before it writes one: the base must be written last.
fn load_pair(word: Word, first: Memory, second: Memory) -> Vec<Effect> {
    let mut effects = set(data_register(word, 0), Source::Load(first));
    let other = set(data_register(word, 10), Source::Load(second));
    if first.base == data_register(word, 0) {
        effects.splice(0..0, other);
    } else {
        effects.extend(other);
    }
    effects
}

fn indexed(
    memory: Memory,
    indexing: Indexing,
    access: impl Fn(Memory) -> Vec<Effect>,
) -> Vec<Effect> {
    let Some(base) = memory.base.filter(|_| indexing != Indexing::Offset) else {
        return access(memory);
    };
    let update = Effect::Set {
        to: base,
        from: Source::AddressOf(memory),
    };
    let mut effects = access(Memory {
        displacement: 0,
        ..memory
    });
    if indexing == Indexing::Pre {
        // The new base is the address; `displacement + width` of a pair's second half stays.
        effects.insert(0, update);
    } else {
        effects.push(update);
    }
    effects
}

fn registers(word: Word) -> Vec<Effect> {
    let target = word.zero_or(0);
    let is_plain_or = word.is(0x7fe0_fc00, 0x2a00_0000);
    if is_plain_or && word.zero_or(5).is_none() {
        return set(target, word.source(16));
    }
    let is_add_or_sub = word.is(0x1f00_0000, 0x0b00_0000);
    if is_add_or_sub && word.bit(29) {
        let compare = Effect::Compare {
            left: word.source(5),
            right: word.source(16),
        };
        return std::iter::once(compare).chain(unknown(target)).collect();
    }
    if word.is(0x7fe0_0c00, 0x1a80_0000) {
        return target.map_or_else(Vec::new, |to| {
            vec![Effect::Choose {
                to,
                either: word.source(5),
                or: word.source(16),
            }]
        });
    }
    let is_conditional_compare = word.is(0x3fe0_0010, 0x3a40_0000);
    if is_conditional_compare {
        let is_immediate = word.bit(11);
        let right = if is_immediate {
            Source::Const(word.bits(16, 5).into())
        } else {
            word.source(16)
        };
        return vec![Effect::Compare {
            left: word.source(5),
            right,
        }];
    }
    unknown(target)
}

/// Some write a general register (`fmov`, `umov`), most a vector: both are unknown.
fn vectors(word: Word) -> Vec<Effect> {
    let mut effects = unknown(Some(word.vector(0)));
    effects.extend(unknown(word.zero_or(0)));
    effects
}

fn data_register(word: Word, from: u32) -> Option<Reg> {
    if word.bit(26) {
        Some(word.vector(from))
    } else {
        word.zero_or(from)
    }
}

fn data_source(word: Word, from: u32) -> Source {
    data_register(word, from).map_or(Source::Const(0), Source::Reg)
}

fn at(base: Reg, displacement: i64, width: u32) -> Memory {
    Memory {
        base: Some(base),
        index: None,
        displacement,
        width,
    }
}

fn set(to: Option<Reg>, from: Source) -> Vec<Effect> {
    to.map_or_else(Vec::new, |to| vec![Effect::Set { to, from }])
}

fn unknown(to: Option<Reg>) -> Vec<Effect> {
    set(to, Source::Unknown)
}
