/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * CRC-32 for the lab's kernel, sixteen bytes a step.
 *
 * build-kernel.sh puts this file where the kernel looks for an architecture's own checksum routines. rxe sums every
 * byte it sends and every byte it receives with crc32_le(), so it bounds what the lab's wire can carry. Big-endian
 * and Castagnoli sums stay with the generic routines: nothing in the lab is bound by them.
 */

#include <linux/unaligned.h>

/* lane[n][b]: what byte b contributes to the sum after n more bytes have passed. */
static u32 lane[16][256] __ro_after_init;

static void __init lab_crc32_fill(void)
{
	unsigned int byte, n;

	for (byte = 0; byte < 256; byte++) {
		u32 sum = crc32table_le[byte];

		lane[0][byte] = sum;
		for (n = 1; n < 16; n++) {
			sum = crc32table_le[sum & 0xff] ^ (sum >> 8);
			lane[n][byte] = sum;
		}
	}
}
#define crc32_mod_init_arch lab_crc32_fill

/* The four bytes of word, the last of which has `after` bytes behind it in the step. */
static inline u32 lab_crc32_word(u32 word, unsigned int after)
{
	return lane[after + 3][word & 0xff] ^ lane[after + 2][(word >> 8) & 0xff] ^
	       lane[after + 1][(word >> 16) & 0xff] ^ lane[after][word >> 24];
}

static inline u32 crc32_le_arch(u32 crc, const u8 *p, size_t len)
{
	/* Before the table is filled its last entry is zero, which no filled table has there. */
	if (unlikely(!lane[15][255]))
		return crc32_le_base(crc, p, len);

	while (len >= 16) {
		crc = lab_crc32_word(crc ^ get_unaligned_le32(p), 12) ^
		      lab_crc32_word(get_unaligned_le32(p + 4), 8) ^
		      lab_crc32_word(get_unaligned_le32(p + 8), 4) ^
		      lab_crc32_word(get_unaligned_le32(p + 12), 0);
		p += 16;
		len -= 16;
	}
	return crc32_le_base(crc, p, len);
}

static inline u32 crc32_be_arch(u32 crc, const u8 *p, size_t len)
{
	return crc32_be_base(crc, p, len);
}

static inline u32 crc32c_arch(u32 crc, const u8 *p, size_t len)
{
	return crc32c_base(crc, p, len);
}

static inline u32 crc32_optimizations_arch(void)
{
	return CRC32_LE_OPTIMIZATION;
}
