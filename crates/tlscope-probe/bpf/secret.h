/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The key-log sink: the one internal function of a TLS library that is handed
 * every secret, already labelled, at the moment it is born.
 */
#ifndef TLSCOPE_SECRET_H
#define TLSCOPE_SECRET_H

#include "connection.h"

/* RFC 5246, section 8.1. */
#define MASTER_SECRET_LEN 48

static __always_inline __u64 argument(struct pt_regs *ctx, __u32 number)
{
	switch (number) {
	case 0: return ARG1(ctx);
	case 1: return ARG2(ctx);
	case 2: return ARG3(ctx);
	case 3: return ARG4(ctx);
	case 4: return ARG5(ctx);
	case 5: return ARG6(ctx);
	default: return 0;
	}
}

/* Walks the path in the target's memory; 0 when it leads nowhere. */
static __always_inline __u64 field_address(__u64 start, const struct field_path *path)
{
	__u64 place = start;
	int i;

#pragma unroll
	for (i = 0; i < PATH_MAX_STEPS; i++) {
		if (i >= path->steps)
			break;
		place += path->offset[i];
		if (i + 1 < path->steps &&
		    bpf_probe_read_user(&place, sizeof(place), (void *)place))
			return 0;
	}
	return place;
}

/* Before 5.15 there are none, and each image has an object of its own. */
static __always_inline __u64 cookie_of(void *ctx)
{
#ifdef TLSCOPE_CORE
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_attach_cookie))
		return bpf_get_attach_cookie(ctx);
#endif
	return 0;
}

/* Which image was hit. */
static __always_inline __u32 image_index(void *ctx)
{
	return cookie_of(ctx) & COOKIE_IMAGE_MASK;
}

static __always_inline const struct image *image_of(void *ctx)
{
	__u32 index = image_index(ctx);

	return bpf_map_lookup_elem(&images, &index);
}

/*
 * Calls, and births and ends of connections, from the moment on when all of the image's probes
 * are there: requests without their responses would be taken to be those of later ones. A secret
 * is worth having by itself, and is taken as soon as there is a probe.
 */
static __always_inline bool followed(void *ctx)
{
	const struct config *cfg = configuration();

	if (!wanted_by(cfg))
		return false;
	return !cfg->attaching || cfg->attaching != image_index(ctx) + 1;
}

static __always_inline bool random_read(struct secret_record *record, struct pt_regs *ctx,
					const struct image *image)
{
	__u64 start = argument(ctx, image->random_arg);

	return !bpf_probe_read_user(record->client_random, sizeof(record->client_random),
				    (void *)field_address(start, &image->client_random));
}

static __always_inline bool bytes_read(struct secret_record *record, __u64 from, __u64 length)
{
	opaque(length);
	if (!length || length > SECRET_MAX)
		return false;
	record->secret_length = length;
	return !bpf_probe_read_user(record->secret, length, (void *)from);
}

static __always_inline bool label_read(struct secret_record *record, __u64 from)
{
	long length = bpf_probe_read_user_str(record->label, sizeof(record->label), (void *)from);

	if (length <= 1)
		return false;
	record->label_length = length - 1;
	return true;
}

/* What the sink is handed. */
static __always_inline bool sink_read(struct secret_record *record, struct pt_regs *ctx,
				      const struct image *image)
{
	/* An int in some libraries: only the low half of the register counts. */
	__u32 length = argument(ctx, image->length_arg);

	return label_read(record, argument(ctx, image->label_arg)) &&
	       random_read(record, ctx, image) &&
	       bytes_read(record, argument(ctx, image->secret_arg), length);
}

/*
 * What the connection holds when its key block is about to be derived. It has
 * no label: a string here would need a map of globals (5.2).
 */
static __always_inline bool master_secret_read(struct secret_record *record, struct pt_regs *ctx,
					       const struct image *image)
{
	__u64 at = field_address(ARG1(ctx), &image->master_secret_length);
	__u32 length = MASTER_SECRET_LEN;

	if (image->master_secret_length.steps &&
	    bpf_probe_read_user(&length, sizeof(length), (void *)at))
		return false;
	return random_read(record, ctx, image) &&
	       bytes_read(record, field_address(ARG1(ctx), &image->master_secret), length);
}

static __always_inline int secret_emit(struct pt_regs *ctx, struct secret_record *record,
				       __u64 object)
{
	const struct connection *connection = connection_find(object);

	header_fill(&record->header, RECORD_SECRET, sizeof(*record));
	record->connection.object = object;
	record->socket.fd = -1;
	if (connection) {
		record->connection.generation = connection->generation;
		record->socket = *connection_address(connection, DIRECTION_SENT);
	}
	if (!emit_record(ctx, object, record, sizeof(*record)))
		count(COUNTER_SECRETS_LOST, 1);
	return 0;
}

SEC("uprobe")
int secret_sink_entry(struct pt_regs *ctx)
{
	const struct image *image = image_of(ctx);
	struct secret_record record = {};

	if (!image || !wanted())
		return 0;
	if (sink_read(&record, ctx, image))
		return secret_emit(ctx, &record, argument(ctx, image->connection_arg));
	count(COUNTER_SECRETS_UNREADABLE, 1);
	return 0;
}

SEC("uprobe")
int key_block_entry(struct pt_regs *ctx)
{
	const struct image *image = image_of(ctx);
	struct secret_record record = {};

	if (!image || !wanted())
		return 0;
	if (master_secret_read(&record, ctx, image))
		return secret_emit(ctx, &record, ARG1(ctx));
	count(COUNTER_SECRETS_UNREADABLE, 1);
	return 0;
}

#endif
