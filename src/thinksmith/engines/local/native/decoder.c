/* One forward pass of a decoder of the Llama family over any mixture of rows, and the draw of their next tokens.

   A row is one token: of a sequence that is being sampled, or one of many of a prompt that is being written. What is
   computed for a row depends on nothing but the row: every sum runs over its terms in one fixed order, one lane of a
   vector per row. So results are the same bit for bit whatever stands beside a row, and however a prompt is cut.

   Activations lie in panels: a panel holds LANES rows (the last may be narrower) as [feature][lane], so a product needs
   no horizontal sums and no packed weights: a weight is broadcast, the lanes are multiplied by it.

   Keys and values lie in blocks of BLOCK tokens, keys [block][head][dim][token] and values [block][head][token][dim]. A
   row's table names the blocks of its prompt, which other rows may share, then its own. */

#include "lanes.h"

#define BLOCK 16

typedef float oct __attribute__((vector_size(32), aligned(4), may_alias)); /* eight of a head's dimensions */
typedef float tok __attribute__((vector_size(4 * BLOCK), aligned(4), may_alias)); /* a block's tokens */
typedef int32_t itok __attribute__((vector_size(4 * BLOCK), aligned(4), may_alias));

/* y = W x + b, and behind it + scale * up (down x), an adapter, where rank > 0. */
typedef struct {
    const float *weight, *bias; /* [out, in]; [out] or NULL */
    const float *down, *up;     /* [rank, in], [out, rank] */
    int64_t in, out, rank;
    float scale;
} Linear;

typedef struct {
    const float *norm, *mlp_norm, *query_norm, *key_norm; /* the last two may be NULL */
    Linear query, key, value, output, gate, up, down;
    float *keys, *values;
    int64_t window; /* 0: all that came before */
} Layer;

typedef struct {
    int64_t layers, hidden, inner, heads, kv_heads, dim, vocab;
    float eps, scale; /* of the norms; of a query times a key */
    const Layer *layer;
    const float *embedding, *norm; /* [vocab, hidden], [hidden] */
    Linear head;
    const float *cos, *sin; /* [positions, dim] */
} Model;

/* What is computed: n rows, and their logits if `drawn`. */
typedef struct {
    int64_t n, drawn, width; /* `width`: entries of a line of `table` */
    const int32_t *token, *position;
    const int32_t *shared; /* so many of a row's tokens lie in its prompt's blocks; what follows begins in a new one */
    const int32_t *line;   /* its line in `table` */
    const int32_t *table;  /* [lines, width] */
} Rows;

EXP(exp_tok, tok, itok)

/* ---- products ---- */

/* `no` outputs of `nv` vectors of lanes: y[o][lane] = (y[o][lane] if add) + bias[o] + factor * sum_i w[o][i] x[i][lane] */
INLINE void tile(const int no, const int nv, const float *w, const float *bias, const float *x, float *y, int64_t in,
                 int64_t lanes, int add, float factor) {
    vec sum[OUTPUTS][2];
    for (int o = 0; o < no; o++)
        for (int v = 0; v < nv; v++) sum[o][v] = (vec){0};
    for (int64_t i = 0; i < in; i++) {
        vec row[2];
        for (int v = 0; v < nv; v++) row[v] = *(const vec *)(x + i * lanes + v * WIDTH);
        for (int o = 0; o < no; o++)
            for (int v = 0; v < nv; v++) sum[o][v] += w[o * in + i] * row[v];
    }
    for (int o = 0; o < no; o++)
        for (int v = 0; v < nv; v++) {
            vec *to = (vec *)(y + o * lanes + v * WIDTH);
            vec out = sum[o][v] * factor;
            if (bias) out += bias[o];
            if (add) out += *to;
            *to = out;
        }
}

/* A panel's share of a product: outputs from `first` on. */
INLINE void tiles(int no, const float *w, const float *bias, const float *x, float *y, int64_t in, int64_t lanes,
                  int add, float factor) {
    for (int o = 0; o < no;) {
        const float *wo = w + o * in, *bo = bias ? bias + o : NULL;
        float *yo = y + o * lanes;
        const int left = no - o;
#define DO(size)                                                                                                       \
    {                                                                                                                  \
        if (lanes == LANES) tile(size, 2, wo, bo, x, yo, in, lanes, add, factor);                                      \
        else tile(size, 1, wo, bo, x, yo, in, lanes, add, factor);                                                     \
        o += size;                                                                                                     \
    }
        if (left >= OUTPUTS) DO(OUTPUTS)
        else if (left >= 4) DO(4)
        else DO(1)
#undef DO
    }
}

static void product(const float *w, const float *bias, const float *x, float *y, int64_t in, int64_t out, int64_t n,
                    int add, float factor) {
    const int64_t panels = (n + LANES - 1) / LANES;
    /* A few outputs of all rows at a time: their weights stay in the nearest cache. */
#pragma omp for schedule(static)
    for (int64_t o = 0; o < out; o += OUTPUTS)
        for (int64_t p = 0; p < panels; p++)
            tiles(out - o < OUTPUTS ? (int)(out - o) : OUTPUTS, w + o * in, bias ? bias + o : NULL,
                  x + p * LANES * in, y + p * LANES * out + o * lanes_of(p, n), in, lanes_of(p, n), add, factor);
}

static void linear(const Linear *l, const float *x, float *y, float *low, int64_t n, int add) {
    product(l->weight, l->bias, x, y, l->in, l->out, n, add, 1.0f);
    if (l->rank) {
        product(l->down, NULL, x, low, l->in, l->rank, n, 0, l->scale);
        product(l->up, NULL, low, y, l->rank, l->out, n, 1, 1.0f);
    }
}

/* ---- the small operations ---- */

INLINE vec root(vec x) {
    vec y = x;
    for (int i = 0; i < WIDTH; i++) y[i] = sqrtf(x[i]);
    return y;
}

static void norm(const float *x, const float *weight, float *y, int64_t size, int64_t n, float eps) {
    const int64_t panels = (n + LANES - 1) / LANES;
#pragma omp for schedule(static)
    for (int64_t part = 0; part < 2 * panels; part++) { /* a vector of lanes at a time */
        const int64_t p = part / 2, lanes = lanes_of(p, n);
        if (part % 2 && lanes == WIDTH) continue;
        const float *from = x + p * LANES * size + part % 2 * WIDTH;
        float *to = y + p * LANES * size + part % 2 * WIDTH;
        vec sum = {0};
        for (int64_t i = 0; i < size; i++) {
            const vec v = *(const vec *)(from + i * lanes);
            sum += v * v;
        }
        const vec factor = 1.0f / root(sum / (float)size + eps);
        for (int64_t i = 0; i < size; i++)
            *(vec *)(to + i * lanes) = weight[i] * (*(const vec *)(from + i * lanes) * factor);
    }
}

/* gate = silu(gate) * up */
static void swiglu(float *gate, const float *up, int64_t inner, int64_t n) {
    const int64_t before = (n - 1) / LANES, size = (before * LANES + lanes_of(before, n)) * inner;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < size; i += WIDTH) {
        const vec g = *(const vec *)(gate + i);
        *(vec *)(gate + i) = g / (1.0f + exp_vec(-g)) * *(const vec *)(up + i);
    }
}

static void embed(const Model *m, const Rows *r, float *x) {
    const int64_t panels = (r->n + LANES - 1) / LANES;
#pragma omp for schedule(static)
    for (int64_t b = 0; b < panels * LANES; b++) {
        const int64_t p = b / LANES, lanes = lanes_of(p, r->n), lane = b % LANES;
        if (lane >= lanes) continue;
        const float *from = b < r->n ? m->embedding + (int64_t)r->token[b] * m->hidden : NULL;
        float *to = x + p * LANES * m->hidden + lane;
        for (int64_t i = 0; i < m->hidden; i++) to[i * lanes] = from ? from[i] : 0.0f;
    }
}

/* ---- attention ---- */

/* One head of one row out of a panel: normalised if there is a weight for it, turned by its position if `cos`. */
INLINE void head_of(const float *panel, int64_t lanes, int64_t dim, const float *weight, float eps, const float *cos,
                    const float *sin, float scale, float *to) {
    float plain[dim];
    for (int64_t d = 0; d < dim; d++) plain[d] = panel[d * lanes];
    if (weight) {
        float sum = 0;
        for (int64_t d = 0; d < dim; d++) sum += plain[d] * plain[d];
        const float factor = 1.0f / sqrtf(sum / (float)dim + eps);
        for (int64_t d = 0; d < dim; d++) plain[d] = weight[d] * (plain[d] * factor);
    }
    const int64_t half = dim / 2;
    if (cos)
        for (int64_t d = 0; d < half; d++) {
            to[d] = (plain[d] * cos[d] - plain[d + half] * sin[d]) * scale;
            to[d + half] = (plain[d + half] * cos[d + half] + plain[d] * sin[d + half]) * scale;
        }
    else
        for (int64_t d = 0; d < dim; d++) to[d] = plain[d] * scale;
}

INLINE int64_t blocks_of(int64_t tokens) { return (tokens + BLOCK - 1) / BLOCK; }

/* Rows' queries, turned, into `queries` [n, heads * dim]; their keys and values into their blocks. */
static void place(const Model *m, const Layer *l, const Rows *r, const float *q, const float *k, const float *v,
                  float *queries) {
    const int64_t dim = m->dim, q_size = m->heads * dim, kv_size = m->kv_heads * dim;
#pragma omp for schedule(static)
    for (int64_t b = 0; b < r->n; b++) {
        const int64_t p = b / LANES, lanes = lanes_of(p, r->n), lane = b % LANES, at = r->position[b];
        const float *cos = m->cos + at * dim, *sin = m->sin + at * dim;
        for (int64_t h = 0; h < m->heads; h++)
            head_of(q + p * LANES * q_size + h * dim * lanes + lane, lanes, dim, l->query_norm, m->eps, cos, sin,
                    m->scale, queries + b * q_size + h * dim);
        const int64_t shared = r->shared[b], own = at - shared;
        const int64_t entry = own < 0 ? at / BLOCK : blocks_of(shared) + own / BLOCK;
        const int64_t slot = (own < 0 ? at : own) % BLOCK;
        const int64_t block = r->table[r->line[b] * r->width + entry];
        for (int64_t h = 0; h < m->kv_heads; h++) {
            float key[dim];
            head_of(k + p * LANES * kv_size + h * dim * lanes + lane, lanes, dim, l->key_norm, m->eps, cos, sin, 1.0f,
                    key);
            float *keys = l->keys + (block * m->kv_heads + h) * dim * BLOCK + slot;
            for (int64_t d = 0; d < dim; d++) keys[d * BLOCK] = key[d];
            head_of(v + p * LANES * kv_size + h * dim * lanes + lane, lanes, dim, NULL, 0, NULL, NULL, 1.0f,
                    l->values + ((block * m->kv_heads + h) * BLOCK + slot) * dim);
        }
    }
}

/* Tokens [from, to) of a block that a row looks at. */
typedef struct {
    const float *keys, *values;
    int from, to;
} Seen;

#define QUERIES 4 /* query heads of one key head that are worked on together */

/* Scores of `ng` queries and the tokens of `nb` blocks. */
INLINE void score(const int ng, const int nb, const float *query, int64_t dim, const Seen *seen, float *to,
                  int64_t stride) {
    tok sum[QUERIES][4];
    for (int g = 0; g < ng; g++)
        for (int j = 0; j < nb; j++) sum[g][j] = (tok){0};
    for (int64_t d = 0; d < dim; d++)
        for (int j = 0; j < nb; j++) {
            const tok key = *(const tok *)(seen[j].keys + d * BLOCK);
            __builtin_prefetch(seen[j].values + d * BLOCK); /* as many lines as the block has */
            for (int g = 0; g < ng; g++) sum[g][j] += query[g * dim + d] * key;
        }
    for (int g = 0; g < ng; g++)
        for (int j = 0; j < nb; j++) *(tok *)(to + g * stride + j * BLOCK) = sum[g][j];
}

/* 8 * `nd` dimensions of `ng` queries' outputs. Meanwhile the keys of `next`, what is looked at after this, are fetched. */
INLINE void mix(const int ng, const int nd, const float *weight, int64_t stride, int64_t dim, const Seen *seen,
                int64_t blocks, const Seen *next, int64_t first, const float *total, float *to) {
    oct sum[QUERIES][5];
    for (int g = 0; g < ng; g++)
        for (int c = 0; c < nd; c++) sum[g][c] = (oct){0};
    for (int64_t j = 0; j < blocks; j++) {
        const float *values = seen[j].values + first, *ahead = next[j].keys + first;
        for (int t = seen[j].from; t < seen[j].to; t++) {
            for (int c = 0; c < nd; c += 2) __builtin_prefetch(ahead + t * dim + c * 8);
            for (int c = 0; c < nd; c++) {
                const oct value = *(const oct *)(values + t * dim + c * 8);
                for (int g = 0; g < ng; g++) sum[g][c] += weight[g * stride + j * BLOCK + t] * value;
            }
        }
    }
    for (int g = 0; g < ng; g++)
        for (int c = 0; c < nd; c++) *(oct *)(to + g * dim + first + c * 8) = sum[g][c] / total[g];
}

/* Where a block is seen: all bits set. */
INLINE itok mask_of(const Seen *seen) {
    const itok at = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (at >= seen->from) & (at < seen->to);
}

/* Scores into weights, not normalised; returns their sum. */
INLINE float soften(float *weight, const Seen *seen, int64_t blocks) {
    tok most = (tok){0} - INFINITY, sum = {0};
    for (int64_t j = 0; j < blocks; j++) {
        const tok w = *(tok *)(weight + j * BLOCK);
        const itok more = mask_of(seen + j) & (w > most);
        most = (tok)((more & (itok)w) | (~more & (itok)most));
    }
    float top = most[0], total = 0;
    for (int t = 1; t < BLOCK; t++) top = most[t] > top ? most[t] : top;
    for (int64_t j = 0; j < blocks; j++) {
        tok e = exp_tok(*(tok *)(weight + j * BLOCK) - top);
        e = (tok)((itok)e & mask_of(seen + j));
        *(tok *)(weight + j * BLOCK) = e;
        sum += e;
    }
    for (int t = 0; t < BLOCK; t++) total += sum[t];
    return total;
}

/* `ng` query heads of one row over what it sees; `to` [ng, dim]. */
INLINE void look(const int ng, const float *query, int64_t dim, const Seen *seen, int64_t blocks, const Seen *next,
                 float *weight, float *to) {
    const int64_t stride = blocks * BLOCK;
    const int64_t left = blocks % 4, whole = blocks - left;
    for (int64_t j = 0; j < whole; j += 4) score(ng, 4, query, dim, seen + j, weight + j * BLOCK, stride);
    if (left == 3) score(ng, 3, query, dim, seen + whole, weight + whole * BLOCK, stride);
    else if (left == 2) score(ng, 2, query, dim, seen + whole, weight + whole * BLOCK, stride);
    else if (left == 1) score(ng, 1, query, dim, seen + whole, weight + whole * BLOCK, stride);
    float total[QUERIES];
    for (int g = 0; g < ng; g++) total[g] = soften(weight + g * stride, seen, blocks);
    for (int64_t c = 0; c < dim;) {
        const int64_t rest = dim - c;
#define DO(size)                                                                                                       \
    {                                                                                                                  \
        mix(ng, size, weight, stride, dim, seen, blocks, next, c, total, to);                                                \
        c += 8 * size;                                                                                                 \
    }
        if (rest == 40) DO(5)
        else if (rest >= 32) DO(4)
        else if (rest >= 24) DO(3)
        else if (rest >= 16) DO(2)
        else DO(1)
#undef DO
    }
}

/* What item `item` of `attend` looks at; at most `most` blocks of it. Returns their number. */
INLINE int64_t see(const Model *m, const Layer *l, const Rows *r, int64_t item, int64_t most, Seen *seen) {
    const int64_t h = item / r->n, b = item % r->n, end = r->position[b] + 1;
    const int64_t shared = r->shared[b] < end ? r->shared[b] : end;
    const int64_t first = l->window && end > l->window ? end - l->window : 0;
    const int32_t *table = r->table + r->line[b] * r->width;
    int64_t blocks = 0;
    for (int64_t at = 0, j = 0; at < end && blocks < most; j++) {
        const int64_t border = at < shared ? shared : end, size = border - at < BLOCK ? border - at : BLOCK;
        if (at + size > first) {
            const int64_t place = (table[j] * m->kv_heads + h) * m->dim * BLOCK;
            seen[blocks++] = (Seen){l->keys + place, l->values + place, first > at ? (int)(first - at) : 0, (int)size};
        }
        at += size;
    }
    return blocks;
}

static int64_t longest(const Rows *r) {
    int64_t most = 0;
    for (int64_t b = 0; b < r->n; b++) most = r->position[b] > most ? r->position[b] : most;
    return blocks_of(most + 1) + 2; /* blocks; two of them broken */
}

/* Floats of one thread, where rows see at most so many blocks: the scores of QUERIES heads, then what this row and the
   next one see. */
static int64_t scores_of(int64_t blocks) { return QUERIES * BLOCK * blocks; }
static int64_t own_of(int64_t blocks) { return scores_of(blocks) + 2 * blocks * (int64_t)(sizeof(Seen) / sizeof(float)); }

static void attend(const Model *m, const Layer *l, const Rows *r, const float *queries, float *out, float *scratch,
                   int64_t greatest) {
    const int64_t dim = m->dim, q_size = m->heads * dim, group = m->heads / m->kv_heads, items = r->n * m->kv_heads;
    float *weight = scratch + omp_get_thread_num() * own_of(greatest);
    Seen *seen = (Seen *)(weight + scores_of(greatest)), *next = seen + greatest;
    /* Head by head: rows that share a prompt find its keys and values of this head in the cache. */
#pragma omp for schedule(dynamic, 8)
    for (int64_t item = 0; item < items; item++) {
        const int64_t h = item / r->n, b = item % r->n, p = b / LANES, lanes = lanes_of(p, r->n), lane = b % LANES;
        const int64_t blocks = see(m, l, r, item, greatest, seen);
        const int64_t known = item + 1 < items ? see(m, l, r, item + 1, blocks, next) : 0;
        for (int64_t j = known; j < blocks; j++) next[j] = seen[j];
        float result[QUERIES * dim];
        for (int64_t g = 0; g < group;) {
            const int64_t head = h * group + g;
            const float *query = queries + b * q_size + head * dim;
            int ng;
            if (group - g >= 4) look(ng = 4, query, dim, seen, blocks, next, weight, result);
            else if (group - g >= 2) look(ng = 2, query, dim, seen, blocks, next, weight, result);
            else look(ng = 1, query, dim, seen, blocks, next, weight, result);
            float *to = out + p * LANES * q_size + head * dim * lanes + lane;
            for (int64_t d = 0; d < ng * dim; d++) to[d * lanes] = result[d];
            g += ng;
        }
    }
}

/* ---- the pass ---- */

static int64_t largest(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t rank_of(const Model *m) {
    int64_t rank = 0;
    for (int64_t i = 0; i < m->layers; i++) {
        const Layer *l = m->layer + i;
        const Linear *all[] = {&l->query, &l->key, &l->value, &l->output, &l->gate, &l->up, &l->down};
        for (int j = 0; j < 7; j++) rank = largest(rank, all[j]->rank);
    }
    return largest(rank, m->head.rank);
}

/* Floats that `forward` needs as scratch. */
int64_t forward_scratch(const Model *m, const Rows *r, int64_t threads) {
    const int64_t n = (r->n + LANES - 1) / LANES * LANES, q = m->heads * m->dim, kv = m->kv_heads * m->dim;
    return n * (2 * m->hidden + 3 * q + 2 * kv + 2 * m->inner + rank_of(m)) + threads * own_of(longest(r));
}

/* Writes the rows' keys and values, and their logits as panels of [vocab][lane]. */
void forward(const Model *m, const Rows *r, float *scratch, float *logits, int64_t threads) {
    const int64_t n = (r->n + LANES - 1) / LANES * LANES, q_size = m->heads * m->dim, kv_size = m->kv_heads * m->dim;
    float *x = scratch, *y = x + n * m->hidden, *q = y + n * m->hidden, *k = q + n * q_size, *v = k + n * kv_size;
    float *queries = v + n * kv_size, *mixed = queries + n * q_size, *gate = mixed + n * q_size;
    float *up = gate + n * m->inner, *low = up + n * m->inner, *own = low + n * rank_of(m);
    const int64_t greatest = longest(r);
    memset(mixed, 0, n * q_size * sizeof(float)); /* lanes without a row stay 0 */
#pragma omp parallel num_threads((int)threads)
    {
        embed(m, r, x);
        for (int64_t i = 0; i < m->layers; i++) {
            const Layer *l = m->layer + i;
            norm(x, l->norm, y, m->hidden, r->n, m->eps);
            linear(&l->query, y, q, low, r->n, 0);
            linear(&l->key, y, k, low, r->n, 0);
            linear(&l->value, y, v, low, r->n, 0);
            place(m, l, r, q, k, v, queries);
            if (i + 1 == m->layers && !r->drawn) continue; /* of a prompt's last layer only keys and values are wanted */
            attend(m, l, r, queries, mixed, own, greatest);
            linear(&l->output, mixed, x, low, r->n, 1);
            norm(x, l->mlp_norm, y, m->hidden, r->n, m->eps);
            linear(&l->gate, y, gate, low, r->n, 0);
            linear(&l->up, y, up, low, r->n, 0);
            swiglu(gate, up, m->inner, r->n);
            linear(&l->down, gate, x, low, r->n, 1);
        }
        if (r->drawn) {
            norm(x, m->norm, y, m->hidden, r->n, m->eps);
            linear(&m->head, y, logits, low, r->n, 0);
        }
    }
}

int64_t panel_lanes(void) { return LANES; }
