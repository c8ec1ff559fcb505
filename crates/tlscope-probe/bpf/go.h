/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Go's crypto/tls. Returns are probed at each RET instruction: a uretprobe
 * would leave an address on the stack that Go's runtime does not know when it
 * walks or moves the stack.
 */
#ifndef TLSCOPE_GO_H
#define TLSCOPE_GO_H

#include "goroutine.h"
#include "go_socket.h"

/* RFC 8446, sections 4 and 5.1. */
#define RECORD_HANDSHAKE	22
#define RECORD_APPLICATION_DATA 23

/* (c *Conn) writeRecordLocked(typ recordType, data []byte) (int, error) */
enum {
	WRITE_CONNECTION,
	WRITE_TYPE,
	WRITE_DATA,
	WRITE_LENGTH,
	WRITE_CAPACITY,
	WRITE_WORDS,
};

/* (c *Conn) Read(b []byte) (int, error) */
enum {
	READ_CONNECTION,
	READ_DATA,
	READ_LENGTH,
	READ_CAPACITY,
	READ_WORDS,
};

/*
 * Each side's first message begins a connection: the collector may have put it
 * where another one was. On the same socket it is a renegotiation. A server's
 * comes from within the call that received the client's: by which socket, stays.
 */
static __always_inline void hello_written(struct pt_regs *ctx, const struct go_layout *layout,
					  __u64 bias, __u64 object, __u64 message)
{
	struct connection *connection = connection_find(object);
	struct carrier received;
	__u8 type = 0;
	bool met;

	if (!connection || bpf_probe_read_user(&type, sizeof(type), (void *)message) ||
	    (type != MESSAGE_CLIENT_HELLO && type != MESSAGE_SERVER_HELLO))
		return;
	if (!(connection->flags & CONNECTION_CLOSED) &&
	    go_socket_is(layout, bias, object, connection))
		return;
	met = type == MESSAGE_SERVER_HELLO && go_call_is_settled(ctx, layout, object);
	received = connection->carriers[DIRECTION_RECEIVED];
	connection_end(ctx, object, true);
	if (!met)
		return;
	connection = connection_get(object);
	if (connection)
		connection->carriers[DIRECTION_RECEIVED] = received;
}

/*
 * Every record is written here, with the lock of the connection's sending side
 * held: so order and offsets hold with many writers too.
 */
SEC("uprobe")
int go_write_entry(struct pt_regs *ctx)
{
	const struct image *image = image_of(ctx);
	struct frame call = {};
	__u64 bias, data;
	__u8 type;

	if (!image || !followed(ctx))
		return 0;
	bias = load_bias(ctx);
	call.object = go_argument(ctx, &image->go, WRITE_CONNECTION);
	data = go_argument(ctx, &image->go, WRITE_DATA);
	type = go_argument(ctx, &image->go, WRITE_TYPE);
	if (type == RECORD_HANDSHAKE)
		hello_written(ctx, &image->go, bias, call.object, data);
	if (type == RECORD_APPLICATION_DATA) {
		call.buffer = data;
		call.length = go_argument(ctx, &image->go, WRITE_LENGTH);
	}
	go_frame_push(ctx, &image->go, &call);
	go_socket_find(&image->go, bias, call.object);
	return 0;
}

SEC("uprobe")
int go_read_entry(struct pt_regs *ctx)
{
	const struct image *image = image_of(ctx);
	struct frame call = {};

	if (!image || !followed(ctx))
		return 0;
	call.object = go_argument(ctx, &image->go, READ_CONNECTION);
	call.buffer = go_argument(ctx, &image->go, READ_DATA);
	go_frame_push(ctx, &image->go, &call);
	go_socket_find(&image->go, load_bias(ctx), call.object);
	return 0;
}

static __always_inline int go_return(struct pt_regs *ctx, enum direction direction, __u32 words)
{
	const struct image *image = image_of(ctx);
	struct frame call;
	__s64 moved;

	if (!image || !followed(ctx))
		return 0;
	if (!go_frame_pop(&call, ctx, &image->go)) {
		count(COUNTER_UNMATCHED_RETURNS, 1);
		return 0;
	}
	moved = go_result(ctx, &image->go, words);
	if (call.buffer && moved > 0)
		data_emit(ctx, &call, direction, moved);
	return 0;
}

SEC("uprobe")
int go_write_return(struct pt_regs *ctx)
{
	return go_return(ctx, DIRECTION_SENT, WRITE_WORDS);
}

SEC("uprobe")
int go_read_return(struct pt_regs *ctx)
{
	return go_return(ctx, DIRECTION_RECEIVED, READ_WORDS);
}

/* Calls of other goroutines may still end: the connection is kept. */
SEC("uprobe")
int go_close_entry(struct pt_regs *ctx)
{
	const struct image *image = image_of(ctx);
	struct connection *connection;
	__u64 object;

	if (!image || !followed(ctx))
		return 0;
	object = go_argument(ctx, &image->go, 0);
	connection = connection_find(object);
	if (!connection || (connection->flags & CONNECTION_CLOSED))
		return 0;
	connection->flags |= CONNECTION_CLOSED;
	connection_end(ctx, object, false);
	return 0;
}

/* A Go string is not terminated, and a longer one than ours is no label. */
static __always_inline bool go_label_read(struct secret_record *record, __u64 text, __u64 length)
{
	opaque(length);
	if (!length || length > LABEL_MAX)
		return false;
	record->label_length = length;
	return !bpf_probe_read_user(record->label, length, (void *)text);
}

/*
 * (c *Config) writeKeyLog(label string, clientRandom, secret []byte) error;
 * before Go 1.12 without a label. Called with no KeyLogWriter set, too.
 */
SEC("uprobe")
int go_keylog_entry(struct pt_regs *ctx)
{
	const struct image *image = image_of(ctx);
	struct secret_record record = {};
	const struct go_layout *go;
	__u32 random = 3;
	__u64 config;

	if (!image || !wanted())
		return 0;
	go = &image->go;
	config = go_argument(ctx, go, 0);
	if (go->unlabelled)
		random = 1;
	else if (!go_label_read(&record, go_argument(ctx, go, 1), go_argument(ctx, go, 2)))
		goto unreadable;
	if (go_argument(ctx, go, random + 1) != RANDOM_LEN ||
	    bpf_probe_read_user(record.client_random, RANDOM_LEN,
				(void *)go_argument(ctx, go, random)) ||
	    !bytes_read(&record, go_argument(ctx, go, random + 3),
			go_argument(ctx, go, random + 4)))
		goto unreadable;
	return secret_emit(ctx, &record, config);

unreadable:
	count(COUNTER_SECRETS_UNREADABLE, 1);
	return 0;
}

#endif
