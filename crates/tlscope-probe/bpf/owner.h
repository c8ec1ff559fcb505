/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Which process a packet belongs to: told once for each socket and process, at
 * the first use of the socket in the context of its user. Pcap mode only.
 */
#ifndef TLSCOPE_OWNER_H
#define TLSCOPE_OWNER_H

#include "socket.h"
#include "syscall.h"

/* Of enum sock states in the kernel's user-visible headers. */
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT	2

struct owned_key {
	__u64 sock;
	__u32 port_pair;
	__u32 pid;
};

/* What was told already. LRU: sockets end unseen. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct owned_key);
	__type(value, __u32);
} owned SEC(".maps");

/* Sockets whose connect has begun: they have no source port yet. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct owner_record);
} connecting SEC(".maps");

static __always_inline void owner_fill(struct owner_record *record)
{
	header_fill(&record->header, RECORD_OWNER, sizeof(*record));
	record->socket.fd = -1;
}

/* False for what is neither IPv4 nor IPv6. */
static __always_inline bool owner_socket(struct owner_record *record, struct sock *sk)
{
	sock_address(&record->socket, sk);
	record->protocol = sock_protocol(sk);
	return is_inet(&record->socket);
}

static __always_inline int owner_seen(void *ctx, struct sock *sk)
{
	struct owned_key key = {.sock = (__u64)sk, .port_pair = sock_ports(sk)};
	struct owner_record record = {};
	__u32 told = 1;

	if (!key.port_pair || !wanted())
		return 0;
	key.pid = bpf_get_current_pid_tgid() >> 32;
	if (bpf_map_lookup_elem(&owned, &key) || !owner_socket(&record, sk))
		return 0;
	owner_fill(&record);
	if (emit_record(ctx, key.sock, &record, sizeof(record)))
		bpf_map_update_elem(&owned, &key, &told, BPF_ANY);
	return 0;
}

SEC("raw_tp")
int owner_send(struct bpf_raw_tracepoint_args *ctx)
{
	return owner_seen(ctx, (struct sock *)ctx->args[0]);
}

SEC("raw_tp")
int owner_recv(struct bpf_raw_tracepoint_args *ctx)
{
	return owner_seen(ctx, (struct sock *)ctx->args[0]);
}

/*
 * inet_sock_set_state (4.16): connect(2) enters SYN_SENT in the context of its
 * caller; ESTABLISHED comes in any context, but ahead of the first data.
 */
SEC("raw_tp")
int owner_state(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	struct owner_record fresh = {};
	struct owner_record *record;
	__u64 key = (__u64)sk;
	int state = ctx->args[2];

	if (state == TCP_SYN_SENT && wanted()) {
		owner_fill(&fresh);
		bpf_map_update_elem(&connecting, &key, &fresh, BPF_ANY);
		return 0;
	}
	if (state != TCP_ESTABLISHED)
		return 0;
	record = bpf_map_lookup_elem(&connecting, &key);
	if (!record)
		return 0;
	fresh = *record;
	bpf_map_delete_elem(&connecting, &key);
	if (owner_socket(&fresh, sk))
		emit_record(ctx, key, &fresh, sizeof(fresh));
	return 0;
}

#ifdef TLSCOPE_CORE
SEC("raw_tp")
int owner_syscall(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (void *)ctx->args[0];
	struct sock *sk;

	if (!syscall_names_fd(ctx->args[1]) || !wanted())
		return 0;
	sk = sock_of_fd(syscall_fd(regs));
	return sk ? owner_seen(ctx, sk) : 0;
}
#else
#define DEFINE_OWNER_KPROBE(function)                                                              \
	SEC("kprobe")                                                                              \
	int owner_##function(struct pt_regs *ctx)                                                  \
	{                                                                                          \
		return owner_seen(ctx, (struct sock *)ARG1(ctx));                                  \
	}

DEFINE_OWNER_KPROBE(tcp_sendmsg)
DEFINE_OWNER_KPROBE(tcp_recvmsg)
DEFINE_OWNER_KPROBE(udp_sendmsg)
DEFINE_OWNER_KPROBE(udp_recvmsg)
#endif

#endif
