// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * The programs: one per role of a probed function (Role in tlscope-image).
 * Each calling role exists as an entry and a return program and, in the core
 * object, as a session program that serves both (6.13).
 */
#ifdef TLSCOPE_CORE
#include "kernel.h"
#include "output_ring.h"
#include "follow.h"
#else
#include "output_perf.h"
#endif
#include "syscall.h"
#include "identity.h"
#include "owner.h"
#include "gnutls.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* How a data function tells its caller how many bytes it moved. */
enum length_form {
	LENGTH_RETURNED, /* int, > 0 */
	LENGTH_STORED,	 /* returns 1 and stores a size_t */
	LENGTH_UNLESS,	 /* int, > 0; nothing was moved if length_at is not 0 */
	LENGTH_SEALED,	 /* what was encrypted during the call */
};

static __always_inline void connection_end(void *ctx, __u64 object, bool forget)
{
	struct connection *connection = connection_find(object);
	struct connection_key key;

	if (!connection)
		return;
	if (connection->total[0] || connection->total[1]) {
		struct close_record record = {};

		header_fill(&record.header, RECORD_CLOSE, sizeof(record));
		record.connection.object = object;
		record.connection.generation = connection->generation;
		record.total[0] = connection->total[0];
		record.total[1] = connection->total[1] + connection->ahead;
		if (!emit_record(ctx, object, &record, sizeof(record)))
			bpf_map_update_elem(&unsent_closes, &record.connection, &record, BPF_ANY);
	}
	if (forget) {
		connection_key(&key, object);
		bpf_map_delete_elem(&connections, &key);
	}
}

/* Bytes that the call moved, or 0: a failed call moved none. */
static __always_inline __u64 bytes_moved(struct pt_regs *ctx, const struct frame *frame,
					 enum length_form form)
{
	int returned = (int)RETURNED(ctx);
	__u64 length = 0;

	if (form == LENGTH_SEALED)
		return sealed_bytes(returned, frame);
	if (form == LENGTH_UNLESS && frame->length_at)
		return 0;
	if (form != LENGTH_STORED)
		return returned > 0 ? returned : 0;
	if (returned == 1)
		bpf_probe_read_user(&length, sizeof(length), (void *)frame->length_at);
	return length;
}

/* How much of an ended write went out before; the rest of it stays ahead. */
static __always_inline __u64 ahead_settle(struct connection *connection, __u64 length)
{
	__u64 ahead = connection->ahead;

	if (ahead > length) {
		connection->ahead = ahead - length;
		return length;
	}
	connection->ahead = 0;
	return ahead;
}

/* Calls at whose return a hello of the other direction is looked for. */
#define SOUGHT_MAX 64

/*
 * No socket is known, or one that may be another connection's: that of a call
 * which a callback made inside this one's. Until data flows, a hello may tell.
 */
static __always_inline bool connection_is_unsure(const struct connection *connection)
{
	if (connection->flags & CONNECTION_NAMED)
		return connection->sought < SOUGHT_MAX &&
		       (!connection->carriers[0].address.family ||
			!connection->carriers[1].address.family);
	if (!connection_address(connection, DIRECTION_SENT)->family)
		return true;
	return connection->flags & (CONNECTION_UNDER | CONNECTION_APART) && !connection->total[0] &&
	       !connection->total[1];
}

/* A call ends. Also one that failed may have made its connection known. */
static __always_inline struct connection *connection_of(void *ctx, const struct frame *frame)
{
	struct connection *connection = connection_get(frame->object);

	if (connection && connection_is_unsure(connection)) {
		mark_apart(connection, frame);
		connection_identify(ctx, connection, frame->object);
	}
	return connection;
}

static __always_inline int data_emit(struct pt_regs *ctx, const struct frame *frame,
				     enum direction direction, __u64 length)
{
	struct connection *connection = connection_of(ctx, frame);
	struct emission *e;
	__u64 skip = 0;

	if (!length)
		return 0;
	e = emission_get();
	if (!connection || !e) {
		count(COUNTER_BUFFER_FULL_BYTES, length);
		return 0;
	}
	if (direction == DIRECTION_SENT)
		skip = ahead_settle(connection, length);
	emission_begin(e, connection, frame, direction, length, skip);
	e->remaining = length - skip;
	connection->total[direction] += length;
	emit(ctx, e);
	return 0;
}

static __always_inline int data_return(struct pt_regs *ctx, enum direction direction,
				       enum length_form form)
{
	const struct frame *frame = frame_pop(ctx);

	return frame ? data_emit(ctx, frame, direction, bytes_moved(ctx, frame, form)) : 0;
}

static __always_inline int packet_return(struct pt_regs *ctx)
{
	struct frame *frame = frame_pop(ctx);
	__u64 length;

	if (!frame)
		return 0;
	length = bytes_moved(ctx, frame, LENGTH_RETURNED);
	if (length)
		frame->buffer = packet_bytes(image_of(ctx), frame->buffer, length);
	return data_emit(ctx, frame, DIRECTION_RECEIVED, length);
}

/* A session program's entry returns 1 to spare the target the return probe. */
#ifdef TLSCOPE_CORE
extern bool bpf_session_is_return(void) __ksym __weak;
/* Kernel 7 hands it the context; libbpf leaves out what follows the underscores. */
extern bool bpf_session_is_return___of(void *ctx) __ksym __weak;

static __always_inline bool session_returns(void *ctx)
{
	if (bpf_ksym_exists(bpf_session_is_return___of))
		return bpf_session_is_return___of(ctx);
	return bpf_session_is_return();
}

#define DEFINE_SESSION(name, begins, on_entry, on_return)                                          \
	SEC("uprobe.session")                                                                      \
	int name##_session(struct pt_regs *ctx)                                                    \
	{                                                                                          \
		if (session_returns(ctx))                                                          \
			return on_return;                                                          \
		if (!(begins))                                                                     \
			return 1;                                                                  \
		on_entry;                                                                          \
		return 0;                                                                          \
	}
#else
#define DEFINE_SESSION(name, begins, on_entry, on_return)
#endif

#define DEFINE_CALL_IF(name, begins, on_entry, on_return)                                          \
	SEC("uprobe")                                                                              \
	int name##_entry(struct pt_regs *ctx)                                                      \
	{                                                                                          \
		if (begins)                                                                        \
			on_entry;                                                                  \
		return 0;                                                                          \
	}                                                                                          \
	SEC("uretprobe")                                                                           \
	int name##_return(struct pt_regs *ctx)                                                     \
	{                                                                                          \
		return (begins) ? on_return : 0;                                                   \
	}                                                                                          \
	DEFINE_SESSION(name, begins, on_entry, on_return)

#define DEFINE_CALL(name, on_entry, on_return)                                                     \
	DEFINE_CALL_IF(name, followed(ctx), on_entry, on_return)

DEFINE_CALL(write, frame_push(ctx, 0, (__u32)ARG3(ctx)),
	    data_return(ctx, DIRECTION_SENT, LENGTH_RETURNED))
DEFINE_CALL(read, frame_push(ctx, 0, 0), data_return(ctx, DIRECTION_RECEIVED, LENGTH_RETURNED))
DEFINE_CALL(write_ex, frame_push(ctx, ARG4(ctx), ARG3(ctx)),
	    data_return(ctx, DIRECTION_SENT, LENGTH_STORED))
DEFINE_CALL(read_ex, frame_push(ctx, ARG4(ctx), 0),
	    data_return(ctx, DIRECTION_RECEIVED, LENGTH_STORED))
DEFINE_CALL(write_ex2, frame_push(ctx, ARG5(ctx), ARG3(ctx)),
	    data_return(ctx, DIRECTION_SENT, LENGTH_STORED))

DEFINE_CALL(send_record, record_push(ctx), data_return(ctx, DIRECTION_SENT, LENGTH_UNLESS))
DEFINE_CALL(send_sealed, record_push(ctx), data_return(ctx, DIRECTION_SENT, LENGTH_SEALED))
DEFINE_CALL(read_packet, frame_push(ctx, 0, 0), packet_return(ctx))

static __always_inline int handshake_returns(struct pt_regs *ctx)
{
	const struct frame *frame = frame_pop(ctx);

	if (frame)
		connection_of(ctx, frame);
	return 0;
}

DEFINE_CALL(handshake, frame_push(ctx, 0, 0), handshake_returns(ctx))

/* The address may have served a connection before: that one is over. */
static __always_inline void connection_begin(void *ctx, __u64 object)
{
	struct connection *connection;

	connection_end(ctx, object, true);
	connection = connection_get(object);
	if (connection)
		connection->flags |= CONNECTION_BORN;
}

SEC("uretprobe")
int new_return(struct pt_regs *ctx)
{
	if (RETURNED(ctx) && followed(ctx))
		connection_begin(ctx, RETURNED(ctx));
	return 0;
}

static __always_inline int new_at_returns(struct pt_regs *ctx)
{
	const struct frame *frame = frame_pop(ctx);
	__u64 object = 0;

	if (frame && !bpf_probe_read_user(&object, sizeof(object), (void *)frame->object) && object)
		connection_begin(ctx, object);
	return 0;
}

DEFINE_CALL(new_at, frame_push(ctx, 0, 0), new_at_returns(ctx))

/* OpenSSL clears an object when a handshake begins, and it keeps its descriptors. */
static __always_inline void connection_begin_again(void *ctx, __u64 object)
{
	struct connection *connection = connection_find(object);
	struct carrier pipes[2] = {};

	if (connection && connection->carriers[0].address.family == FAMILY_PIPE)
		pipes[0] = connection->carriers[0];
	if (connection && connection->carriers[1].address.family == FAMILY_PIPE)
		pipes[1] = connection->carriers[1];
	connection_begin(ctx, object);
	connection = connection_find(object);
	if (connection && pipes[0].address.family)
		connection->carriers[0] = pipes[0];
	if (connection && pipes[1].address.family)
		connection->carriers[1] = pipes[1];
}

/* Where births are seen, this is one; else it may be the end. */
SEC("uprobe")
int clear_entry(struct pt_regs *ctx)
{
	const struct image *image = image_of(ctx);

	if (!followed(ctx))
		return 0;
	if (image && image->births)
		connection_begin_again(ctx, ARG1(ctx));
	else
		connection_end(ctx, ARG1(ctx), true);
	return 0;
}

/* Objects are counted references: the connection may go on, so it is kept. */
SEC("uprobe")
int free_entry(struct pt_regs *ctx)
{
	if (ARG1(ctx) && followed(ctx))
		connection_end(ctx, ARG1(ctx), false);
	return 0;
}

#ifdef TLSCOPE_CORE
/*
 * The descriptor that the library is to use itself. A socket shows when it is
 * used; a pipe would not, and tells by its mode what it is for.
 */
SEC("uprobe")
int set_fd_entry(struct pt_regs *ctx)
{
	struct carrier pipe = {.address = {.fd = ARG2(ctx), .family = FAMILY_PIPE}};
	struct file *file = file_of_fd(pipe.address.fd);
	struct connection *connection;
	__u32 mode;

	if (!wanted() || !file_is(file, S_IFIFO))
		return 0;
	connection = connection_get(ARG1(ctx));
	mode = BPF_CORE_READ(file, f_mode);
	if (connection && mode & FMODE_READ)
		connection->carriers[DIRECTION_RECEIVED] = pipe;
	if (connection && mode & FMODE_WRITE)
		connection->carriers[DIRECTION_SENT] = pipe;
	return 0;
}
#endif

/* Made of the above. */
#include "expand.h"
#include "nss.h"
#include "go.h"
