// What lies between the matmuls of a training step, for AVX512-BF16. HEAD_DIM and GROUP (query heads per kv head) come from the compiler's command line.

#include <immintrin.h>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#include <algorithm>
#include <omp.h>

typedef uint16_t bf16;
typedef __m512i zi;
typedef __m512 zf;
constexpr int D = HEAD_DIM, G = GROUP, DP = D / 2, NV = D / 16, KB = 64, QP = G * 8;
constexpr float LOG2E = 1.44269504f;

static inline float up(bf16 x) { uint32_t u = (uint32_t)x << 16; float f; memcpy(&f, &u, 4); return f; }
static inline zf up16(const bf16* p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16)); }
static inline __m256i down16(zf x) { return (__m256i)_mm512_cvtneps_pbh(x); }
static inline void store16(bf16* p, zf x) { _mm256_storeu_si256((__m256i*)p, down16(x)); }
static inline zi pair(__m256i low, __m256i high) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
}
static inline zf exp2v(zf x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-126.f));
    zf n = _mm512_roundscale_ps(x, 8), r = _mm512_sub_ps(x, n), p = _mm512_set1_ps(1.3333558e-3f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.6181291e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5504109e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4022651e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9314718e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f));
    return _mm512_scalef_ps(p, n);
}

// acc[r][n] += sum over p of pair A[r][p] . pair B[p][n]: every product of the attention is this one kernel.
template <int MR, int NR>
static inline __attribute__((always_inline)) void mm(const uint32_t* A, long lda, const zi* B, int depth, zf (&acc)[MR][NR]) {
    for (int p = 0; p < depth; p++) {
        zi b[NR];
#pragma GCC unroll 8
        for (int n = 0; n < NR; n++) b[n] = _mm512_loadu_si512(B + p * NR + n);
#pragma GCC unroll 8
        for (int r = 0; r < MR; r++) {
            zi a = _mm512_set1_epi32(A[r * lda + p]);
#pragma GCC unroll 8
            for (int n = 0; n < NR; n++) acc[r][n] = _mm512_dpbf16_ps(acc[r][n], (__m512bh)a, (__m512bh)b[n]);
        }
    }
}
template <int MR, int NR>
static inline __attribute__((always_inline)) void zero(zf (&acc)[MR][NR]) {
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 8
        for (int n = 0; n < NR; n++) acc[r][n] = _mm512_setzero_ps();
}
// out (fp32 memory) += the product
template <int MR, int NR>
static inline __attribute__((always_inline)) void mm_into(const uint32_t* A, long lda, const zi* B, int depth, zf* out) {
    zf acc[MR][NR];
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 8
        for (int n = 0; n < NR; n++) acc[r][n] = _mm512_loadu_ps((float*)(out + r * NR + n));
    mm<MR, NR>(A, lda, B, depth, acc);
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 8
        for (int n = 0; n < NR; n++) _mm512_storeu_ps((float*)(out + r * NR + n), acc[r][n]);
}

// 16 rows as lanes: out[p * G] = pair p of each row; rows past the end repeat the last one and are dropped on output.
static void pack_lanes(const bf16* base, long stride, int i0, int n, zi* out) {
    int index[16];
    for (int l = 0; l < 16; l++) index[l] = (int)(std::min(i0 + l, n - 1) * (stride / 2));
    zi v = _mm512_loadu_si512(index);
    for (int p = 0; p < DP; p++) out[p * G] = _mm512_i32gather_epi32(v, (const int*)base + p, 4);
}
// 16 rows as 8 pairs: out[q][v] = rows 2q and 2q+1 interleaved; rows past the end are zero, so they add nothing.
static void pack_pairs(const bf16* base, long stride, int i0, int n, zi* out) {
    for (int q = 0; q < 8; q++)
        for (int v = 0; v < NV; v++) {
            __m256i a = _mm256_setzero_si256(), b = a;
            if (i0 + 2 * q < n) a = _mm256_loadu_si256((const __m256i*)(base + (i0 + 2 * q) * stride + v * 16));
            if (i0 + 2 * q + 1 < n) b = _mm256_loadu_si256((const __m256i*)(base + (i0 + 2 * q + 1) * stride + v * 16));
            out[q * NV + v] = pair(a, b);
        }
}
// T[D][G] (16 lanes each) -> bf16 rows
static void unpack(const zf* T, float scale, bf16* base, long stride, int g, int i0, int n) {
    zi v = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32(G * 16));
    for (int l = 0; l < 16 && i0 + l < n; l++)
        for (int b = 0; b < NV; b++)
            store16(base + (i0 + l) * stride + b * 16,
                    _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_i32gather_ps(v, (const float*)(T + b * 16 * G + g) + l, 4)));
}
static void copy_rows(const bf16* base, long stride, int n, bf16* rows, int at) {
    for (int i = 0; i < n; i++) memcpy(rows + (size_t)(at + i) * D, base + i * stride, D * 2);
}
static void transpose_rows(const bf16* base, long stride, int n, bf16* T, long LP, int at) {
    for (int i = 0; i < n; i++)
        for (int d = 0; d < D; d++) T[d * LP + at + i] = base[i * stride + d];
}
static inline __mmask16 causal(int j) { return j <= 0 ? 0xFFFF : j > 15 ? 0 : (__mmask16)(0xFFFF << j); }
static int longest(int P, int items, const int* lens) {
    int m = 0;
    for (int i = 0; i < items; i++) m = std::max(m, lens[i]);
    return (P + m + 2 * KB) & ~15;
}

extern "C" void attention_forward(const bf16* qkv, int KV, int P, int items, const int* lens, bf16* out, float* lse) {
    const int H = KV * G;
    const long LD = (long)(H + 2 * KV) * D, OD = (long)H * D, LP = longest(P, items, lens);
    const float c = LOG2E / std::sqrt((float)D);
#pragma omp parallel for schedule(static, 1)
    for (int kv = 0; kv < KV; kv++) {
        std::vector<bf16> K(LP * D, 0), VT(LP * D, 0);
        std::vector<zi> Q(DP * G), PV(KB / 2 * G);
        std::vector<zf> O(D * G), S(KB * G);
        long start = 0;
        for (int s = -1; s < items; s++) {
            const int n = s < 0 ? P : lens[s], pk = s < 0 ? 0 : P;
            const bf16* rows = qkv + start * LD;
            copy_rows(rows + (H + kv) * D, LD, n, K.data(), pk);
            transpose_rows(rows + (H + KV + kv) * D, LD, n, VT.data(), LP, pk);
            for (int i0 = 0; i0 < n; i0 += 16) {
                zf m[G], l[G];
                for (int g = 0; g < G; g++) {
                    pack_lanes(rows + (kv * G + g) * D, LD, i0, n, Q.data() + g);
                    m[g] = _mm512_set1_ps(-1e30f), l[g] = _mm512_setzero_ps();
                }
                std::fill(O.begin(), O.end(), _mm512_setzero_ps());
                const int kc = pk + std::min(n, i0 + 16);
                for (int k0 = 0; k0 < kc; k0 += KB) {
                    const int nk = std::min(KB, (kc - k0 + 3) & ~3);
                    zf top[G];
                    for (int g = 0; g < G; g++) top[g] = m[g];
                    for (int k = 0; k < nk; k += 4) {
                        zf acc[4][G];
                        zero(acc);
                        mm<4, G>((const uint32_t*)(K.data() + (k0 + k) * D), DP, Q.data(), DP, acc);
                        for (int r = 0; r < 4; r++) {
                            const __mmask16 ok = causal(k0 + k + r - pk - i0);
                            for (int g = 0; g < G; g++) {
                                zf x = _mm512_mask_mul_ps(_mm512_set1_ps(-1e30f), ok, acc[r][g], _mm512_set1_ps(c));
                                top[g] = _mm512_max_ps(top[g], x);
                                S[(k + r) * G + g] = x;
                            }
                        }
                    }
                    for (int g = 0; g < G; g++) {
                        zf fix = exp2v(_mm512_sub_ps(m[g], top[g]));
                        m[g] = top[g];
                        l[g] = _mm512_mul_ps(l[g], fix);
                        if (k0)
                            for (int d = 0; d < D; d++) O[d * G + g] = _mm512_mul_ps(O[d * G + g], fix);
                    }
                    for (int k = 0; k < nk; k += 2)
                        for (int g = 0; g < G; g++) {
                            zf a = exp2v(_mm512_sub_ps(S[k * G + g], m[g])), b = exp2v(_mm512_sub_ps(S[(k + 1) * G + g], m[g]));
                            l[g] = _mm512_add_ps(l[g], _mm512_add_ps(a, b));
                            PV[k / 2 * G + g] = pair(down16(a), down16(b));
                        }
                    for (int d = 0; d < D; d += 4)
                        mm_into<4, G>((const uint32_t*)(VT.data() + d * LP + k0), LP / 2, PV.data(), nk / 2, O.data() + d * G);
                }
                for (int g = 0; g < G; g++) {
                    zf r = _mm512_div_ps(_mm512_set1_ps(1.f), l[g]);
                    for (int d = 0; d < D; d++) O[d * G + g] = _mm512_mul_ps(O[d * G + g], r);
                    unpack(O.data(), 1.f, out + start * OD + (kv * G + g) * D, OD, g, i0, n);
                    float mm_[16], ll[16];
                    _mm512_storeu_ps(mm_, m[g]), _mm512_storeu_ps(ll, l[g]);
                    for (int i = 0; i < 16 && i0 + i < n; i++) lse[(start + i0 + i) * H + kv * G + g] = mm_[i] + std::log2(ll[i]);
                }
            }
            start += n;
        }
    }
}

extern "C" void attention_backward(const bf16* qkv, const bf16* out, const float* lse, const bf16* gout, int KV, int P, int items,
                                   const int* lens, bf16* gqkv) {
    const int H = KV * G;
    const long LD = (long)(H + 2 * KV) * D, OD = (long)H * D, LP = longest(P, items, lens);
    const float scale = 1.f / std::sqrt((float)D), c = LOG2E * scale;
#pragma omp parallel for schedule(static, 1)
    for (int kv = 0; kv < KV; kv++) {
        std::vector<bf16> K(LP * D, 0), V(LP * D, 0), KT(LP * D, 0), PT(KB * G * 16), ST(KB * G * 16);
        std::vector<zf> gK(LP * NV, _mm512_setzero_ps()), gV(LP * NV, _mm512_setzero_ps()), gQ(D * G);
        std::vector<zi> Q(DP * G), O(DP * G), Qp(QP * NV), Op(QP * NV), SV(KB / 2 * G);
        copy_rows(qkv + (H + kv) * D, LD, P, K.data(), 0);
        copy_rows(qkv + (H + KV + kv) * D, LD, P, V.data(), 0);
        transpose_rows(qkv + (H + kv) * D, LD, P, KT.data(), LP, 0);
        long start = P;
        // The prefix comes last: by then every item has added its share to the gradients of the prefix's keys and values.
        for (int s = 0; s <= items; s++) {
            const bool prefix = s == items;
            if (prefix) start = 0;
            const int n = prefix ? P : lens[s], pk = prefix ? 0 : P;
            const bf16 *rows = qkv + start * LD, *grows = gout + start * OD, *orows = out + start * OD;
            if (!prefix) {
                copy_rows(rows + (H + kv) * D, LD, n, K.data(), pk);
                copy_rows(rows + (H + KV + kv) * D, LD, n, V.data(), pk);
                transpose_rows(rows + (H + kv) * D, LD, n, KT.data(), LP, pk);
                std::fill(gK.begin() + pk * NV, gK.end(), _mm512_setzero_ps());
                std::fill(gV.begin() + pk * NV, gV.end(), _mm512_setzero_ps());
            }
            for (int i0 = 0; i0 < n; i0 += 16) {
                zf L[G], delta[G];
                for (int g = 0; g < G; g++) {
                    const int h = kv * G + g;
                    pack_lanes(rows + h * D, LD, i0, n, Q.data() + g);
                    pack_lanes(grows + h * D, OD, i0, n, O.data() + g);
                    pack_pairs(rows + h * D, LD, i0, n, Qp.data() + g * 8 * NV);
                    pack_pairs(grows + h * D, OD, i0, n, Op.data() + g * 8 * NV);
                    float a[16], b[16];
                    for (int i = 0; i < 16; i++) {
                        const long at = std::min(i0 + i, n - 1);
                        zf sum = _mm512_setzero_ps();
                        for (int v = 0; v < NV; v++)
                            sum = _mm512_fmadd_ps(up16(grows + at * OD + h * D + v * 16), up16(orows + at * OD + h * D + v * 16), sum);
                        a[i] = lse[(start + at) * H + h], b[i] = _mm512_reduce_add_ps(sum);
                    }
                    L[g] = _mm512_loadu_ps(a), delta[g] = _mm512_loadu_ps(b);
                }
                std::fill(gQ.begin(), gQ.end(), _mm512_setzero_ps());
                const int kc = pk + std::min(n, i0 + 16);
                for (int k0 = 0; k0 < kc; k0 += KB) {
                    const int nk = std::min(KB, (kc - k0 + 7) & ~7);
                    for (int k = 0; k < nk; k += 4) {
                        zf acc[4][G], gp[4][G];
                        zero(acc);
                        mm<4, G>((const uint32_t*)(K.data() + (k0 + k) * D), DP, Q.data(), DP, acc);
                        for (int r = 0; r < 4; r++) {
                            const __mmask16 ok = causal(k0 + k + r - pk - i0);
                            for (int g = 0; g < G; g++) {
                                acc[r][g] = _mm512_maskz_mov_ps(ok, exp2v(_mm512_fmsub_ps(acc[r][g], _mm512_set1_ps(c), L[g])));
                                store16(PT.data() + ((k + r) * G + g) * 16, acc[r][g]);
                            }
                        }
                        zero(gp);
                        mm<4, G>((const uint32_t*)(V.data() + (k0 + k) * D), DP, O.data(), DP, gp);
                        for (int r = 0; r < 4; r += 2)
                            for (int g = 0; g < G; g++) {
                                __m256i a = down16(_mm512_mul_ps(acc[r][g], _mm512_sub_ps(gp[r][g], delta[g])));
                                __m256i b = down16(_mm512_mul_ps(acc[r + 1][g], _mm512_sub_ps(gp[r + 1][g], delta[g])));
                                _mm256_storeu_si256((__m256i*)(ST.data() + ((k + r) * G + g) * 16), a);
                                _mm256_storeu_si256((__m256i*)(ST.data() + ((k + r + 1) * G + g) * 16), b);
                                SV[(k + r) / 2 * G + g] = pair(a, b);
                            }
                    }
                    for (int d = 0; d < D; d += 4)
                        mm_into<4, G>((const uint32_t*)(KT.data() + d * LP + k0), LP / 2, SV.data(), nk / 2, gQ.data() + d * G);
                    for (int k = 0; k < nk; k += 8) {
                        mm_into<8, NV>((const uint32_t*)(PT.data() + k * G * 16), QP, Op.data(), QP, gV.data() + (k0 + k) * NV);
                        mm_into<8, NV>((const uint32_t*)(ST.data() + k * G * 16), QP, Qp.data(), QP, gK.data() + (k0 + k) * NV);
                    }
                }
                for (int g = 0; g < G; g++) unpack(gQ.data(), scale, gqkv + start * LD + (kv * G + g) * D, LD, g, i0, n);
            }
            for (int i = 0; i < n; i++)
                for (int v = 0; v < NV; v++) {
                    bf16* row = gqkv + (start + i) * LD + v * 16;
                    store16(row + (H + kv) * D, _mm512_mul_ps(_mm512_set1_ps(scale), gK[(pk + i) * NV + v]));
                    store16(row + (H + KV + kv) * D, gV[(pk + i) * NV + v]);
                }
            start += n;
        }
    }
}

// sign +1 rotates, -1 rotates back (the gradient of a rotation is its inverse); in place, first `heads` heads of each row.
extern "C" void rope(bf16* x, long N, long LD, int heads, const long* position, const float* cosine, const float* sine, float sign) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < N; i++)
        for (int h = 0; h < heads; h++) {
            bf16* row = x + i * LD + h * D;
            const float *co = cosine + position[i] * DP, *si = sine + position[i] * DP;
            for (int v = 0; v < DP; v += 16) {
                zf a = up16(row + v), b = up16(row + DP + v), cc = _mm512_loadu_ps(co + v);
                zf ss = _mm512_mul_ps(_mm512_set1_ps(sign), _mm512_loadu_ps(si + v));
                store16(row + v, _mm512_fmsub_ps(a, cc, _mm512_mul_ps(b, ss)));
                store16(row + DP + v, _mm512_fmadd_ps(b, cc, _mm512_mul_ps(a, ss)));
            }
        }
}

extern "C" void add_norm_forward(const float* x, const bf16* delta, const float* w, long N, long W, float eps, float* sum, bf16* y, float* rstd) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < N; i++) {
        zf square = _mm512_setzero_ps();
        for (long j = 0; j < W; j += 16) {
            zf v = _mm512_loadu_ps(x + i * W + j);
            if (delta) v = _mm512_add_ps(v, up16(delta + i * W + j));
            if (sum != x) _mm512_storeu_ps(sum + i * W + j, v);
            square = _mm512_fmadd_ps(v, v, square);
        }
        const float r = 1.f / std::sqrt(_mm512_reduce_add_ps(square) / W + eps);
        rstd[i] = r;
        for (long j = 0; j < W; j += 16)
            store16(y + i * W + j, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(sum + i * W + j), _mm512_set1_ps(r)), _mm512_loadu_ps(w + j)));
    }
}

extern "C" void add_norm_backward(const float* sum, const float* rstd, const float* w, const float* gsum, const bf16* gy, long N, long W,
                                  float* gx, bf16* gdelta, float* gw) {
    const int T = omp_get_max_threads();
    std::vector<float> part(T * W, 0.f);
#pragma omp parallel num_threads(T)
    {
        float* mine = part.data() + omp_get_thread_num() * W;
#pragma omp for schedule(static)
        for (long i = 0; i < N; i++) {
            const zf r = _mm512_set1_ps(rstd[i]);
            zf dot = _mm512_setzero_ps();
            for (long j = 0; j < W; j += 16) {
                zf hat = _mm512_mul_ps(_mm512_loadu_ps(sum + i * W + j), r), g = up16(gy + i * W + j);
                _mm512_storeu_ps(mine + j, _mm512_fmadd_ps(hat, g, _mm512_loadu_ps(mine + j)));
                dot = _mm512_fmadd_ps(_mm512_mul_ps(g, _mm512_loadu_ps(w + j)), hat, dot);
            }
            const zf mean = _mm512_set1_ps(_mm512_reduce_add_ps(dot) / W);
            for (long j = 0; j < W; j += 16) {
                zf hat = _mm512_mul_ps(_mm512_loadu_ps(sum + i * W + j), r);
                zf g = _mm512_mul_ps(up16(gy + i * W + j), _mm512_loadu_ps(w + j));
                zf v = _mm512_mul_ps(r, _mm512_fnmadd_ps(hat, mean, g));
                if (gsum) v = _mm512_add_ps(v, _mm512_loadu_ps(gsum + i * W + j));
                _mm512_storeu_ps(gx + i * W + j, v);
                if (gdelta) store16(gdelta + i * W + j, v);
            }
        }
    }
    for (long j = 0; j < W; j++) {
        gw[j] = 0;
        for (int t = 0; t < T; t++) gw[j] += part[t * W + j];
    }
}

static inline zf sigmoid(zf x) {
    return _mm512_div_ps(_mm512_set1_ps(1.f), _mm512_add_ps(_mm512_set1_ps(1.f), exp2v(_mm512_min_ps(_mm512_set1_ps(126.f), _mm512_mul_ps(x, _mm512_set1_ps(-LOG2E))))));
}
extern "C" void swiglu_forward(const bf16* gu, long N, long I, bf16* h) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < N; i++)
        for (long j = 0; j < I; j += 16) {
            zf g = up16(gu + i * 2 * I + j);
            store16(h + i * I + j, _mm512_mul_ps(_mm512_mul_ps(g, sigmoid(g)), up16(gu + i * 2 * I + I + j)));
        }
}
extern "C" void swiglu_backward(const bf16* gu, const bf16* gh, long N, long I, bf16* ggu) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < N; i++)
        for (long j = 0; j < I; j += 16) {
            zf g = up16(gu + i * 2 * I + j), u = up16(gu + i * 2 * I + I + j), d = up16(gh + i * I + j), s = sigmoid(g), gs = _mm512_mul_ps(g, s);
            store16(ggu + i * 2 * I + I + j, _mm512_mul_ps(d, gs));
            // d silu = s + g s (1 - s)
            store16(ggu + i * 2 * I + j, _mm512_mul_ps(_mm512_mul_ps(d, u), _mm512_fmadd_ps(gs, _mm512_sub_ps(_mm512_set1_ps(1.f), s), s)));
        }
}

// Turns logits into their own gradient in place (the memory is the cost here) and writes each row's weighted loss.
extern "C" void cross_entropy(bf16* logits, long R, long V, const int* target, const float* weight, float* loss) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < R; i++) {
        bf16* row = logits + i * V;
        zf top = _mm512_set1_ps(-1e30f), total = _mm512_setzero_ps();
        for (long j = 0; j < V; j += 16) top = _mm512_max_ps(top, up16(row + j));
        const float m = _mm512_reduce_max_ps(top) * LOG2E;
        for (long j = 0; j < V; j += 16)
            total = _mm512_add_ps(total, exp2v(_mm512_fmsub_ps(up16(row + j), _mm512_set1_ps(LOG2E), _mm512_set1_ps(m))));
        const float lse = m + std::log2(_mm512_reduce_add_ps(total)), hit = up(row[target[i]]) * LOG2E - lse;
        loss[i] = -hit / LOG2E * weight[i];
        const zf w = _mm512_set1_ps(weight[i]);
        for (long j = 0; j < V; j += 16)
            store16(row + j, _mm512_mul_ps(w, exp2v(_mm512_fmsub_ps(up16(row + j), _mm512_set1_ps(LOG2E), _mm512_set1_ps(lse)))));
        float g[16] = {(std::exp2(hit) - 1.f) * weight[i]};
        bf16 one[16];
        store16(one, _mm512_loadu_ps(g));
        row[target[i]] = one[0];
    }
}
