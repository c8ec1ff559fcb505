//! `x86_64`: instructions lowered to effects, and the System V calling convention.

use iced_x86::{
    Code, ConditionCode, Decoder, DecoderOptions, FlowControl, Instruction as Decoded,
    InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use super::{Convention, Effect, Flow, Instruction, Memory, Reg, Source, ThreadLocal};
use crate::elf::Address;

const RAX: Reg = Reg(0);
const RCX: Reg = Reg(1);
const RDX: Reg = Reg(2);
const RBX: Reg = Reg(3);
const RSP: Reg = Reg(4);
const RBP: Reg = Reg(5);
const RSI: Reg = Reg(6);
const RDI: Reg = Reg(7);
const FIRST_VECTOR: u8 = 32;

/// System V AMD64 psABI 1.0, section 3.2.
pub(super) static SYSTEM_V: Convention = Convention {
    arguments: &[RDI, RSI, RDX, RCX, Reg(8), Reg(9)],
    result: RAX,
    stack_pointer: RSP,
    // Behind the return address.
    to_stack_arguments: 8,
    preserved: &[RBX, RSP, RBP, Reg(12), Reg(13), Reg(14), Reg(15)],
};

/// The longest instruction there is.
const LONGEST: usize = 15;

pub(super) fn decode(bytes: &[u8], address: Address) -> Option<Instruction> {
    let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
    let decoded = Decoder::with_ip(64, bytes, address.0, DecoderOptions::NONE).decode();
    if decoded.is_invalid() {
        return None;
    }
    Some(Instruction {
        address,
        length: decoded.len() as u64,
        effects: effects(&decoded),
        flow: flow(&decoded),
    })
}

/// `mov register, fs:[base + displacement]`
pub(super) fn thread_local(bytes: &[u8], address: Address) -> Option<ThreadLocal> {
    let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
    let decoded = Decoder::with_ip(64, bytes, address.0, DecoderOptions::NONE).decode();
    let loads = decoded.mnemonic() == Mnemonic::Mov
        && decoded.op1_kind() == OpKind::Memory
        && decoded.segment_prefix() == Register::FS
        && decoded.memory_index() == Register::None;
    let base = match decoded.memory_base() {
        Register::None => None,
        base => Some(general(base)?),
    };
    loads.then_some(ThreadLocal {
        to: general(decoded.op0_register())?,
        base,
        displacement: decoded.memory_displacement64().cast_signed(),
    })
}

fn flow(decoded: &Decoded) -> Flow {
    match decoded.flow_control() {
        FlowControl::Next | FlowControl::XbeginXabortXend => Flow::Next,
        FlowControl::UnconditionalBranch => Flow::Jump(Address(decoded.near_branch_target())),
        FlowControl::ConditionalBranch => Flow::Branch(Address(decoded.near_branch_target())),
        FlowControl::Call if decoded.code() == Code::Syscall => Flow::Next,
        FlowControl::Call => Flow::Call(Address(decoded.near_branch_target())),
        FlowControl::IndirectCall => Flow::CallThrough(source(decoded, 0)),
        FlowControl::IndirectBranch => Flow::JumpThrough(source(decoded, 0)),
        FlowControl::Return => Flow::Return,
        FlowControl::Interrupt | FlowControl::Exception => Flow::Stop,
    }
}

fn effects(decoded: &Decoded) -> Vec<Effect> {
    match decoded.mnemonic() {
        Mnemonic::Mov
        | Mnemonic::Movzx
        | Mnemonic::Movsx
        | Mnemonic::Movsxd
        | Mnemonic::Movups
        | Mnemonic::Movupd
        | Mnemonic::Movdqu
        | Mnemonic::Movaps
        | Mnemonic::Movapd
        | Mnemonic::Movdqa
        | Mnemonic::Movq
        | Mnemonic::Vmovups
        | Mnemonic::Vmovdqu
        | Mnemonic::Vmovaps
        | Mnemonic::Vmovdqa => moved(decoded),
        Mnemonic::Lea => set(
            decoded,
            memory(decoded).map_or(Source::Unknown, Source::AddressOf),
        ),
        Mnemonic::Add => added(decoded, 1),
        Mnemonic::Sub if !same_registers(decoded) => added(decoded, -1),
        Mnemonic::Inc => set(decoded, offset_by(decoded, 1)),
        Mnemonic::Dec => set(decoded, offset_by(decoded, -1)),
        Mnemonic::Xor | Mnemonic::Sub if same_registers(decoded) => set(decoded, Source::Const(0)),
        Mnemonic::Push => pushed(decoded),
        Mnemonic::Pop => popped(decoded),
        Mnemonic::Leave => left_frame(),
        // Aligns the stack: how far is unknown, and no walk needs it.
        Mnemonic::And if general(decoded.op0_register()) == Some(RSP) => Vec::new(),
        Mnemonic::Cmp | Mnemonic::Test => {
            vec![Effect::Compare {
                left: source(decoded, 0),
                right: source(decoded, 1),
            }]
        }
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq
            if decoded.has_rep_prefix() && decoded.op0_kind() != OpKind::Register =>
        {
            let mut effects = vec![Effect::Copy { to: RDI, from: RSI }];
            effects.extend(clobbered(decoded));
            effects
        }
        // What a call changes, the walk itself knows.
        Mnemonic::Endbr64 | Mnemonic::Nop | Mnemonic::Call | Mnemonic::Ret => Vec::new(),
        _ if decoded.condition_code() != ConditionCode::None && is_conditional_move(decoded) => {
            chosen(decoded)
        }
        _ => clobbered(decoded),
    }
}

fn moved(decoded: &Decoded) -> Vec<Effect> {
    match decoded.op0_kind() {
        OpKind::Register => set(decoded, source(decoded, 1)),
        OpKind::Memory => memory(decoded).map_or_else(Vec::new, |to| {
            vec![Effect::Store {
                to,
                from: source(decoded, 1),
            }]
        }),
        _ => clobbered(decoded),
    }
}

/// `add` or `sub` of a constant: the register plus a displacement.
fn added(decoded: &Decoded, sign: i64) -> Vec<Effect> {
    let by = match source(decoded, 1) {
        Source::Const(value) => value.cast_signed().checked_mul(sign),
        _ => None,
    };
    match by {
        Some(by) => set(decoded, offset_by(decoded, by)),
        None => clobbered(decoded),
    }
}

fn offset_by(decoded: &Decoded, by: i64) -> Source {
    match general(decoded.op0_register()) {
        Some(register) => Source::AddressOf(at(register, by)),
        None => Source::Unknown,
    }
}

/// The operand is read ahead of the stack pointer's change: it may be relative to it.
fn pushed(decoded: &Decoded) -> Vec<Effect> {
    vec![
        Effect::Store {
            to: at(RSP, -8),
            from: source(decoded, 0),
        },
        Effect::Set {
            to: RSP,
            from: Source::AddressOf(at(RSP, -8)),
        },
    ]
}

fn popped(decoded: &Decoded) -> Vec<Effect> {
    let mut effects = set(decoded, Source::Load(at(RSP, 0)));
    effects.push(Effect::Set {
        to: RSP,
        from: Source::AddressOf(at(RSP, 8)),
    });
    effects
}

fn left_frame() -> Vec<Effect> {
    vec![
        Effect::Set {
            to: RSP,
            from: Source::AddressOf(at(RBP, 8)),
        },
        Effect::Set {
            to: RBP,
            from: Source::Load(at(RSP, -8)),
        },
    ]
}

fn chosen(decoded: &Decoded) -> Vec<Effect> {
    let (Some(to), or) = (register(decoded.op0_register()), source(decoded, 1)) else {
        return clobbered(decoded);
    };
    vec![Effect::Choose {
        to,
        either: Source::Reg(to),
        or,
    }]
}

fn is_conditional_move(decoded: &Decoded) -> bool {
    decoded.flow_control() == FlowControl::Next
        && decoded.op_count() == 2
        && decoded.op0_kind() == OpKind::Register
        && decoded.op0_register().size() >= 4
}

fn set(decoded: &Decoded, from: Source) -> Vec<Effect> {
    let target = decoded.op0_register();
    match register(target) {
        // A write of 8 or 16 bits leaves the rest of the register as it was.
        Some(to) if target.size() < 4 => vec![Effect::Set {
            to,
            from: Source::Unknown,
        }],
        Some(to) => vec![Effect::Set { to, from }],
        None => clobbered(decoded),
    }
}

/// Every register and place in memory that the instruction writes, now unknown.
fn clobbered(decoded: &Decoded) -> Vec<Effect> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(decoded);
    let registers = info
        .used_registers()
        .iter()
        .filter(|used| is_written(used.access()))
        .filter_map(|used| register(used.register()))
        .filter(|written| *written != RSP)
        .map(|to| Effect::Set {
            to,
            from: Source::Unknown,
        });
    let writes_memory = decoded.op0_kind() == OpKind::Memory && is_written(info.op0_access());
    let stored = if writes_memory { memory(decoded) } else { None };
    registers
        .chain(stored.map(|to| Effect::Store {
            to,
            from: Source::Unknown,
        }))
        .collect()
}

fn is_written(access: OpAccess) -> bool {
    !matches!(
        access,
        OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
    )
}

fn source(decoded: &Decoded, operand: u32) -> Source {
    match decoded.op_kind(operand) {
        OpKind::Register => {
            register(decoded.op_register(operand)).map_or(Source::Unknown, Source::Reg)
        }
        OpKind::Memory => memory(decoded).map_or(Source::Unknown, Source::Load),
        OpKind::Immediate32 => Source::Const(u64::from(decoded.immediate32())),
        OpKind::Immediate8
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64
        | OpKind::Immediate64
        | OpKind::Immediate16
        | OpKind::Immediate8to16 => Source::Const(decoded.immediate(operand)),
        _ => Source::Unknown,
    }
}

fn memory(decoded: &Decoded) -> Option<Memory> {
    // A thread's own storage: the base of the segment is not known here.
    if matches!(decoded.segment_prefix(), Register::FS | Register::GS) {
        return None;
    }
    let base = match decoded.memory_base() {
        // iced gives the absolute address as the displacement.
        Register::None | Register::RIP => None,
        base => Some(general(base)?),
    };
    let index = match decoded.memory_index() {
        Register::None => None,
        index => Some(register(index)?),
    };
    Some(Memory {
        base,
        index,
        displacement: decoded.memory_displacement64().cast_signed(),
        width: decoded.memory_size().size() as u32,
    })
}

fn at(base: Reg, displacement: i64) -> Memory {
    Memory {
        base: Some(base),
        index: None,
        displacement,
        width: 8,
    }
}

fn same_registers(decoded: &Decoded) -> bool {
    decoded.op0_kind() == OpKind::Register
        && decoded.op1_kind() == OpKind::Register
        && decoded.op0_register() == decoded.op1_register()
}

fn general(register: Register) -> Option<Reg> {
    register
        .is_gpr()
        .then(|| Reg(register.full_register().number() as u8))
}

fn register(register: Register) -> Option<Reg> {
    if register.is_vector_register() {
        return Some(Reg(FIRST_VECTOR + register.number() as u8));
    }
    general(register)
}
