/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * HKDF-Expand-Label of TLS 1.3 (RFC 8446, section 7.1), where a library's
 * key-log sink was dissolved into its callers. The label comes in, the secret
 * is there at return.
 */
#ifndef TLSCOPE_EXPAND_H
#define TLSCOPE_EXPAND_H

#include "secret.h"

/*
 * From "exp master" to "e exp master": what a key log holds, and little else.
 * User space knows the labels; strings here would need a map of globals (5.2).
 */
#define DERIVATION_LABEL_MIN 10
#define DERIVATION_LABEL_MAX 12
/* A power of two beyond them: clang compares in a way that leaves 5.10 without a bound. */
#define DERIVATION_LABEL_ROOM 16

struct expansion {
	__u64 stack;
	__u64 output;
	__u64 length;
	struct secret_record record;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct expansion);
} expansions SEC(".maps");

static __always_inline void expansion_begins(struct pt_regs *ctx)
{
	const struct image *image = image_of(ctx);
	__u64 id = bpf_get_current_pid_tgid();
	struct expansion expansion = {.stack = STACK(ctx)};
	struct secret_record *record = &expansion.record;
	__u64 length = ARG5(ctx);

	opaque(length);
	if (!image || length < DERIVATION_LABEL_MIN || length > DERIVATION_LABEL_MAX)
		return;
#if defined(__TARGET_ARCH_x86)
	/* The eighth and ninth lie on the stack, behind the return address and the seventh. */
	bpf_probe_read_user(&expansion.output, sizeof(__u64), (void *)(STACK(ctx) + 16));
	bpf_probe_read_user(&expansion.length, sizeof(__u64), (void *)(STACK(ctx) + 24));
#else
	expansion.output = REGISTER(ctx, regs[7]);
	bpf_probe_read_user(&expansion.length, sizeof(__u64), (void *)STACK(ctx));
#endif
	record->label_length = length;
	record->connection.object = ARG1(ctx);
	opaque(length);
	length &= DERIVATION_LABEL_ROOM - 1;
	if (bpf_probe_read_user(record->label, length, (void *)ARG4(ctx)) ||
	    !random_read(record, ctx, image)) {
		count(COUNTER_SECRETS_UNREADABLE, 1);
		return;
	}
	bpf_map_update_elem(&expansions, &id, &expansion, BPF_ANY);
}

static __always_inline int expansion_ends(struct pt_regs *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct expansion *expansion = bpf_map_lookup_elem(&expansions, &id);

	if (!expansion || expansion->stack != STACK(ctx) - RETURN_POPS)
		return 0;
	if ((int)RETURNED(ctx) > 0) {
		struct secret_record *record = &expansion->record;

		if (bytes_read(record, expansion->output, expansion->length))
			secret_emit(ctx, record, record->connection.object);
		else
			count(COUNTER_SECRETS_UNREADABLE, 1);
	}
	bpf_map_delete_elem(&expansions, &id);
	return 0;
}

DEFINE_CALL(expand_label, expansion_begins(ctx), expansion_ends(ctx))

#endif
