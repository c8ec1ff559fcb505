/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The descriptor that a system call of the thread names while the thread is
 * inside a TLS call. The core object goes on from it to the socket (before
 * 6.3); the noncore object keeps it for the probe that meets the socket.
 */
#ifndef TLSCOPE_SYSCALL_H
#define TLSCOPE_SYSCALL_H

#include "socket.h"
#include "syscall_numbers.h"

#ifdef TLSCOPE_CORE
static __always_inline void syscall_on_fd(__u32 fd, enum direction direction)
{
	struct frame *frame = frame_current();
	const struct touch touch = {sock_of_fd(fd), fd, direction, LENGTH_UNKNOWN};

	if (frame && touch.sk)
		connection_touches(frame, &touch);
}
#else
static __always_inline void syscall_on_fd(__u32 fd, enum direction direction)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct thread *thread = bpf_map_lookup_elem(&threads, &id);

	if (thread)
		thread->fd = fd;
}

/* The route to the socket before 6.3, where the kernel has kprobes. */
SEC("kprobe")
int tcp_sendmsg(struct pt_regs *ctx)
{
	socket_used((struct sock *)ARG1(ctx), DIRECTION_SENT, LENGTH_UNKNOWN);
	return 0;
}

SEC("kprobe")
int tcp_recvmsg(struct pt_regs *ctx)
{
	socket_used((struct sock *)ARG1(ctx), DIRECTION_RECEIVED, LENGTH_UNKNOWN);
	return 0;
}
#endif

SEC("raw_tp")
int sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (void *)ctx->args[0];
	__u64 number = ctx->args[1];
	__u64 fd = -1;

	if (number != SYS_IO_URING_ENTER && !syscall_names_fd(number))
		return 0;
	if (!frame_current())
		return 0;
	if (number != SYS_IO_URING_ENTER)
		bpf_probe_read_kernel(&fd, sizeof(fd), &SYSCALL_ARG1(regs));
	syscall_on_fd(fd, syscall_direction(number));
	return 0;
}

#endif
