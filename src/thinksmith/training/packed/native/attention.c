/* Attention over a packed row, forward and backward, in float32 on a CPU.

   A row holds segments: prompts, and completions that see their prompt and themselves. A block of queries (the heads
   that share a key head, token by token) meets its keys BLOCK at a time, so scores stay in the nearest cache. Softmax is
   put together as the blocks come (Milakov and Gimelshein 2018, arXiv:1805.02867); backward, the weights are computed
   again from the logarithm of their sum (Dao et al. 2022, arXiv:2205.14135, algorithm 4).

   Every sum has one fixed order, whatever the number of threads: gradients of a prompt's keys are summed by parts of its
   completions, and the parts in their order. */

#include "lanes.h"

#define ROWS 32  /* queries of a block, or the heads of one token where these are more */
#define HEADS 64 /* that share a key head, at most */
#define BLOCK 48 /* keys of a block: three vectors of 16 lanes */
#define DIM 256  /* of a head, at most */
#if defined(__AVX512F__)
#define TALL 8 /* rows of a product's tile; it is three vectors wide */
#else
#define TALL 4
#endif

/* One head's numbers of a token lie side by side; `token` and `head` are how far the next ones are. */
typedef struct {
    const float *at;
    int64_t token, head;
} Strided;

typedef struct {
    int32_t start, end, seen_start, seen_end; /* of itself, and of the prompt that it sees too (or nothing) */
} Segment;

/* Segments first..last, which see one prompt: its gradients from them are in a buffer at `buffer` (in tokens), or are
   none (-1). */
typedef struct {
    int32_t first, last, buffer;
} Part;

typedef struct {
    int64_t tokens, heads, kv_heads, dim, segments, parts, buffers, threads; /* `buffers`: tokens of all of them */
    const Segment *segment;
    const Part *part;
    float scale;
} Row;

typedef struct {
    int64_t group, padded, width; /* heads a key head; a head's numbers in whole vectors; a line of transposed keys */
} Sizes;

static Sizes sizes_of(const Row *r) {
    const int64_t padded = (r->dim + WIDTH - 1) / WIDTH * WIDTH;
    /* An odd number of vectors: lines that lie a power of two apart would share one place of the cache. */
    return (Sizes){r->heads / r->kv_heads, padded, (((r->tokens + BLOCK) / WIDTH + 2) | 1) * WIDTH};
}

/* ---- products ---- */

/* c[i][j] (+)= sum_x a[i am + x ak] b[x bk + j], `tall` by `wide` vectors. */
INLINE void tile(const int tall, const int wide, const float *a, int64_t am, int64_t ak, const float *b, int64_t bk,
                 float *c, int64_t cm, int64_t k, const int add) {
    vec sum[TALL][3];
    for (int i = 0; i < tall; i++)
        for (int j = 0; j < wide; j++) sum[i][j] = add ? *(const vec *)(c + i * cm + j * WIDTH) : (vec){0};
    for (int64_t x = 0; x < k; x++, a += ak, b += bk) {
        vec line[3];
        for (int j = 0; j < wide; j++) line[j] = *(const vec *)(b + j * WIDTH);
        for (int i = 0; i < tall; i++)
            for (int j = 0; j < wide; j++) sum[i][j] += a[i * am] * line[j];
    }
    for (int i = 0; i < tall; i++)
        for (int j = 0; j < wide; j++) *(vec *)(c + i * cm + j * WIDTH) = sum[i][j];
}

INLINE void column(const int wide, int64_t m, const float *a, int64_t am, int64_t ak, const float *b, int64_t bk,
                   float *c, int64_t cm, int64_t k, const int add) {
    for (; m >= TALL; m -= TALL, a += TALL * am, c += TALL * cm) tile(TALL, wide, a, am, ak, b, bk, c, cm, k, add);
#if TALL == 8
    if (m >= 4) tile(4, wide, a, am, ak, b, bk, c, cm, k, add), m -= 4, a += 4 * am, c += 4 * cm;
#endif
    if (m >= 2) tile(2, wide, a, am, ak, b, bk, c, cm, k, add), m -= 2, a += 2 * am, c += 2 * cm;
    if (m) tile(1, wide, a, am, ak, b, bk, c, cm, k, add);
}

/* m rows by n vectors. */
INLINE void product(int64_t m, int64_t n, int64_t k, const float *a, int64_t am, int64_t ak, const float *b, int64_t bk,
                    float *c, int64_t cm, const int add) {
    while (n) {
        const int64_t wide = n == 4 ? 2 : n < 3 ? n : 3;
        if (wide == 3) column(3, m, a, am, ak, b, bk, c, cm, k, add);
        else if (wide == 2) column(2, m, a, am, ak, b, bk, c, cm, k, add);
        else column(1, m, a, am, ak, b, bk, c, cm, k, add);
        n -= wide, b += wide * WIDTH, c += wide * WIDTH;
    }
}

/* Left factor as it stands: [m][k]. */
static void times(int64_t m, int64_t n, int64_t k, const float *a, int64_t am, const float *b, int64_t bk, float *c,
                  int64_t cm, int add) {
    if (add) product(m, n, k, a, am, 1, b, bk, c, cm, 1);
    else product(m, n, k, a, am, 1, b, bk, c, cm, 0);
}

/* Left factor turned: [k][m]. Adds. */
static void turned_times(int64_t m, int64_t n, int64_t k, const float *a, int64_t ak, const float *b, int64_t bk,
                         float *c, int64_t cm) {
    product(m, n, k, a, 1, ak, b, bk, c, cm, 1);
}

/* ---- packing ---- */

/* to[kv head][token][head of the group][padded] */
static void pack(const Row *r, Sizes s, Strided x, int64_t group, float factor, float *to) {
#pragma omp for schedule(static)
    for (int64_t n = 0; n < r->tokens; n++)
        for (int64_t h = 0; h < r->kv_heads * group; h++) {
            const float *from = x.at + n * x.token + h * x.head;
            float *line = to + ((h / group * r->tokens + n) * group + h % group) * s.padded;
            for (int64_t d = 0; d < r->dim; d++) line[d] = from[d] * factor;
            for (int64_t d = r->dim; d < s.padded; d++) line[d] = 0;
        }
}

/* to[kv head][dim][width] */
static void turn(const Row *r, Sizes s, Strided x, float *to) {
    const int64_t pieces = (s.width + WIDTH - 1) / WIDTH;
#pragma omp for collapse(2) schedule(static)
    for (int64_t h = 0; h < r->kv_heads; h++)
        for (int64_t piece = 0; piece < pieces; piece++) {
            const int64_t first = piece * WIDTH, last = first + WIDTH < r->tokens ? first + WIDTH : r->tokens;
            float *line = to + h * r->dim * s.width;
            for (int64_t d = 0; d < r->dim; d++, line += s.width) {
                int64_t n = first;
                for (; n < last; n++) line[n] = x.at[n * x.token + h * x.head + d];
                for (; n < first + WIDTH && n < s.width; n++) line[n] = 0;
            }
        }
}

/* ---- a block of scores ---- */

/* Keys k0..k1 before which a row may look: all of a prompt's, of its own segment those until its token. */
INLINE int64_t sight(int64_t token, int64_t k0, int64_t k1, int own) {
    const int64_t last = own && token + 1 < k1 ? token + 1 : k1;
    return last > k0 ? last - k0 : 0;
}

INLINE ivec lanes_below(int64_t count) {
    ivec lane;
    for (int j = 0; j < WIDTH; j++) lane[j] = j;
    return lane < (int32_t)count;
}

INLINE vec only(ivec mask, vec x) { return (vec)(mask & (ivec)x); }

INLINE float highest(const float *x, int64_t count) {
    vec top = (vec){0} - INFINITY;
    int64_t j = 0;
    for (; j + WIDTH <= count; j += WIDTH) {
        const vec next = *(const vec *)(x + j);
        const ivec more = next > top;
        top = (vec)((more & (ivec)next) | (~more & (ivec)top));
    }
    float found = -INFINITY;
    for (int i = 0; i < WIDTH; i++) found = top[i] > found ? top[i] : found;
    for (; j < count; j++) found = x[j] > found ? x[j] : found;
    return found;
}

/* x[j] = exp(x[j] - shift) of the first `count`, 0 of the others up to `all`, and their sum. */
INLINE float weigh(float *x, int64_t count, int64_t all, float shift) {
    vec sum = {0};
    for (int64_t j = 0; j < all; j += WIDTH) {
        vec *at = (vec *)(x + j);
        if (j + WIDTH <= count) *at = exp_vec(*at - shift);
        else *at = j < count ? only(lanes_below(count - j), exp_vec(*at - shift)) : (vec){0};
        sum += *at;
    }
    float found = 0;
    for (int i = 0; i < WIDTH; i++) found += sum[i];
    return found;
}

INLINE int64_t vectors(int64_t count) { return (count + WIDTH - 1) / WIDTH; }

/* ---- forward ---- */

typedef struct {
    float score[HEADS * BLOCK], change[HEADS * BLOCK], sum[HEADS * DIM], most[HEADS], total[HEADS], dot[HEADS];
} Desk;

typedef struct {
    const float *query, *key, *value, *turned_key, *turned_value, *grad; /* of one key head */
} Packed;

static void see(const Row *r, Sizes s, Packed p, Desk *w, int64_t first, int64_t count, int64_t k0, int64_t k1, int own) {
    const int64_t rows = count * s.group, keys = k1 - k0, all = vectors(keys) * WIDTH;
    times(rows, vectors(keys), r->dim, p.query + first * s.group * s.padded, s.padded, p.turned_key + k0, s.width,
          w->score, BLOCK, 0);
    for (int64_t i = 0; i < rows; i++) {
        float *score = w->score + i * BLOCK, *sum = w->sum + i * s.padded;
        const int64_t seen = sight(first + i / s.group, k0, k1, own);
        const float before = w->most[i], now = highest(score, seen);
        if (now > before) {
            const float factor = expf(before - now);
            w->most[i] = now, w->total[i] *= factor;
            for (int64_t d = 0; d < s.padded; d += WIDTH) *(vec *)(sum + d) *= factor;
        }
        w->total[i] += weigh(score, seen, all, w->most[i]);
    }
    times(rows, s.padded / WIDTH, keys, w->score, BLOCK, p.value + k0 * s.padded, s.padded, w->sum, s.padded, 1);
}

static int64_t step_of(Sizes s) { return s.group < ROWS ? ROWS / s.group : 1; }

static void forward_block(const Row *r, Sizes s, Packed p, Segment g, int64_t h, int64_t first, float *out, float *lse) {
    Desk desk, *w = &desk;
    const int64_t count = g.end - first < step_of(s) ? g.end - first : step_of(s), rows = count * s.group;
    for (int64_t i = 0; i < rows; i++) w->most[i] = -INFINITY, w->total[i] = 0;
    memset(w->sum, 0, sizeof(float) * rows * s.padded);
    for (int64_t k = g.seen_start; k < g.seen_end; k += BLOCK)
        see(r, s, p, w, first, count, k, k + BLOCK < g.seen_end ? k + BLOCK : g.seen_end, 0);
    for (int64_t k = g.start, end = first + count; k < end; k += BLOCK)
        see(r, s, p, w, first, count, k, k + BLOCK < end ? k + BLOCK : end, 1);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t token = first + i / s.group, head = h * s.group + i % s.group;
        const float inverse = 1.0f / w->total[i];
        float *to = out + (token * r->heads + head) * r->dim;
        for (int64_t d = 0; d < r->dim; d++) to[d] = w->sum[i * s.padded + d] * inverse;
        lse[head * r->tokens + token] = w->most[i] + logf(w->total[i]);
    }
}

static int64_t floats_of(const Row *r, Sizes s, int backward) {
    const int64_t heads = r->kv_heads * r->tokens * s.group * s.padded, keys = r->kv_heads * r->tokens * s.padded;
    const int64_t turned = r->kv_heads * r->dim * s.width;
    return backward ? 2 * heads + 3 * keys + 2 * turned + 2 * r->kv_heads * r->buffers * s.padded
                    : heads + 2 * keys + turned;
}

/* Floats that either pass needs as scratch. */
int64_t attention_scratch(const Row *r, int64_t backward) { return floats_of(r, sizes_of(r), (int)backward) + WIDTH; }

/* out [token][head][dim]; lse [head][token]: the logarithm of the sum of each query's exponentials. */
void attention_forward(const Row *r, const Strided *q, const Strided *k, const Strided *v, float *out, float *lse,
                       float *scratch) {
    const Sizes s = sizes_of(r);
    const int64_t heads = r->kv_heads * r->tokens * s.group * s.padded, keys = r->kv_heads * r->tokens * s.padded;
    float *query = scratch, *key = query + heads, *value = key + keys, *turned = value + keys;
#pragma omp parallel num_threads((int)r->threads)
    {
        pack(r, s, *q, s.group, r->scale, query);
        pack(r, s, *v, 1, 1.0f, value);
        turn(r, s, *k, turned);
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int64_t h = 0; h < r->kv_heads; h++)
            for (int64_t g = 0; g < r->segments; g++) {
                const Packed p = {query + h * r->tokens * s.group * s.padded, NULL, value + h * r->tokens * s.padded,
                                  turned + h * r->dim * s.width, NULL, NULL};
                for (int64_t t = r->segment[g].start; t < r->segment[g].end; t += step_of(s))
                    forward_block(r, s, p, r->segment[g], h, t, out, lse);
            }
    }
}

/* ---- backward ---- */

static void see_backward(const Row *r, Sizes s, Packed p, Desk *w, int64_t first, int64_t count, int64_t k0, int64_t k1,
                         int own, float *dkey, float *dvalue) {
    const int64_t rows = count * s.group, keys = k1 - k0, all = vectors(keys) * WIDTH;
    const float *query = p.query + first * s.group * s.padded, *grad = p.grad + first * s.group * s.padded;
    times(rows, vectors(keys), r->dim, query, s.padded, p.turned_key + k0, s.width, w->score, BLOCK, 0);
    for (int64_t i = 0; i < rows; i++)
        weigh(w->score + i * BLOCK, sight(first + i / s.group, k0, k1, own), all, w->most[i]);
    turned_times(keys, s.padded / WIDTH, rows, w->score, BLOCK, grad, s.padded, dvalue, s.padded);
    times(rows, vectors(keys), r->dim, grad, s.padded, p.turned_value + k0, s.width, w->change, BLOCK, 0);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < all; j += WIDTH) {
            vec *change = (vec *)(w->change + i * BLOCK + j);
            const vec weight = *(const vec *)(w->score + i * BLOCK + j);
            const ivec there = weight != 0; /* what is not seen may be anything, infinite too */
            *change = only(there, (*change - w->dot[i]) * weight);
        }
    turned_times(keys, s.padded / WIDTH, rows, w->change, BLOCK, query, s.padded, dkey, s.padded);
    times(rows, s.padded / WIDTH, keys, w->change, BLOCK, p.key + k0 * s.padded, s.padded, w->sum, s.padded, 1);
}

/* `dkey`, `dvalue`: [token][padded] of this key head; `seen_*`: of the prompt's first token on. */
static void backward_block(const Row *r, Sizes s, Packed p, Segment g, int64_t h, int64_t first, const float *out,
                           const float *lse, float *dquery, float *dkey, float *dvalue, float *seen_dkey,
                           float *seen_dvalue) {
    Desk desk, *w = &desk;
    const int64_t count = g.end - first < step_of(s) ? g.end - first : step_of(s), rows = count * s.group;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t token = first + i / s.group, head = h * s.group + i % s.group;
        const float *grad = p.grad + (first * s.group + i) * s.padded, *of = out + (token * r->heads + head) * r->dim;
        vec sum = {0};
        int64_t d = 0;
        for (; d + WIDTH <= r->dim; d += WIDTH) sum += *(const vec *)(grad + d) * *(const vec *)(of + d);
        float dot = 0;
        for (; d < r->dim; d++) dot += grad[d] * of[d];
        for (int j = 0; j < WIDTH; j++) dot += sum[j];
        w->dot[i] = dot, w->most[i] = lse[head * r->tokens + token];
    }
    memset(w->sum, 0, sizeof(float) * rows * s.padded);
    for (int64_t k = g.seen_start; k < g.seen_end; k += BLOCK)
        see_backward(r, s, p, w, first, count, k, k + BLOCK < g.seen_end ? k + BLOCK : g.seen_end, 0,
                     seen_dkey + (k - g.seen_start) * s.padded, seen_dvalue + (k - g.seen_start) * s.padded);
    for (int64_t k = g.start, end = first + count; k < end; k += BLOCK)
        see_backward(r, s, p, w, first, count, k, k + BLOCK < end ? k + BLOCK : end, 1, dkey + k * s.padded,
                     dvalue + k * s.padded);
    for (int64_t i = 0; i < rows; i++) {
        float *to = dquery + ((first + i / s.group) * r->heads + h * s.group + i % s.group) * r->dim;
        for (int64_t d = 0; d < r->dim; d++) to[d] = w->sum[i * s.padded + d] * r->scale;
    }
}

/* A prompt's gradients from the parts of its completions, in their order, on top of its own; and all of it as
   [token][kv head][dim]. */
static void gather(const Row *r, Sizes s, const float *own, const float *buffer, float *to) {
#pragma omp for collapse(2) schedule(dynamic, 1)
    for (int64_t h = 0; h < r->kv_heads; h++)
        for (int64_t g = 0; g < r->segments; g++) {
            const Segment segment = r->segment[g];
            for (int64_t t = segment.start; t < segment.end; t++) {
                float *line = to + (t * r->kv_heads + h) * r->dim;
                memcpy(line, own + (h * r->tokens + t) * s.padded, sizeof(float) * r->dim);
                for (int64_t part = 0; part < r->parts; part++) {
                    const Part each = r->part[part];
                    if (each.buffer < 0 || r->segment[each.first].seen_start != segment.start) continue;
                    const float *more = buffer + (h * r->buffers + each.buffer + t - segment.start) * s.padded;
                    for (int64_t d = 0; d < r->dim; d++) line[d] += more[d];
                }
            }
        }
}

/* dquery [token][head][dim], dkey and dvalue [token][kv head][dim]. */
void attention_backward(const Row *r, const Strided *q, const Strided *k, const Strided *v, const Strided *grad,
                        const float *out, const float *lse, float *dquery, float *dkey, float *dvalue, float *scratch) {
    const Sizes s = sizes_of(r);
    const int64_t heads = r->kv_heads * r->tokens * s.group * s.padded, keys = r->kv_heads * r->tokens * s.padded;
    const int64_t turned = r->kv_heads * r->dim * s.width, buffers = r->kv_heads * r->buffers * s.padded;
    float *query = scratch, *grads = query + heads, *key = grads + heads, *value_t = key + keys, *key_t = value_t + turned;
    float *own_dkey = key_t + turned, *own_dvalue = own_dkey + keys, *seen_dkey = own_dvalue + keys;
    float *seen_dvalue = seen_dkey + buffers;
#pragma omp parallel num_threads((int)r->threads)
    {
        pack(r, s, *q, s.group, r->scale, query);
        pack(r, s, *grad, s.group, 1.0f, grads);
        pack(r, s, *k, 1, 1.0f, key);
        turn(r, s, *k, key_t);
        turn(r, s, *v, value_t);
#pragma omp for schedule(static)
        for (int64_t piece = 0; piece < 2 * (keys + buffers); piece += 4096)
            memset(own_dkey + piece, 0,
                   sizeof(float) * (2 * (keys + buffers) - piece < 4096 ? 2 * (keys + buffers) - piece : 4096));
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int64_t h = 0; h < r->kv_heads; h++)
            for (int64_t number = 0; number < r->parts; number++) {
                const Part part = r->part[number];
                const Packed p = {query + h * r->tokens * s.group * s.padded, key + h * r->tokens * s.padded, NULL,
                                  key_t + h * r->dim * s.width, value_t + h * r->dim * s.width,
                                  grads + h * r->tokens * s.group * s.padded};
                const int64_t mine = h * r->tokens * s.padded;
                const int64_t seen = (h * r->buffers + (part.buffer < 0 ? 0 : part.buffer)) * s.padded;
                for (int64_t g = part.first; g < part.last; g++)
                    for (int64_t t = r->segment[g].start; t < r->segment[g].end; t += step_of(s))
                        backward_block(r, s, p, r->segment[g], h, t, out, lse, dquery, own_dkey + mine,
                                       own_dvalue + mine, seen_dkey + seen, seen_dvalue + seen);
            }
        gather(r, s, own_dkey, seen_dkey, dkey);
        gather(r, s, own_dvalue, seen_dvalue, dvalue);
    }
}

/* What a head and the heads of a group may have at most. */
int64_t attention_fits(int64_t dim, int64_t group) { return dim <= DIM && group <= HEADS; }
