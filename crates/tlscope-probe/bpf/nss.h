/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * NSS: its TLS library names a secret by a key object, and the token that
 * made the key has the bytes. What a token wrote where its caller wanted the
 * handle is kept until that caller names the key: the place is a field of it.
 */
#ifndef TLSCOPE_NSS_H
#define TLSCOPE_NSS_H

#include "secret.h"

/* PKCS #11 2.40: CKA_VALUE; PKCS #11 3.0: CKM_HKDF_DERIVE, CKM_HKDF_DATA. */
#define CKA_VALUE	0x11
#define CKM_HKDF_DERIVE 0x402a
#define CKM_HKDF_DATA	0x402b

/* Attributes of an object that is given as a whole: NSS passes five. */
#define ATTRIBUTES_MAX 8

/* The handle stands in this much of a key object: at 8 in NSS 3.61 to 3.132. */
#define HANDLE_WORDS 8

/* CLIENT_TRAFFIC_SECRET_0 and SERVER_TRAFFIC_SECRET_0, and no other label. */
#define TRAFFIC_LABEL_LENGTH 23

/* A key that a call of the thread is making. */
struct making {
	__u64 stack;
	__u64 handle_at;
	__u64 base; /* handle of the key that it is derived from */
	__u32 slot;
	__u32 length;
	__u8 value[SECRET_MAX];
	__u64 updates; /* TLS 1.3: the next generation of a traffic secret */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct making);
} makings SEC(".maps");

struct key_place {
	__u64 handle_at;
	__u32 pid;
	__u32 reserved;
};

struct key_value {
	__u64 handle;
	__u32 slot;
	__u32 length;
	__u8 value[SECRET_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct key_place);
	__type(value, struct key_value);
} keys SEC(".maps");

/* Handles count up in each slot of a token by itself. */
struct key_name {
	__u64 handle;
	__u32 slot;
	__u32 pid;
};

/* What the next generation of a traffic secret is to be reported as. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct key_name);
	__type(value, struct secret_record);
} traffic SEC(".maps");

struct ck_attribute {
	__u64 type;
	__u64 value;
	__u64 length;
};

struct ck_mechanism {
	__u64 type;
	__u64 parameter;
	__u64 length;
};

struct ck_hkdf_params {
	__u64 extract_expand;
	__u64 hash;
	__u64 salt_type;
	__u64 salt;
	__u64 salt_length;
	__u64 salt_key;
	__u64 info;
	__u64 info_length;
};

/* RFC 8446, 7.1: HkdfLabel. "dtls13" is as long as "tls13 " (RFC 9147, 5.9). */
struct update_label {
	__u16 length;
	__u8 label_length;
	char prefix[6];
	char label[11];
	__u8 context_length;
} __attribute__((packed));

/* The token of NSS keeps a slot's index in the top byte of its sessions' handles. */
static __always_inline __u32 slot_of(__u64 session)
{
	return (__u32)session >> 24;
}

/* RFC 8446, 7.2: "traffic upd". */
static __always_inline bool is_traffic_update(__u64 mechanism_at)
{
	struct ck_mechanism mechanism = {};
	struct ck_hkdf_params params = {};
	struct update_label label = {};

	if (bpf_probe_read_user(&mechanism, sizeof(mechanism), (void *)mechanism_at) ||
	    (mechanism.type != CKM_HKDF_DERIVE && mechanism.type != CKM_HKDF_DATA) ||
	    bpf_probe_read_user(&params, sizeof(params), (void *)mechanism.parameter) ||
	    params.info_length != sizeof(label) ||
	    bpf_probe_read_user(&label, sizeof(label), (void *)params.info))
		return false;
	return label.label[0] == 't' && label.label[1] == 'r' && label.label[2] == 'a' &&
	       label.label[3] == 'f' && label.label[4] == 'f' && label.label[5] == 'i' &&
	       label.label[6] == 'c' && label.label[7] == ' ' && label.label[8] == 'u' &&
	       label.label[9] == 'p' && label.label[10] == 'd';
}

static __always_inline void making_begin(struct pt_regs *ctx, struct making *making)
{
	__u64 id = bpf_get_current_pid_tgid();

	making->stack = STACK(ctx);
	making->slot = slot_of(ARG1(ctx));
	if (making->handle_at)
		bpf_map_update_elem(&makings, &id, making, BPF_ANY);
}

static __always_inline void derive_begins(struct pt_regs *ctx)
{
	struct making making = {.handle_at = ARG6(ctx), .base = ARG3(ctx)};

	making.updates = is_traffic_update(ARG2(ctx));
	making_begin(ctx, &making);
}

static __always_inline void unwrap_begins(struct pt_regs *ctx)
{
	struct making making = {};

#if defined(__TARGET_ARCH_x86)
	/* The eighth argument lies on the stack, behind the return address and the seventh. */
	bpf_probe_read_user(&making.handle_at, sizeof(making.handle_at), (void *)(STACK(ctx) + 16));
#else
	making.handle_at = REGISTER(ctx, regs[7]);
#endif
	making_begin(ctx, &making);
}

static __always_inline bool value_read(struct making *making, __u64 from, __u64 length)
{
	opaque(length);
	if (!length || length > SECRET_MAX)
		return false;
	making->length = length;
	return !bpf_probe_read_user(making->value, length, (void *)from);
}

/* An object that is given as a whole has its value in the template. */
static __always_inline void create_begins(struct pt_regs *ctx)
{
	struct making making = {.handle_at = ARG4(ctx)};
	__u64 template = ARG2(ctx), count = ARG3(ctx);
	int i;

#pragma unroll
	for (i = 0; i < ATTRIBUTES_MAX; i++) {
		struct ck_attribute attribute = {};

		if (i >= count)
			break;
		bpf_probe_read_user(&attribute, sizeof(attribute),
				    (void *)(template + i * sizeof(attribute)));
		if (attribute.type != CKA_VALUE)
			continue;
		if (value_read(&making, attribute.value, attribute.length))
			making_begin(ctx, &making);
		break;
	}
}

static __always_inline void traffic_remember(const struct secret_record *record,
					     const struct key_value *key)
{
	struct key_name name = {.handle = key->handle, .slot = key->slot};

	name.pid = bpf_get_current_pid_tgid() >> 32;
	bpf_map_update_elem(&traffic, &name, record, BPF_ANY);
}

/* RFC 8446, 7.2: the base key was a traffic secret, and this is its successor. */
static __always_inline void traffic_updated(struct pt_regs *ctx, const struct making *making,
					    const struct key_value *key)
{
	struct key_name name = {.handle = making->base, .slot = making->slot};
	struct secret_record *last, record;

	name.pid = bpf_get_current_pid_tgid() >> 32;
	last = bpf_map_lookup_elem(&traffic, &name);
	if (!last)
		return;
	record = *last;
	record.secret_length = key->length;
	__builtin_memcpy(record.secret, key->value, sizeof(record.secret));
	bpf_map_delete_elem(&traffic, &name);
	traffic_remember(&record, key);
	secret_emit(ctx, &record, record.connection.object);
}

static __always_inline int making_ends(struct pt_regs *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct making *making = bpf_map_lookup_elem(&makings, &id);
	struct key_value key = {};
	struct key_place place = {};

	/* CKR_OK is 0. Calls that give no handle back were not kept. */
	if (!making || making->stack != STACK(ctx) - RETURN_POPS)
		return 0;
	place.handle_at = making->handle_at;
	place.pid = id >> 32;
	key.slot = making->slot;
	key.length = making->length;
	__builtin_memcpy(key.value, making->value, sizeof(key.value));
	if (!RETURNED(ctx) && key.length &&
	    !bpf_probe_read_user(&key.handle, sizeof(key.handle), (void *)place.handle_at)) {
		bpf_map_update_elem(&keys, &place, &key, BPF_ANY);
		if (making->updates)
			traffic_updated(ctx, making, &key);
	}
	bpf_map_delete_elem(&makings, &id);
	return 0;
}

DEFINE_CALL_IF(token_derive, wanted(), derive_begins(ctx), making_ends(ctx))
DEFINE_CALL_IF(token_unwrap, wanted(), unwrap_begins(ctx), making_ends(ctx))
DEFINE_CALL_IF(token_create, wanted(), create_begins(ctx), making_ends(ctx))

SEC("uprobe")
int token_value_entry(struct pt_regs *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct making *making;

	if (ARG2(ctx) != CKA_VALUE || !wanted())
		return 0;
	making = bpf_map_lookup_elem(&makings, &id);
	if (making)
		value_read(making, ARG3(ctx), (__u32)ARG4(ctx));
	return 0;
}

/*
 * The bytes of a key object: a token wrote the handle into it. A handle that
 * is no longer the one written belongs to another key.
 */
static __always_inline const struct key_value *key_find(__u64 object)
{
	struct key_place place = {.pid = bpf_get_current_pid_tgid() >> 32};
	const struct key_value *key;
	__u64 handle;
	int i;

#pragma unroll
	for (i = 0; i < HANDLE_WORDS; i++) {
		place.handle_at = object + i * sizeof(handle);
		key = bpf_map_lookup_elem(&keys, &place);
		if (key && !bpf_probe_read_user(&handle, sizeof(handle), (void *)place.handle_at) &&
		    handle == key->handle)
			return key;
	}
	return NULL;
}

SEC("uprobe")
int nss_secret_entry(struct pt_regs *ctx)
{
	const struct image *image = image_of(ctx);
	struct secret_record record = {};
	const struct key_value *key;

	if (!image || !wanted())
		return 0;
	key = key_find(ARG3(ctx));
	if (!key) {
		count(COUNTER_SECRETS_ELSEWHERE, 1);
		return 0;
	}
	if (!label_read(&record, ARG2(ctx)) || !random_read(&record, ctx, image)) {
		count(COUNTER_SECRETS_UNREADABLE, 1);
		return 0;
	}
	record.secret_length = key->length;
	__builtin_memcpy(record.secret, key->value, sizeof(record.secret));
	secret_emit(ctx, &record, ARG1(ctx));
	if (record.label_length == TRAFFIC_LABEL_LENGTH) {
		record.label[TRAFFIC_LABEL_LENGTH - 1] = 'N';
		traffic_remember(&record, key);
	}
	return 0;
}

/* PR_MSG_PEEK (prio.h): the bytes will be read again. */
#define PR_MSG_PEEK 2

static __always_inline int nss_read_returns(struct pt_regs *ctx)
{
	return data_return(ctx, DIRECTION_RECEIVED, LENGTH_UNLESS);
}

DEFINE_CALL(nss_read, frame_push(ctx, ARG4(ctx) & PR_MSG_PEEK, 0), nss_read_returns(ctx))

#endif
