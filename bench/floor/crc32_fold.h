/*
 * CRC-32 (IEEE) by carry-less multiplication, after V. Gopal et al., "Fast
 * CRC Computation for Generic Polynomials Using PCLMULQDQ" (Intel, 2009);
 * zlib's where the processor has no such instruction, and for what is left
 * of a multiple of 16 bytes.
 */
#ifndef WALRUS_BENCH_CRC32_FOLD_H
#define WALRUS_BENCH_CRC32_FOLD_H

#include <stddef.h>
#include <stdint.h>
#include <zlib.h>

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("pclmul,sse4.1"))) static uint32_t
crc32_fold(uint32_t crc, const uint8_t *data, size_t bytes) {
  const __m128i by_512 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
  const __m128i by_128 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
  const __m128i by_64 = _mm_set_epi64x(0, 0x0163cd6124);
  const __m128i barrett = _mm_set_epi64x(0x01f7011641, 0x01db710641);
  const __m128i low = _mm_setr_epi32(~0, 0, ~0, 0);
  __m128i lane[4], high;
#define LOAD(at) _mm_loadu_si128((const __m128i *)(data + (at)))
#define FOLD(x, k, more)                                                      \
  (high = _mm_clmulepi64_si128(x, k, 0x11),                                   \
   _mm_xor_si128(_mm_xor_si128(high, _mm_clmulepi64_si128(x, k, 0x00)), more))
  for (int i = 0; i < 4; i++) lane[i] = LOAD(16 * i);
  lane[0] = _mm_xor_si128(lane[0], _mm_cvtsi32_si128((int)crc));
  for (data += 64, bytes -= 64; bytes >= 64; data += 64, bytes -= 64)
    for (int i = 0; i < 4; i++) lane[i] = FOLD(lane[i], by_512, LOAD(16 * i));
  __m128i x = lane[0];
  for (int i = 1; i < 4; i++) x = FOLD(x, by_128, lane[i]);
  for (; bytes >= 16; data += 16, bytes -= 16) x = FOLD(x, by_128, LOAD(0));
  x = _mm_xor_si128(_mm_srli_si128(x, 8), _mm_clmulepi64_si128(x, by_128, 0x10));
  x = _mm_xor_si128(_mm_srli_si128(x, 4),
                    _mm_clmulepi64_si128(_mm_and_si128(x, low), by_64, 0x00));
  __m128i q = _mm_and_si128(x, low);
  q = _mm_and_si128(_mm_clmulepi64_si128(q, barrett, 0x10), low);
  q = _mm_clmulepi64_si128(q, barrett, 0x00);
  return (uint32_t)_mm_extract_epi32(_mm_xor_si128(x, q), 1);
#undef LOAD
#undef FOLD
}

static int folds;
static void crc32_begin(void) {
  folds = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}
#else
static const int folds = 0;
static void crc32_begin(void) {}
static uint32_t crc32_fold(uint32_t crc, const uint8_t *data, size_t bytes) {
  (void)data, (void)bytes;
  return crc;
}
#endif

static inline uint32_t crc32_of(const uint8_t *data, size_t bytes) {
  uint32_t crc = 0;
  if (folds && bytes >= 64) {
    size_t whole = bytes & ~(size_t)15;
    crc = ~crc32_fold(~crc, data, whole);
    data += whole, bytes -= whole;
  }
  return bytes == 0 ? crc : (uint32_t)crc32(crc, data, (uInt)bytes);
}

/* Whether it says what zlib says, for many lengths. */
static inline int crc32_agrees(void) {
  uint8_t data[700];
  for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 37 + 11);
  for (size_t bytes = 0; bytes <= sizeof data; bytes++)
    if (crc32_of(data, bytes) != crc32(0, data, (uInt)bytes)) return 0;
  return 1;
}

#endif
