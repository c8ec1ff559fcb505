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
static __always_inline void syscall_on_fd(__u32 fd)
{
	struct frame *frame = frame_current();
	struct socket *socket = socket_of_fd(fd);

	if (frame && socket)
		connection_touches(frame, BPF_CORE_READ(socket, sk), fd);
}
#else
static __always_inline void syscall_on_fd(__u32 fd)
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
	socket_used((struct sock *)ARG1(ctx));
	return 0;
}

SEC("kprobe")
int tcp_recvmsg(struct pt_regs *ctx)
{
	socket_used((struct sock *)ARG1(ctx));
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
	syscall_on_fd(fd);
	return 0;
}

#endif
