/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Where the bytes are that a socket gives or takes, and by which descriptor:
 * the system call under way says it, or the io_uring request that it works on.
 * Both are told apart by the socket: a ring's requests are run in the middle of
 * any call.
 */
#ifndef TLSCOPE_URING_H
#define TLSCOPE_URING_H

#include "maps.h"
#include "socket_core.h"
#include "syscall_numbers.h"

/* include/uapi/linux/io_uring.h */
enum {
	OP_READV = 1,
	OP_WRITEV = 2,
	OP_SENDMSG = 9,
	OP_RECVMSG = 10,
	OP_READ = 22,
	OP_WRITE = 23,
	OP_SEND = 26,
	OP_RECV = 27,
	OP_SEND_ZC = 47,
	OP_SENDMSG_ZC = 48,
};

struct uring_key {
	__u64 sock;
	__u32 direction;
	__u32 reserved;
};

struct uring_use {
	__u64 request;
	__s32 fd;
	__u32 reserved;
};

/* The latest request of each socket and direction. LRU: sockets end unseen. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct uring_key);
	__type(value, struct uring_use);
} uring_uses SEC(".maps");

/* -1: it moves no bytes. */
static __always_inline int uring_direction(__u8 opcode)
{
	switch (opcode) {
	case OP_WRITEV:
	case OP_WRITE:
	case OP_SEND:
	case OP_SENDMSG:
	case OP_SEND_ZC:
	case OP_SENDMSG_ZC: return DIRECTION_SENT;
	case OP_READV:
	case OP_READ:
	case OP_RECV:
	case OP_RECVMSG: return DIRECTION_RECEIVED;
	default: return -1;
	}
}

/* A request meets its file, once. The kernel has it with a request from 5.19 on. */
SEC("raw_tp")
int io_uring_file_get(struct bpf_raw_tracepoint_args *ctx)
{
	struct io_kiocb *request = (void *)ctx->args[0];
	struct uring_use use = {.request = (__u64)request, .fd = ctx->args[1]};
	struct uring_key key = {};
	int direction;

	if (!bpf_core_type_exists(struct io_sr_msg) || !wanted())
		return 0;
	direction = uring_direction(BPF_CORE_READ(request, opcode));
	if (direction < 0)
		return 0;
	key.direction = direction;
	key.sock = (__u64)sock_of_fd(use.fd);
	if (key.sock)
		bpf_map_update_elem(&uring_uses, &key, &use, BPF_ANY);
	return 0;
}

/* Its request may have ended, and its place serve another: the file tells. */
static __always_inline struct uring_use *uring_find(struct sock *sk, enum direction direction)
{
	struct uring_key key = {.sock = (__u64)sk, .direction = direction};
	struct uring_use *use = bpf_map_lookup_elem(&uring_uses, &key);
	struct io_kiocb *request;

	if (!use || !bpf_core_type_exists(struct io_sr_msg))
		return NULL;
	request = (struct io_kiocb *)use->request;
	if (uring_direction(BPF_CORE_READ(request, opcode)) != direction ||
	    sock_of_file(BPF_CORE_READ(request, file)) != sk)
		return NULL;
	return use;
}

static __always_inline __u64 uring_buffer(const struct uring_use *use)
{
	struct io_kiocb *request = (struct io_kiocb *)use->request;

	switch (BPF_CORE_READ(request, opcode)) {
	case OP_SEND:
	case OP_RECV:
	case OP_SEND_ZC: return (__u64)BPF_CORE_READ((struct io_sr_msg *)request, buf);
	case OP_SENDMSG:
	case OP_RECVMSG:
	case OP_SENDMSG_ZC:
		return buffer_of_message((__u64)BPF_CORE_READ((struct io_sr_msg *)request, umsg));
	case OP_READ:
	case OP_WRITE: return BPF_CORE_READ((struct io_rw *)request, addr);
	case OP_READV:
	case OP_WRITEV: return buffer_of_vector(BPF_CORE_READ((struct io_rw *)request, addr));
	default: return 0;
	}
}

/* The descriptor that the system call under way names, when it is this socket. */
static __always_inline int syscall_fd_of(struct sock *sk)
{
	int fd = syscall_fd(syscall_registers());

	return sock_of_fd(fd) == sk ? fd : -1;
}

/* Cheaper than to look what it is. */
static __always_inline bool syscall_may_name(int fd)
{
	return syscall_fd(syscall_registers()) == fd;
}

/* The socket tells more. */
static __always_inline int fd_of_thread(const struct thread *thread)
{
	return -1;
}

static __always_inline int sock_fd(struct sock *sk, enum direction direction)
{
	const struct uring_use *use;
	int fd = syscall_fd_of(sk);

	if (fd >= 0)
		return fd;
	use = uring_find(sk, direction);
	return use ? use->fd : -1;
}

/* What the socket gives or takes, in the target; 0: not known. */
static __always_inline __u64 buffer_used(struct sock *sk, enum direction direction)
{
	const struct uring_use *use;

	if (syscall_fd_of(sk) >= 0)
		return syscall_buffer(syscall_registers());
	use = uring_find(sk, direction);
	return use ? uring_buffer(use) : 0;
}

#endif
