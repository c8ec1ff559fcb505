/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * HKDF-Expand-Label of TLS 1.3 (RFC 8446, section 7.1), where there is no
 * key-log sink. The label comes in, the secret is there at return. A function
 * that is not handed the connection derives for the handshake that runs.
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

/* The handshake that a thread is in, and the one around it: TLS within TLS. */
struct handshakes {
	__u64 stack[2];
	__u64 object[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct handshakes);
} handshakes SEC(".maps");

/* Client randoms of the hellos that a server read, by connection. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct connection_key);
	__type(value, __u64[RANDOM_LEN / 8]);
} heard SEC(".maps");

static __always_inline void handshake_begins(struct pt_regs *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	const struct handshakes *around = bpf_map_lookup_elem(&handshakes, &id);
	struct handshakes now = {};

	now.stack[0] = STACK(ctx);
	now.object[0] = ARG1(ctx);
	/* A live caller's frame lies above ours: others were left by a longjmp. */
	if (around && around->stack[0] > now.stack[0]) {
		now.stack[1] = around->stack[0];
		now.object[1] = around->object[0];
	} else if (around && around->stack[1] > now.stack[0]) {
		now.stack[1] = around->stack[1];
		now.object[1] = around->object[1];
	}
	bpf_map_update_elem(&handshakes, &id, &now, BPF_ANY);
}

static __always_inline int handshake_ends(struct pt_regs *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct handshakes *now = bpf_map_lookup_elem(&handshakes, &id);

	if (!now || now->stack[0] != STACK(ctx) - RETURN_POPS)
		return 0;
	if (!now->stack[1]) {
		bpf_map_delete_elem(&handshakes, &id);
		return 0;
	}
	now->stack[0] = now->stack[1];
	now->object[0] = now->object[1];
	now->stack[1] = 0;
	return 0;
}

static __always_inline __u64 handshake_object(void)
{
	__u64 id = bpf_get_current_pid_tgid();
	const struct handshakes *now = bpf_map_lookup_elem(&handshakes, &id);

	return now ? now->object[0] : 0;
}

/* Also of those that lie on the stack, on x86_64 behind the return address. */
static __always_inline __u64 any_argument(struct pt_regs *ctx, __u32 number)
{
	__u64 place = STACK(ctx);
	__u64 value = 0;

#if defined(__TARGET_ARCH_x86)
	if (number < 6)
		return argument(ctx, number);
	place += 8 * (number - 5);
#else
	if (number < 6)
		return argument(ctx, number);
	if (number == 6)
		return REGISTER(ctx, regs[6]);
	if (number == 7)
		return REGISTER(ctx, regs[7]);
	place += 8 * (number - 8);
#endif
	bpf_probe_read_user(&value, sizeof(value), (void *)place);
	return value;
}

/* "c hs traffic", "e exp master", "exp master"; not "traffic upd" nor "res binder". */
static __always_inline bool is_logged(const char *label, const struct expansion_abi *abi)
{
	if (label[1] == ' ')
		return label[2] != 'e' || abi->early;
	return label[1] == 'x' && label[2] == 'p';
}

/* Whether it is one that a key log holds. */
static __always_inline bool derivation_label_read(struct secret_record *record, struct pt_regs *ctx,
						  const struct expansion_abi *abi)
{
	void *label = (void *)any_argument(ctx, abi->label);
	__u64 length;

	if (abi->label_length == ARGUMENT_NONE)
		length = bpf_probe_read_user_str(record->label, DERIVATION_LABEL_ROOM, label) - 1;
	else
		length = any_argument(ctx, abi->label_length);
	opaque(length);
	if (length < DERIVATION_LABEL_MIN || length > DERIVATION_LABEL_MAX)
		return false;
	record->label_length = length;
	opaque(length);
	length &= DERIVATION_LABEL_ROOM - 1;
	return !bpf_probe_read_user(record->label, length, label) && is_logged(record->label, abi);
}

/* A server that keeps no random of its client's leaves zeros in its place. */
static __always_inline bool random_derived_for(struct secret_record *record, __u64 object,
					       const struct image *image)
{
	__u64 *random = (__u64 *)record->client_random;
	struct connection_key key;
	const __u64 *known;

	if (!object || bpf_probe_read_user(random, RANDOM_LEN,
					   (void *)field_address(object, &image->client_random)))
		return false;
	if (random[0] | random[1] | random[2] | random[3])
		return true;
	connection_key(&key, object);
	known = bpf_map_lookup_elem(&heard, &key);
	if (!known)
		return false;
	__builtin_memcpy(random, known, RANDOM_LEN);
	return true;
}

/* The output's bytes and their length, where they are known already. */
static __always_inline bool output_read(struct expansion *expansion, struct pt_regs *ctx,
					const struct expansion_abi *abi)
{
	__u64 output = any_argument(ctx, abi->output);
	__u64 pair[2] = {output};

	if (abi->output_length != ARGUMENT_NONE)
		pair[1] = any_argument(ctx, abi->output_length);
	else if (bpf_probe_read_user(pair, sizeof(pair), (void *)output))
		return false;
	expansion->output = pair[0];
	expansion->length = pair[1];
	return true;
}

static __always_inline void expansion_begins(struct pt_regs *ctx)
{
	const struct image *image = image_of(ctx);
	__u64 id = bpf_get_current_pid_tgid();
	struct expansion expansion = {.stack = STACK(ctx)};
	struct secret_record *record = &expansion.record;
	const struct expansion_abi *abi;
	__u64 object;

	if (!image)
		return;
	abi = &image->expansion;
	if (!derivation_label_read(record, ctx, abi))
		return;
	if (abi->connection == ARGUMENT_NONE)
		object = handshake_object();
	else
		object = any_argument(ctx, abi->connection);
	record->connection.object = object;
	if (!random_derived_for(record, object, image) || !output_read(&expansion, ctx, abi)) {
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
	/* Of a bool, only the low byte counts. */
	if ((__u8)RETURNED(ctx)) {
		struct secret_record *record = &expansion->record;

		if (bytes_read(record, expansion->output, expansion->length))
			secret_emit(ctx, record, record->connection.object);
		else
			count(COUNTER_SECRETS_UNREADABLE, 1);
	}
	bpf_map_delete_elem(&expansions, &id);
	return 0;
}

DEFINE_CALL_IF(expand_label, wanted(), expansion_begins(ctx), expansion_ends(ctx))
DEFINE_CALL_IF(handshaking, wanted(), handshake_begins(ctx), handshake_ends(ctx))

/* Two bytes of version, then the random (RFC 8446, section 4.1.2). */
SEC("uprobe")
int hello_body_entry(struct pt_regs *ctx)
{
	__u64 random[RANDOM_LEN / 8] = {};
	struct connection_key key;
	__u64 object, body;

	if (!wanted())
		return 0;
	object = handshake_object();
	if (!object || bpf_probe_read_user(&body, sizeof(body), (void *)ARG2(ctx)) ||
	    bpf_probe_read_user(random, sizeof(random), (void *)(body + 2)))
		return 0;
	connection_key(&key, object);
	bpf_map_update_elem(&heard, &key, random, BPF_ANY);
	return 0;
}

#endif
