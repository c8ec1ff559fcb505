/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * GnuTLS: what is sent goes out record by record through one function, which
 * also carries handshakes and alerts. A record whose send was interrupted was
 * encrypted then, and is sent on by later calls that may have no data at all.
 */
#ifndef TLSCOPE_GNUTLS_H
#define TLSCOPE_GNUTLS_H

#include "secret.h"
#include "socket.h"

/* RFC 8446, section 5.1. */
#define APPLICATION_DATA 23

/* gnutls.h: the call did not send all; the record is kept, and sent later. */
#define GNUTLS_E_AGAIN	     -28
#define GNUTLS_E_INTERRUPTED -52

/*
 * Every record has a frame, for the sake of its socket: `length_at` is not 0
 * if it holds no data of the application, `length` how much was encrypted.
 */
static __always_inline void record_push(struct pt_regs *ctx)
{
	bool other = (__u32)ARG2(ctx) != APPLICATION_DATA;

	frame_push_of(ctx, ARG5(ctx), other, 0);
}

SEC("uprobe")
int seal_record_entry(struct pt_regs *ctx)
{
	struct frame *frame = wanted() ? frame_current() : NULL;

	if (frame && !frame->length_at && frame->object == ARG1(ctx) && frame->buffer == ARG2(ctx))
		frame->length = ARG3(ctx);
	return 0;
}

static __always_inline __u64 sealed_bytes(int returned, const struct frame *frame)
{
	bool kept = returned == GNUTLS_E_AGAIN || returned == GNUTLS_E_INTERRUPTED;

	return returned > 0 || kept ? frame->length : 0;
}

/*
 * A packet's datum is { void *data; unsigned size; }. Its beginning may have
 * been read before: what is handed out is its end.
 */
static __always_inline __u64 packet_bytes(const struct image *image, __u64 packet_at, __u64 length)
{
	__u64 packet = 0, data = 0;
	__u32 size = 0;

	if (!image || bpf_probe_read_user(&packet, sizeof(packet), (void *)packet_at))
		return 0;
	packet += image->packet_size;
	if (bpf_probe_read_user(&size, sizeof(size), (void *)packet) ||
	    bpf_probe_read_user(&data, sizeof(data), (void *)(packet - sizeof(data))))
		return 0;
	return size < length ? 0 : data + size - length;
}

#endif
