/* The draw of next tokens from panels of logits, for rows without filters: the token at which the cumulative mass passes
   a uniform number, which is a function of the row's key and step alone (SplitMix64, as in sampler.py). */

#include "lanes.h"

#define PART 64 /* entries of the vocabulary that are summed as one at first: rounding does not pile up */

static uint64_t mixed(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static double uniform(int64_t key, int64_t step) {
    return (double)(mixed((uint64_t)key + (uint64_t)(step + 1) * 0x9E3779B97F4A7C15u) >> 40) * 0x1p-24;
}

INLINE vec choose(ivec mask, vec yes, vec no) { return (vec)((mask & (ivec)yes) | (~mask & (ivec)no)); }

/* The entry of one lane at which its mass passes `target`, an entry of [0, total). `mass`: sums of its parts. */
static int64_t passed(const float *logit, int64_t lanes, int64_t vocab, const float *mass, double target, float most,
                      float inverse) {
    const int64_t parts = (vocab + PART - 1) / PART;
    int64_t part = 0;
    double before = 0;
    while (part + 1 < parts && before + mass[part * WIDTH] <= target) before += mass[part++ * WIDTH];
    int64_t found = part * PART;
    for (int64_t i = part * PART; i < vocab && i < (part + 1) * PART; i += WIDTH) {
        vec x = {0};
        const int count = vocab - i < WIDTH ? (int)(vocab - i) : WIDTH;
        for (int j = 0; j < count; j++) x[j] = (logit[(i + j) * lanes] - most) * inverse;
        x = exp_vec(x);
        for (int j = 0; j < count; j++) {
            if (x[j] > 0) found = i + j; /* where rounding leaves the target behind the last, the last it is */
            before += x[j];
            if (before > target) return i + j;
        }
    }
    return found;
}

/* Floats that `draw` needs as scratch. */
int64_t draw_scratch(int64_t vocab, int64_t threads) { return threads * (vocab + PART - 1) / PART * WIDTH + threads * WIDTH; }

/* token[b] is -1 where the logits are not finite; logprob[b] is the token's at temperature 1. Temperature 0 is greedy. */
void draw(const float *logits, int64_t n, int64_t vocab, const int64_t *key, const int64_t *step,
          const float *temperature, int64_t *token, float *logprob, float *scratch, int64_t threads) {
    const int64_t parts = (vocab + PART - 1) / PART, vectors = (n + WIDTH - 1) / WIDTH;
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (int64_t v = 0; v < vectors; v++) {
        const int64_t first = v * WIDTH, p = first / LANES, lanes = lanes_of(p, n);
        const int count = n - first < WIDTH ? (int)(n - first) : WIDTH;
        const float *logit = logits + p * LANES * vocab + first % LANES;
        float *mass = scratch + omp_get_thread_num() * (parts * WIDTH);
        vec inverse = (vec){0} + 1.0f, most = *(const vec *)logit;
        ivec best = {0};
        int plain = 1;
        for (int j = 0; j < count; j++)
            if (temperature[first + j] > 0) {
                inverse[j] = 1.0f / temperature[first + j];
                plain &= inverse[j] == 1.0f;
            }
        for (int64_t i = 1; i < vocab; i++) {
            const vec x = *(const vec *)(logit + i * lanes);
            const ivec more = x > most;
            best = (more & ((ivec){0} + (int32_t)i)) | (~more & best);
            most = choose(more, x, most);
        }
        double total[WIDTH] = {0}, drawn_from[WIDTH] = {0};
        for (int64_t part = 0; part < parts; part++) {
            vec sum = {0}, tempered = {0};
            for (int64_t i = part * PART; i < vocab && i < (part + 1) * PART; i++) {
                const vec x = *(const vec *)(logit + i * lanes) - most;
                sum += exp_vec(x);
                if (!plain) tempered += exp_vec(x * inverse);
            }
            if (plain) tempered = sum;
            *(vec *)(mass + part * WIDTH) = tempered;
            for (int j = 0; j < WIDTH; j++) total[j] += sum[j], drawn_from[j] += tempered[j];
        }
        for (int j = 0; j < count; j++) {
            const int64_t b = first + j;
            int64_t drawn = best[j];
            if (temperature[b] > 0 && isfinite(drawn_from[j]))
                drawn = passed(logit + j, lanes, vocab, mass + j, uniform(key[b], step[b]) * drawn_from[j], most[j],
                               inverse[j]);
            logprob[b] = logit[drawn * lanes + j] - most[j] - (float)log(total[j]);
            token[b] = isfinite(logprob[b]) && isfinite(drawn_from[j]) ? drawn : -1;
        }
    }
}
