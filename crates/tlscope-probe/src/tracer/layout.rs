//! A plan's layout values as BPF programs take them.

use tlscope_image::elf::Address;
use tlscope_image::plan::{
    ExpansionAbi, FieldPath, GoAbi, GoKeyLogForm, GoLayout, Goroutine, LayoutValue, Plan, Probe,
    Role,
};

use crate::abi;

pub(super) fn image_of(plan: &Plan) -> abi::Image {
    let births = |probe: &Probe| matches!(probe.role, Role::New | Role::NewAt);
    let layout = &plan.layout;
    let sink = &layout.sink;
    let path = |value: &Option<LayoutValue>| value.as_ref().map(|value| field_path(&value.path));
    let (random_arg, client_random) = match sink.client_random {
        Some(argument) => (argument, Some(field_path(&FieldPath(vec![0])))),
        None => (sink.connection, path(&layout.client_random)),
    };
    abi::Image {
        client_random: client_random.unwrap_or_default(),
        master_secret: path(&layout.master_secret).unwrap_or_default(),
        master_secret_length: path(&layout.master_secret_length).unwrap_or_default(),
        connection_arg: sink.connection.into(),
        random_arg: random_arg.into(),
        label_arg: sink.label.into(),
        secret_arg: sink.secret.into(),
        length_arg: sink.length.into(),
        packet_size: layout.packet_size.as_ref().map_or(0, last_step),
        births: plan.probes.iter().any(births).into(),
        reserved: 0,
        expansion: layout
            .expansion
            .as_ref()
            .map(expansion_abi_of)
            .unwrap_or_default(),
        go: layout.go.as_ref().map(go_layout_of).unwrap_or_default(),
    }
}

fn expansion_abi_of(expansion: &ExpansionAbi) -> abi::ExpansionAbi {
    let or_none = |argument: Option<u8>| argument.map_or(abi::ARGUMENT_NONE, u32::from);
    abi::ExpansionAbi {
        connection: or_none(expansion.connection),
        label: expansion.label.into(),
        label_length: or_none(expansion.label_length),
        output: expansion.output.into(),
        output_length: or_none(expansion.output_length),
        early: expansion.early.into(),
    }
}

fn go_layout_of(go: &GoLayout) -> abi::GoLayout {
    let path = |value: &Option<LayoutValue>| value.as_ref().map(|value| field_path(&value.path));
    // No type is at this address, wherever the image was loaded.
    let address = |value: Option<Address>| value.map_or(u64::MAX >> 1, |address| address.0);
    let (place, goroutine) = match go.goroutine {
        Goroutine::Register => (abi::GOROUTINE_IN_REGISTER, 0),
        Goroutine::ThreadLocal { offset } => (abi::GOROUTINE_THREAD_LOCAL, offset),
        Goroutine::ThreadLocalAt { slot } => (abi::GOROUTINE_BY_SLOT, slot.0.cast_signed()),
    };
    abi::GoLayout {
        stack_abi: u32::from(go.abi == GoAbi::Stack),
        place,
        goroutine,
        unlabelled: u32::from(go.key_log == GoKeyLogForm::MasterSecret),
        reserved: 0,
        connection: path(&go.connection).unwrap_or_default(),
        tcp_fd: path(&go.tcp_fd).unwrap_or_default(),
        tcp_type: address(go.tcp_type),
        tls_type: address(go.tls_type),
    }
}

/// The offset of a field right behind its pointer.
fn last_step(value: &LayoutValue) -> u32 {
    value.path.0.last().copied().unwrap_or_default()
}

fn field_path(path: &FieldPath) -> abi::FieldPath {
    let mut offset = [0; abi::PATH_MAX_STEPS];
    for (slot, step) in offset.iter_mut().zip(&path.0) {
        *slot = *step;
    }
    abi::FieldPath {
        steps: path.0.len().min(abi::PATH_MAX_STEPS) as u32,
        offset,
        reserved: 0,
    }
}
