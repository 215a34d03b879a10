/* What stands between the matrix products of a layer, each in one reading: RMS norm (Zhang and Sennrich 2019,
   arXiv:1910.07467), the gate of a SwiGLU (Shazeer 2020, arXiv:2002.05202) and the rotation of queries and keys (Su et
   al. 2021, arXiv:2104.09864), with their gradients.

   Sums have one fixed order, whatever the number of threads: a weight's gradient is summed by RUN rows, and the runs in
   their order. */

#include "lanes.h"

#define RUN 256 /* rows whose parts of a weight's gradient are summed in one piece */

INLINE float sum_of(vec x) {
    float sum = 0;
    for (int i = 0; i < WIDTH; i++) sum += x[i];
    return sum;
}

/* sum_j a_j b_j */
INLINE float dot(const float *a, const float *b, int64_t n) {
    vec first = {0}, second = {0};
    int64_t j = 0;
    for (; j + 2 * WIDTH <= n; j += 2 * WIDTH) {
        first += *(const vec *)(a + j) * *(const vec *)(b + j);
        second += *(const vec *)(a + j + WIDTH) * *(const vec *)(b + j + WIDTH);
    }
    float sum = sum_of(first + second);
    for (; j < n; j++) sum += a[j] * b[j];
    return sum;
}

/* sum_j a_j b_j c_j */
INLINE float dot3(const float *a, const float *b, const float *c, int64_t n) {
    vec first = {0}, second = {0};
    int64_t j = 0;
    for (; j + 2 * WIDTH <= n; j += 2 * WIDTH) {
        first += *(const vec *)(a + j) * *(const vec *)(b + j) * *(const vec *)(c + j);
        second += *(const vec *)(a + j + WIDTH) * *(const vec *)(b + j + WIDTH) * *(const vec *)(c + j + WIDTH);
    }
    float sum = sum_of(first + second);
    for (; j < n; j++) sum += a[j] * b[j] * c[j];
    return sum;
}

/* out = weight * x * scale for each of `rows` rows of `width` numbers; scale [rows] = (mean of x^2 + eps)^-1/2. */
void norm_forward(int64_t threads, int64_t rows, int64_t width, float eps, const float *x, const float *weight,
                  float *out, float *scale) {
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const float *restrict row = x + i * width;
        float *restrict to = out + i * width;
        const float factor = scale[i] = 1.0f / sqrtf(dot(row, row, width) / (float)width + eps);
        for (int64_t j = 0; j < width; j++) to[j] = weight[j] * (row[j] * factor);
    }
}

/* Gradients of x, and of the weight: `parts` holds those of each RUN of rows, or is NULL where it is not asked for. */
void norm_backward(int64_t threads, int64_t rows, int64_t width, const float *grad, const float *x, const float *weight,
                   const float *scale, float *dx, float *dweight, float *parts) {
    const int64_t runs = (rows + RUN - 1) / RUN;
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (int64_t run = 0; run < runs; run++) {
        float *restrict part = parts ? parts + run * width : NULL;
        if (part) memset(part, 0, sizeof(float) * (size_t)width);
        for (int64_t i = run * RUN; i < rows && i < (run + 1) * RUN; i++) {
            const float *restrict g = grad + i * width, *restrict row = x + i * width;
            float *restrict to = dx + i * width;
            const float factor = scale[i];
            const float along = dot3(g, weight, row, width) * factor * factor * factor / (float)width;
            for (int64_t j = 0; j < width; j++) to[j] = weight[j] * g[j] * factor - row[j] * along;
            if (part)
                for (int64_t j = 0; j < width; j++) part[j] += g[j] * (row[j] * factor);
        }
    }
    if (!parts) return;
    memset(dweight, 0, sizeof(float) * (size_t)width);
    for (int64_t run = 0; run < runs; run++)
        for (int64_t j = 0; j < width; j++) dweight[j] += parts[run * width + j];
}

/* How many floats `parts` needs. */
int64_t norm_parts(int64_t rows, int64_t width) { return (rows + RUN - 1) / RUN * width; }

INLINE vec sigmoid(vec x) { return 1.0f / (1.0f + exp_vec(-x)); }

/* Up to a vector of numbers, the others 0. */
INLINE vec some(const float *at, int64_t count) {
    vec x = {0};
    memcpy(&x, at, sizeof(float) * (size_t)count);
    return x;
}

/* out = silu(gate) * up of n numbers. */
void gate_forward(int64_t threads, int64_t n, const float *gate, const float *up, float *out) {
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (int64_t i = 0; i < n; i += WIDTH) {
        if (i + WIDTH <= n) {
            const vec g = *(const vec *)(gate + i);
            *(vec *)(out + i) = g * sigmoid(g) * *(const vec *)(up + i);
        } else {
            const vec g = some(gate + i, n - i), y = g * sigmoid(g) * some(up + i, n - i);
            memcpy(out + i, &y, sizeof(float) * (size_t)(n - i));
        }
    }
}

INLINE void gate_gradients(vec grad, vec gate, vec up, vec *dgate, vec *dup) {
    const vec s = sigmoid(gate);
    *dup = grad * gate * s;
    *dgate = grad * up * s * (1.0f + gate * (1.0f - s));
}

void gate_backward(int64_t threads, int64_t n, const float *grad, const float *gate, const float *up, float *dgate,
                   float *dup) {
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (int64_t i = 0; i < n; i += WIDTH) {
        if (i + WIDTH <= n) {
            gate_gradients(*(const vec *)(grad + i), *(const vec *)(gate + i), *(const vec *)(up + i),
                           (vec *)(dgate + i), (vec *)(dup + i));
        } else {
            vec to_gate, to_up;
            gate_gradients(some(grad + i, n - i), some(gate + i, n - i), some(up + i, n - i), &to_gate, &to_up);
            memcpy(dgate + i, &to_gate, sizeof(float) * (size_t)(n - i));
            memcpy(dup + i, &to_up, sizeof(float) * (size_t)(n - i));
        }
    }
}

/* Rotates the two halves of each head: x and to [rows][heads][2 half], cosine and sine [rows][2 half]. `back`: the
   gradient, which is the rotation turned over. */
void rotate(int64_t threads, int64_t rows, int64_t heads, int64_t half, const float *x, const float *cosine,
            const float *sine, float *to, int64_t back) {
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const float *restrict c = cosine + i * 2 * half, *restrict s = sine + i * 2 * half;
        for (int64_t h = 0; h < heads; h++) {
            const float *restrict from = x + (i * heads + h) * 2 * half;
            float *restrict out = to + (i * heads + h) * 2 * half;
            if (back)
                for (int64_t d = 0; d < half; d++) {
                    out[d] = from[d] * c[d] + from[d + half] * s[d + half];
                    out[d + half] = from[d + half] * c[d + half] - from[d] * s[d];
                }
            else
                for (int64_t d = 0; d < half; d++) {
                    out[d] = from[d] * c[d] - from[d + half] * s[d];
                    out[d + half] = from[d + half] * c[d + half] + from[d] * s[d + half];
                }
        }
    }
}
