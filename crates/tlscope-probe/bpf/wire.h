/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What TLS looks like on the wire, as far as it is in the clear.
 */
#ifndef TLSCOPE_WIRE_H
#define TLSCOPE_WIRE_H

#include "base.h"

/* RFC 8446, section 5.1. */
struct record_head {
	__u8 content_type;
	__u8 version[2];
	__u8 length[2];
} __attribute__((packed));

/* RFC 8446, sections 4.1.2 and 4.1.3: both hellos begin alike. */
struct hello {
	__u8 message_type;
	__u8 length[3];
	__u8 version[2];
	__u8 random[RANDOM_LEN];
} __attribute__((packed));

#define CONTENT_FIRST	     20 /* change_cipher_spec */
#define CONTENT_HANDSHAKE    22
#define CONTENT_LAST	     26 /* ACK of DTLS 1.3: RFC 9147, section 4 */
#define MESSAGE_CLIENT_HELLO 1
#define MESSAGE_SERVER_HELLO 2
#define VERSION_MAJOR	     3
#define VERSION_MAJOR_DTLS   254

/* The random of every HelloRetryRequest begins so: RFC 8446, section 4.1.3. */
#define RETRY_RANDOM_HEAD 0x11619ae574ad21cfULL

static __always_inline bool record_begins(__u64 at, bool of_handshake)
{
	__u8 head[2]; /* content type, major version */

	if (bpf_probe_read_user(head, sizeof(head), (void *)at))
		return false;
	if (of_handshake && head[0] != CONTENT_HANDSHAKE)
		return false;
	return head[0] >= CONTENT_FIRST && head[0] <= CONTENT_LAST &&
	       (head[1] == VERSION_MAJOR || head[1] == VERSION_MAJOR_DTLS);
}

#endif
