/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The socket under a Go connection: the descriptor of its *net.TCPConn, where
 * the types say that it has one; else the socket that the goroutine touches
 * inside the call. What goes through neither has no address.
 */
#ifndef TLSCOPE_GO_SOCKET_H
#define TLSCOPE_GO_SOCKET_H

#include "goroutine.h"
#include "socket.h"
#include "syscall.h"

/* TLS over TLS, followed so far. */
#define CARRIERS_MAX 3

/* Words of an interface, and where an itab has the type of the value. */
#define INTERFACE_ITAB 0
#define INTERFACE_DATA 8
#define ITAB_TYPE      8

#ifdef TLSCOPE_CORE
static __always_inline bool word_read(__u64 *word, __u64 at)
{
	return !bpf_probe_read_user(word, sizeof(*word), (void *)at);
}

/* The *net.TCPConn under a connection, or 0. */
static __always_inline __u64 go_carrier(const struct go_layout *layout, __u64 bias, __u64 object)
{
	__u64 at, itab, type, data = object;
	int i;

#pragma unroll
	for (i = 0; i < CARRIERS_MAX; i++) {
		at = field_address(data, &layout->connection);
		if (!at || !word_read(&itab, at + INTERFACE_ITAB) ||
		    !word_read(&data, at + INTERFACE_DATA) || !word_read(&type, itab + ITAB_TYPE))
			return 0;
		if (type == layout->tcp_type + bias)
			return data;
		if (type != layout->tls_type + bias)
			return 0;
	}
	return 0;
}

static __always_inline struct sock *go_socket(const struct go_layout *layout, __u64 carrier,
					      int *fd)
{
	__u64 at = field_address(carrier, &layout->tcp_fd);

	if (!at || bpf_probe_read_user(fd, sizeof(*fd), (void *)at))
		return NULL;
	return sock_of_fd(*fd);
}

/* Once for a connection: what carries it stays the same. */
static __always_inline void go_socket_find(const struct go_layout *layout, __u64 bias, __u64 object)
{
	struct connection *connection = connection_get(object);
	struct carrier found = {};
	struct sock *sk;
	__u64 carrier;
	int fd = -1;

	if (!connection || (connection->flags & (CONNECTION_DIRECT | CONNECTION_WRAPPED)))
		return;
	carrier = go_carrier(layout, bias, object);
	if (!carrier) {
		connection->flags |= CONNECTION_WRAPPED;
		return;
	}
	sk = go_socket(layout, carrier, &fd);
	if (!sk)
		return;
	found.address.fd = fd;
	sock_address(&found.address, sk);
	found.sock = (__u64)sk;
	found.port_pair = sock_ports(sk);
	connection_carry(connection, &found);
	connection->flags |= CONNECTION_DIRECT;
}

static __always_inline bool go_socket_is(const struct go_layout *layout, __u64 bias, __u64 object,
					 const struct connection *connection)
{
	__u64 carrier = go_carrier(layout, bias, object);
	struct sock *sk;
	int fd;

	if (!carrier)
		return false;
	sk = go_socket(layout, carrier, &fd);
	return sk && carrier_is(&connection->carriers[DIRECTION_SENT], (__u64)sk, sock_ports(sk));
}
#else
static __always_inline void go_socket_find(const struct go_layout *layout, __u64 bias, __u64 object)
{
	connection_get(object);
}

static __always_inline bool go_socket_is(const struct go_layout *layout, __u64 bias, __u64 object,
					 const struct connection *connection)
{
	return false;
}
#endif

/* The goroutine that a thread runs, of the registers it entered the kernel with. */
static __always_inline struct goroutine *go_running(struct go_stack *stack, __u64 in_register,
						    __u64 sp)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	const struct go_process *process = bpf_map_lookup_elem(&go_processes, &pid);

	if (!process || !go_stack_of(stack, in_register, sp, process))
		return NULL;
	return bpf_map_lookup_elem(&goroutines, &stack->key);
}

/* A goroutine touches a socket: it is under every call of it that found none by itself. */
static __always_inline void go_touches(struct goroutine *goroutine, const struct go_stack *stack,
				       const struct touch *touch)
{
	const struct connection *connection;
	int i;

#pragma unroll
	for (i = 0; i < FRAMES_MAX; i++) {
		struct go_frame *frame = &goroutine->frames[i];

		if (i >= goroutine->depth || !go_frame_is_live(frame, stack))
			continue;
		connection = connection_find(frame->call.object);
		if (connection && !(connection->flags & CONNECTION_DIRECT))
			frame_touches(&frame->call, touch);
	}
}

static __always_inline void go_emit_ahead(void *ctx, struct goroutine *goroutine,
					  const struct go_stack *stack, long sent)
{
	/* The mask is for the verifier: depth never exceeds FRAMES_MAX. */
	struct go_frame *frame = &goroutine->frames[(goroutine->depth - 1) & (FRAMES_MAX - 1)];

	if (go_frame_is_live(frame, stack))
		emit_ahead(ctx, &frame->call, sent);
}

#ifdef TLSCOPE_CORE
/* Registers at the entry of the system call under way. */
static __always_inline struct goroutine *go_calling(struct go_stack *stack,
						    const struct pt_regs *regs)
{
	__u64 in_register = 0, sp = 0;

	bpf_probe_read_kernel(&in_register, sizeof(in_register), &regs->GO_G);
	bpf_probe_read_kernel(&sp, sizeof(sp), &regs->sp);
	return go_running(stack, in_register, sp);
}

/* bpf_task_pt_regs: 5.15. The tracepoints that lead here: 6.3. */
static __always_inline int go_socket_used(void *ctx, struct sock *sk, enum direction direction,
					  enum passing passing, long sent)
{
	struct touch touch = touch_of(sk, direction, passing);
	struct pt_regs *regs = syscall_registers();
	struct goroutine *goroutine;
	struct go_stack stack;

	if (!regs)
		return 0;
	goroutine = go_calling(&stack, regs);
	if (!goroutine || !goroutine->depth)
		return 0;
	go_touches(goroutine, &stack, &touch);
	go_emit_ahead(ctx, goroutine, &stack, sent);
	return 0;
}

SEC("raw_tp")
int go_sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (void *)ctx->args[0];
	struct goroutine *goroutine;
	struct go_stack stack;
	struct touch touch;
	int fd;

	if (!syscall_names_fd(ctx->args[1]))
		return 0;
	goroutine = go_calling(&stack, regs);
	if (!goroutine)
		return 0;
	fd = syscall_fd(regs);
	touch = touch_of(sock_of_fd(fd), syscall_direction(ctx->args[1]), PASSING_UNSEEN);
	touch.fd = fd;
	if (touch.sk)
		go_touches(goroutine, &stack, &touch);
	return 0;
}

SEC("raw_tp")
int go_sys_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct goroutine *goroutine;
	enum direction direction;
	struct go_stack stack;

	if (!call_moved(ctx, &direction) || direction != DIRECTION_SENT)
		return 0;
	goroutine = go_calling(&stack, (void *)ctx->args[0]);
	if (goroutine && goroutine->depth)
		go_emit_ahead(ctx, goroutine, &stack, ctx->args[1]);
	return 0;
}
#else
/* Without bpf_task_pt_regs: what a thread entered its system call with. */
struct go_call {
	__u64 in_register;
	__u64 sp;
	__s64 fd;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct go_call);
} go_calls SEC(".maps");

SEC("raw_tp")
int go_sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (void *)ctx->args[0];
	__u64 thread = bpf_get_current_pid_tgid();
	__u32 pid = thread >> 32;
	struct go_call call = {};

	if (!bpf_map_lookup_elem(&go_processes, &pid))
		return 0;
	if (!syscall_names_fd(ctx->args[1])) {
		bpf_map_delete_elem(&go_calls, &thread);
		return 0;
	}
	bpf_probe_read_kernel(&call.in_register, sizeof(call.in_register), &regs->GO_G);
	bpf_probe_read_kernel(&call.sp, sizeof(call.sp), &regs->sp);
	call.fd = syscall_fd(regs);
	bpf_map_update_elem(&go_calls, &thread, &call, BPF_ANY);
	return 0;
}

static __always_inline int go_socket_used(void *ctx, struct sock *sk, enum direction direction,
					  enum passing passing, long sent)
{
	struct touch touch = touch_of(sk, direction, passing);
	__u64 thread = bpf_get_current_pid_tgid();
	const struct go_call *call = bpf_map_lookup_elem(&go_calls, &thread);
	struct goroutine *goroutine;
	struct go_stack stack;

	if (!call)
		return 0;
	goroutine = go_running(&stack, call->in_register, call->sp);
	if (!goroutine || !goroutine->depth)
		return 0;
	touch.fd = call->fd;
	go_touches(goroutine, &stack, &touch);
	go_emit_ahead(ctx, goroutine, &stack, sent);
	return 0;
}

SEC("kprobe")
int go_tcp_sendmsg(struct pt_regs *ctx)
{
	return go_socket_used(ctx, (struct sock *)ARG1(ctx), DIRECTION_SENT, PASSING_UNSEEN, 0);
}

SEC("kprobe")
int go_tcp_recvmsg(struct pt_regs *ctx)
{
	return go_socket_used(ctx, (struct sock *)ARG1(ctx), DIRECTION_RECEIVED, PASSING_UNSEEN, 0);
}
#endif

SEC("raw_tp")
int go_send_length(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	int length = (int)ctx->args[1];

	return go_socket_used(ctx, sk, DIRECTION_SENT, passing_of(length), length);
}

SEC("raw_tp")
int go_recv_length(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	int length = (int)ctx->args[1];

	return go_socket_used(ctx, sk, DIRECTION_RECEIVED, passing_of(length), 0);
}

#endif
