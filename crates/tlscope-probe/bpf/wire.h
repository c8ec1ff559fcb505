/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What TLS looks like on the wire, as far as it is in the clear.
 */
#ifndef TLSCOPE_WIRE_H
#define TLSCOPE_WIRE_H

#include "base.h"

/* RFC 8446, sections 4.1.2 and 5.1: a record, a message, its version, the random. */
struct client_hello {
	__u8 content_type;
	__u8 record_version[2];
	__u8 record_length[2];
	__u8 message_type;
	__u8 message_length[3];
	__u8 version[2];
	__u8 random[RANDOM_LEN];
} __attribute__((packed));

#define CONTENT_FIRST	     20 /* change_cipher_spec */
#define CONTENT_HANDSHAKE    22
#define CONTENT_LAST	     26 /* ACK of DTLS 1.3: RFC 9147, section 4 */
#define MESSAGE_CLIENT_HELLO 1
#define VERSION_MAJOR	     3
#define VERSION_MAJOR_DTLS   254

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
