/* Panels of lanes, and the vectors that they are made of.

   A panel holds LANES rows (the last of several may be narrower) as [feature][lane]. */

#ifndef LANES_H
#define LANES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif

#define INLINE static inline __attribute__((always_inline))

/* Vectors as wide as the processor's registers; a panel is two wide. */
#if defined(__AVX512F__)
#define WIDTH 16
#define OUTPUTS 12
#elif defined(__AVX__)
#define WIDTH 8
#define OUTPUTS 6
#else
#define WIDTH 4
#define OUTPUTS 12
#endif
#define LANES (2 * WIDTH)

typedef float vec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

#define EXP(name, V, I)                                                                                                \
    INLINE V name(V x) {                                                                                               \
        /* 2^n e^r, |r| <= ln 2 / 2; e^r by its Taylor series to the seventh power. x is held between -87 and 88. */   \
        const I low = x < -87.0f, high = x > 88.0f;                                                                    \
        x = (V)((low & (I)((V){0} - 87.0f)) | (high & (I)((V){0} + 88.0f)) | (~(low | high) & (I)x));                    \
        const V magic = (V){0} + 12582912.0f; /* adding it rounds to an integer */                                      \
        const V n = (x * 1.44269504f + magic) - magic;                                                                 \
        const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;                                                       \
        V p = r * (1.0f / 5040) + 1.0f / 720;                                                                          \
        p = p * r + 1.0f / 120;                                                                                        \
        p = p * r + 1.0f / 24;                                                                                         \
        p = p * r + 1.0f / 6;                                                                                          \
        p = p * r + 0.5f;                                                                                              \
        p = p * r * r + r + 1.0f;                                                                                      \
        return p * (V)((__builtin_convertvector(n, I) + 127) << 23);                                                   \
    }
EXP(exp_vec, vec, ivec)

/* Lanes of panel p where n rows are in use: narrow if one vector holds what is left. */
INLINE int64_t lanes_of(int64_t p, int64_t n) { return n - p * LANES <= WIDTH ? WIDTH : LANES; }

#endif
