/* Of rows of logits: the log-probability of one token each, the entropy, and all probabilities; and their gradient.

   A row is read twice and written twice, while it is in the processor's cache. Its sums have one fixed order, whatever
   the number of threads; they are taken in pieces, whose parts are added in double precision. */

#include "lanes.h"

#define PIECE (64 * WIDTH) /* numbers that are summed in single precision */
#define LOWEST -87.0f /* e^x is taken as e^LOWEST below: 1.6e-38 */

INLINE vec larger(vec a, vec b) {
    const ivec than = a > b;
    return (vec)((than & (ivec)a) | (~than & (ivec)b));
}

/* Not a number stays what it is. */
INLINE vec at_least_lowest(vec x) {
    const ivec low = x < LOWEST;
    return (vec)((low & (ivec)((vec){0} + LOWEST)) | (~low & (ivec)x));
}

INLINE float largest_of(const float *row, int64_t n) {
    float found = -INFINITY;
    int64_t j = 0;
    if (n >= WIDTH) {
        vec most = *(const vec *)row;
        for (j = WIDTH; j + WIDTH <= n; j += WIDTH) most = larger(most, *(const vec *)(row + j));
        for (int i = 0; i < WIDTH; i++) found = most[i] > found ? most[i] : found;
    }
    for (; j < n; j++) found = row[j] > found ? row[j] : found;
    return found;
}

/* n numbers at `from`, at most a vector full; the others are -inf. */
INLINE vec some(const float *from, int64_t n) {
    vec x = (vec){0} - INFINITY;
    memcpy(&x, from, sizeof(float) * (size_t)n);
    return x;
}

/* e^(x - most) of a row to `to`; the sum of these, and of each times x - most. */
INLINE void exponentials(const float *row, float *to, int64_t n, float most, double *sum, double *weighted) {
    *sum = *weighted = 0;
    for (int64_t piece = 0; piece < n; piece += PIECE) {
        const int64_t end = piece + PIECE < n ? piece + PIECE : n;
        vec whole = {0}, times = {0};
        int64_t j = piece;
        for (; j + WIDTH <= end; j += WIDTH) {
            const vec x = at_least_lowest(*(const vec *)(row + j) - most), e = exp_vec(x);
            *(vec *)(to + j) = e;
            whole += e;
            times += e * x;
        }
        if (j < end) {
            const vec x = at_least_lowest(some(row + j, end - j) - most), e = exp_vec(x);
            memcpy(to + j, &e, sizeof(float) * (size_t)(end - j));
            for (int64_t i = 0; i < end - j; i++) {
                whole[i] += e[i];
                times[i] += e[i] * x[i];
            }
        }
        for (int i = 0; i < WIDTH; i++) {
            *sum += whole[i];
            *weighted += times[i];
        }
    }
}

/* logits and prob [rows][vocab]; target, logprob, entropy [rows]. */
void softmax_forward(int64_t threads, int64_t rows, int64_t vocab, const float *logits, const int64_t *target,
                     float *prob, float *logprob, float *entropy) {
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const float *row = logits + i * vocab;
        float *restrict to = prob + i * vocab;
        const float most = largest_of(row, vocab);
        double sum, weighted;
        exponentials(row, to, vocab, most, &sum, &weighted);
        const double total = log(sum);
        logprob[i] = (float)((double)(row[target[i]] - most) - total);
        entropy[i] = (float)(total - weighted / sum);
        const float scale = (float)(1 / sum);
        for (int64_t j = 0; j < vocab; j++) to[j] *= scale;
    }
}

/* Of `logprob` alone, whose gradient is `grad` [rows]: dlogits = grad * (1 at the target - prob). */
void softmax_backward(int64_t threads, int64_t rows, int64_t vocab, const float *prob, const int64_t *target,
                      const float *grad, float *dlogits) {
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const float *restrict from = prob + i * vocab;
        float *restrict to = dlogits + i * vocab;
        for (int64_t j = 0; j < vocab; j++) to[j] = from[j] * -grad[i];
        to[target[i]] += grad[i];
    }
}
